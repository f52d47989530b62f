"""The manifest of a cache: what was collected, with which libraries, the facts of its segments and the checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .recipe import SCHEMA, Recipe, canonical
from .source import CacheError, SegmentFacts, StatFacts
from .spaces.base import Size
from .tensorfile import opened

MANIFEST = "manifest.json"
NETWORKS = "networks"
"""The folder of the networks' files."""
INPUT = "input.safetensors"
"""The batch of images that was given, where one was."""


class SchemaError(CacheError):
    """A manifest that another version wrote: whole, but of another schema."""


@dataclass(frozen=True)
class Described:
    """One statistic of one network, layer by layer.

    ``plain``: the facts of its segments as JSON values (see `SegmentFacts.to_json`), which are made into objects when
    they are needed: a manifest has many.
    """

    plain: tuple[Sequence[Any], ...]

    @cached_property
    def segments(self) -> tuple[SegmentFacts, ...]:
        """The facts of the segments."""
        return tuple(map(SegmentFacts.from_json, self.plain))

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, cols) of the segments."""
        return tuple((facts[0], facts[1]) for facts in self.plain)

    @cached_property
    def facts(self) -> StatFacts:
        """Range, zeros and non-finite elements of all segments."""
        return StatFacts.joined(s.range for s in self.segments)


@dataclass(frozen=True)
class Stored:
    """One network's file: its size, its digest (see `tensorfile.Header`), and its statistics."""

    bytes: int
    sha256: str
    statistics: Mapping[str, Described]

    @cached_property
    def text(self) -> str:
        """The statistics as JSON text. Kept: a manifest is written often while it grows."""
        return canonical({name: described.plain for name, described in self.statistics.items()})

    def to_json(self) -> dict[str, Any]:
        """``bytes``, ``sha256``, ``statistics``."""
        return {"bytes": self.bytes, "sha256": self.sha256, "statistics": json.loads(self.text)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Stored:
        """The reverse of ``to_json``."""
        statistics = {name: Described(tuple(plain)) for name, plain in values["statistics"].items()}
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
            self._line({"file": network_file(i), "layers": size.depth, "size": asdict(size)}, stored)
            for i, (size, stored) in enumerate(zip(self.sizes, self.stored, strict=True))
        ]
        lines = [f'"{name}":{canonical(value)},' for name, value in head.items()]
        body = "\n".join([*lines, '"networks":[', ",\n".join(networks), "]}", ""])
        return f'{{"checksum":"{_sha256(body)}",\n{body}'

    @staticmethod
    def _line(about: dict[str, Any], stored: Stored | None) -> str:
        if stored is None:
            return canonical(about)
        about |= {"bytes": stored.bytes, "sha256": stored.sha256}
        return f'{canonical(about)[:-1]},"statistics":{stored.text}}}'

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
        if not path.exists():
            raise CacheError(f"{directory} is not a cache: it has no {MANIFEST}. Collect it first")
        try:
            with opened(path) as file:
                text = file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise _damaged(path, str(error)) from error
        first, _, body = text.partition("\n")
        if first != f'{{"checksum":"{_sha256(body)}",':
            raise _damaged(path, "its checksum does not fit its content")
        try:
            return Manifest._parsed(path, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, f"it is no manifest ({type(error).__name__}: {error})") from error

    @staticmethod
    def _parsed(path: Path, values: Mapping[str, Any]) -> Manifest:
        if values["schema"] != SCHEMA:
            raise SchemaError(
                f"{path} has schema {values['schema']}; this version reads schema {SCHEMA}. Collect again"
            )
        recipe, networks = Recipe.from_json(values["recipe"]), values["networks"]
        if values["key"] != recipe.key or len(networks) != len(recipe.archs):
            raise _damaged(path, "its key or its networks are not those of its recipe")
        return Manifest(
            key=recipe.key,
            recipe=recipe,
            versions=values["versions"],
            sizes=tuple(Size(**network["size"]) for network in networks),
            stored=tuple(Stored.from_json(n) if "sha256" in n else None for n in networks),
        )


def network_file(index: int) -> str:
    """The path of a network's file inside the cache."""
    return f"{NETWORKS}/{index:04d}.safetensors"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(
        f"{path} is damaged: {what}. Delete this file and collect again: the networks' files carry their own checksums "
        "and are kept"
    )
