"""Ground truth of one's own: a CSV or JSON file with the networks of a space and what they reached when trained.

CSV: lines ``# key: value``, then a header and one row per network. Keys: ``space`` (a shipped one, or
``module:Class``), and optionally ``name``, ``classes``, ``batch``, ``default_targets`` (names with commas between
them). The column ``arch`` holds the genes as JSON, or, in a space with one gene, its value as plain text; instead, one
column per gene. Every other column is a target: numbers, or nothing where it was not measured. A ``.gz`` of it is read
too.

JSON: ``{"space": .., "classes": .., "networks": [{"arch": {..}, "accuracy": 71.2}, ..]}`` with the same keys; null or
a missing target is not measured.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.errors import nearest
from ...stats_cache.recipe import find_space
from ...stats_cache.spaces.base import Space, SpaceError
from ...stats_cache.spaces.genes import short
from .base import Benchmark, DataError

SUFFIXES = (".csv", ".csv.gz", ".json")
KEYS = ("space", "name", "classes", "batch", "default_targets")
BATCH = 2
"""Images per network unless the file says otherwise."""

Row = tuple[str, Any, Mapping[str, Any]]
"""Where a network stands in the file (for messages), its architecture, its targets."""


@dataclass(frozen=True)
class Described:
    """What a file says about all of its networks; None where it does not."""

    space: str | None = None
    name: str | None = None
    classes: int | None = None
    batch: int | None = None
    default_targets: tuple[str, ...] | None = None


def is_file_name(name: str) -> bool:
    """Whether a benchmark's name is that of a file."""
    return name.lower().endswith(SUFFIXES)


def load_file(path: Path | str, known: Described | None = None) -> Benchmark:
    """The benchmark in a file; see the module for the formats. ``known``: what the file need not say.

    Raises DataError naming the file and the line or the network that is wrong.
    """
    path = Path(path)
    text = _text(path)
    given, rows = _json(path, text) if path.suffix.lower() == ".json" else _csv(path, text, known or Described())
    about = _merged(path, given, known or Described())
    if about.space is None:
        raise DataError(
            f"'{path}' does not name its space; write a line '# space: pit' (CSV) or \"space\": \"pit\" (JSON)"
        )
    try:
        family = find_space(about.space)
    except SpaceError as error:
        raise DataError(f"'{path}': {error.message}") from error
    if not rows:
        raise DataError(f"'{path}' has no networks")
    names = list(dict.fromkeys(name for _, _, targets in rows for name in targets))
    if not names:
        raise DataError(f"'{path}' has no target: a column or key beside the architecture")
    archs = [_arch(path, where, family, arch) for where, arch, _ in rows]
    table = {name: np.array([_value(path, w, name, t.get(name)) for w, _, t in rows]) for name in names}
    return Benchmark(
        name=about.name or path.name,
        space=about.space,
        archs=tuple(archs),
        targets=table,
        default_targets=about.default_targets or tuple(names),
        classes=about.classes or family.classes,
        batch=about.batch or BATCH,
    )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is damaged: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not text in UTF-8: {error}") from error


def _csv(path: Path, text: str, known: Described) -> tuple[dict[str, Any], list[Row]]:
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    given: dict[str, Any] = {}
    for line in lines[:begin]:
        key, colon, value = line.strip().lstrip("#").partition(":")
        if colon:
            given[key.strip()] = value.strip()
    reader = csv.DictReader(io.StringIO("\n".join(lines[begin:])), restkey="", strict=True)
    columns = list(reader.fieldnames or ())
    if len(set(columns)) < len(columns):
        raise DataError(f"'{path}' has two columns of one name: {', '.join(columns)}")
    genes = [] if "arch" in columns else _genes(path, given.get("space", known.space), columns)
    rows: list[Row] = []
    try:
        for row in reader:
            where = f"line {begin + reader.line_num}"
            if "" in row or None in row.values():
                raise DataError(
                    f"'{path}', {where}: expected {len(columns)} values, one for each of {', '.join(columns)}"
                )
            arch = {g: _parsed(row[g]) for g in genes} if genes else row["arch"]
            rows.append((where, arch, {n: v for n, v in row.items() if n != "arch" and n not in genes}))
    except csv.Error as error:
        raise DataError(f"'{path}', after line {begin + reader.line_num}: {error}") from error
    return given, rows


def _genes(path: Path, space: str | None, columns: Sequence[str]) -> list[str]:
    """The columns that are genes, where there is no column ``arch``."""
    genes = list(find_space(space).genes()) if space else []
    found = [gene for gene in genes if gene in columns]
    if not found:
        wanted = f"'arch', or those of the genes {', '.join(genes)}" if genes else "'arch'"
        raise DataError(f"'{path}' has the columns {', '.join(columns) or 'none'}; expected one called {wanted}")
    return found


def _json(path: Path, text: str) -> tuple[dict[str, Any], list[Row]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON: {error}") from error
    networks = content.pop("networks", None) if isinstance(content, dict) else None
    if not isinstance(networks, list):
        raise DataError(
            f'\'{path}\' has no list \'networks\'; expected {{"space": .., "networks": [{{"arch": ..}}, ..]}}'
        )
    rows: list[Row] = []
    for i, network in enumerate(networks):
        if not isinstance(network, dict) or "arch" not in network:
            raise DataError(f"'{path}': network {i} is {short(network)}; expected an object with 'arch' and targets")
        rows.append((f"network {i}", network.pop("arch"), network))
    return content, rows


def _merged(path: Path, given: Mapping[str, Any], known: Described) -> Described:
    for key in given:
        if key not in KEYS:
            raise DataError(f"'{path}': unknown key {key[:80]!r}{nearest(key, KEYS)} (known: {', '.join(KEYS)})")
    found: dict[str, Any] = {key: given.get(key, getattr(known, key)) for key in KEYS}
    for key in ("classes", "batch"):
        value = _parsed(found[key]) if isinstance(found[key], str) else found[key]
        if value is not None and (type(value) is not int or value < 1):
            raise DataError(f"'{path}': {key} is {short(value)}; expected a whole number from 1")
        found[key] = value
    targets = found["default_targets"]
    if isinstance(targets, str):
        found["default_targets"] = tuple(name.strip() for name in targets.split(",") if name.strip())
    elif targets is not None:
        found["default_targets"] = tuple(targets)
    return Described(**found)


def _arch(path: Path, where: str, family: Space, given: Any) -> dict[str, Any]:
    arch = _parsed(given) if isinstance(given, str) else given
    if not isinstance(arch, Mapping):
        genes = list(family.genes())
        if len(genes) == 1:
            arch = {genes[0]: arch}
    try:
        return family.check(arch)
    except SpaceError as error:
        raise DataError(f"'{path}', {where} is not a network of {family.name}: {error.message}") from error


def _value(path: Path, where: str, name: str, given: Any) -> float:
    """A number; NaN for what was not measured."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return math.nan
    try:
        value = float(given) if isinstance(given, str) or type(given) in (int, float) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"'{path}', {where}: {name!r} is {short(given)}; expected a number, or nothing")
    return value


def _parsed(text: str) -> Any:
    """The JSON value of a text; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
