"""The recipe of a cache, and its manifest: what was collected, with which libraries, the ranges and the checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from ..grammar.errors import nearest
from .source import CacheError, SegmentFacts, StatFacts
from .spaces import space as shipped_space
from .spaces.base import Size, Space, SpaceError

SCHEMA = 2
"""Part of every key. Raised when the format changes, or what a recipe means: a space's networks, noise, a statistic."""

MANIFEST = "manifest.json"
NETWORKS = "networks"
"""The folder of the networks' files."""
INPUTS = ("noise",)


def find_space(name: str) -> Space:
    """A shipped space by name, or one's own as ``module:Class``. Raises SpaceError when there is none."""
    if ":" not in name:
        return shipped_space(name)
    module, _, kind = name.partition(":")
    try:
        found = getattr(import_module(module), kind)()
    except (ImportError, AttributeError) as error:
        raise SpaceError(f"the space {name[:200]!r} cannot be loaded: {error}") from error
    if not isinstance(found, Space):
        raise SpaceError(f"{name[:200]!r} is no space: expected a subclass of proxforge.stats_cache.spaces.base.Space")
    return found


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the tensors are, and nothing else: equal recipes have equal caches.

    ``space``: name of a shipped space, or ``module:Class``. ``archs``: the networks' genes, in order. ``classes``: of
    the head. ``seed``: of the initialisation. ``batch``: images. ``input``: ``noise`` (standard normal pixels and
    uniform labels, from ``input_seed``). Raises CacheError for a value out of range.
    """

    space: str
    archs: tuple[dict[str, Any], ...]
    classes: int
    seed: int = 0
    batch: int = 2
    input: str = "noise"
    input_seed: int = 0

    def __post_init__(self) -> None:
        try:  # plain JSON values, and a copy that nobody else can change
            archs = tuple(json.loads(json.dumps([dict(arch) for arch in self.archs], allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise CacheError(f"the architectures of a recipe must be plain JSON values: {error}") from error
        object.__setattr__(self, "archs", archs)
        if not archs:
            raise CacheError("a recipe needs at least one architecture")
        for name, least in (("classes", 1), ("seed", 0), ("batch", 1), ("input_seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value < 2**63:
                raise CacheError(f"{name} of a recipe is {value!r}; expected a whole number from {least}")
        if self.input not in INPUTS:
            raise CacheError(
                f"input of a recipe is {self.input!r}{nearest(str(self.input), INPUTS)} (known: {', '.join(INPUTS)})"
            )

    def normal(self) -> Recipe:
        """The recipe with every architecture in the normal form of its space. Raises SpaceError (space or gene)."""
        family = find_space(self.space)
        return replace(self, archs=tuple(family.check(arch) for arch in self.archs))

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "archs": list(self.archs)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Recipe:
        """The reverse of ``to_json``. Raises CacheError for an unknown or a missing field."""
        names = [field.name for field in fields(Recipe)]
        for name in values:
            if name not in names:
                raise CacheError(f"unknown field {name!r} in a recipe{nearest(name, names)}")
        try:
            return Recipe(**{**values, "archs": tuple(values["archs"])})
        except (KeyError, TypeError) as error:
            raise CacheError(f"not a recipe: {error}") from error

    @cached_property
    def key(self) -> str:
        """20 hex digits: BLAKE2b of the schema and the recipe. What was collected so far is not part of it."""
        text = canonical({"schema": SCHEMA, "recipe": self.to_json()})
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True)
class Described:
    """One statistic of one network: the facts of its segments, layer by layer."""

    segments: tuple[SegmentFacts, ...]

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, cols) of the segments."""
        return tuple((s.rows, s.cols) for s in self.segments)

    @cached_property
    def facts(self) -> StatFacts:
        """Range, zeros and non-finite elements of all segments."""
        return StatFacts.joined(s.range for s in self.segments)

    def to_json(self) -> list[Any]:
        """The segments' facts."""
        return [s.to_json() for s in self.segments]

    @staticmethod
    def from_json(values: Sequence[Any]) -> Described:
        """The reverse of ``to_json``."""
        return Described(tuple(map(SegmentFacts.from_json, values)))


@dataclass(frozen=True)
class Stored:
    """One network's file: its size, the SHA-256 of all its bytes, and its statistics."""

    bytes: int
    sha256: str
    statistics: Mapping[str, Described]

    def to_json(self) -> dict[str, Any]:
        """``bytes``, ``sha256``, ``statistics``."""
        statistics = {name: described.to_json() for name, described in sorted(self.statistics.items())}
        return {"bytes": self.bytes, "sha256": self.sha256, "statistics": statistics}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Stored:
        """The reverse of ``to_json``."""
        statistics = {name: Described.from_json(described) for name, described in values["statistics"].items()}
        return Stored(values["bytes"], values["sha256"], statistics)


@dataclass(frozen=True)
class Manifest:
    """``sizes`` of all networks; ``stored``: their files, None where a network is not collected yet."""

    key: str
    recipe: Recipe
    versions: Mapping[str, str]
    sizes: tuple[Size, ...]
    stored: tuple[Stored | None, ...]

    def to_text(self) -> str:
        """The file's text: the checksum of the rest on a line of its own, then the fields, a network a line."""
        head = {"schema": SCHEMA, "key": self.key, "recipe": self.recipe.to_json(), "versions": dict(self.versions)}
        networks = [
            {"file": network_file(i), "layers": size.depth, "size": asdict(size)} | (stored.to_json() if stored else {})
            for i, (size, stored) in enumerate(zip(self.sizes, self.stored, strict=True))
        ]
        lines = [f'"{name}":{canonical(value)},' for name, value in head.items()]
        body = "\n".join([*lines, '"networks":[', ",\n".join(map(canonical, networks)), "]}", ""])
        return f'{{"checksum":"{_sha256(body)}",\n{body}'

    def write(self, directory: Path) -> None:
        """Replace the manifest in the directory, in one step that is on the disk when this returns."""
        temporary = directory / f"{MANIFEST}.{os.getpid()}.tmp"
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(self.to_text())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(directory / MANIFEST)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CacheError(f"cannot write {directory / MANIFEST}: {error.strerror}") from error

    @staticmethod
    def read(directory: Path) -> Manifest:
        """The manifest of a directory. Raises CacheError when it is missing, damaged or of another schema."""
        path = directory / MANIFEST
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError as error:
            raise CacheError(f"{directory} is not a cache: it has no {MANIFEST}. Collect it first") from error
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(path, str(error)) from error
        first, _, body = text.partition("\n")
        if first != f'{{"checksum":"{_sha256(body)}",':
            raise _damaged(path, "its checksum does not fit its content")
        values = json.loads(text)
        if values["schema"] != SCHEMA:
            raise CacheError(f"{path} has schema {values['schema']}; this version reads schema {SCHEMA}. Collect again")
        return Manifest(
            key=values["key"],
            recipe=Recipe.from_json(values["recipe"]),
            versions=values["versions"],
            sizes=tuple(Size(**network["size"]) for network in values["networks"]),
            stored=tuple(Stored.from_json(n) if "sha256" in n else None for n in values["networks"]),
        )


def network_file(index: int) -> str:
    """The path of a network's file inside the cache."""
    return f"{NETWORKS}/{index:04d}.safetensors"


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(
        f"{path} is damaged: {what}. Delete this file and collect again: the networks' files carry their own checksums "
        "and are kept"
    )
