"""Reads an atlas: maps its files and looks programs up, without loading it whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError
from ...grammar.expr import Node
from ...grammar.ops import OPS
from ...grammar.text import text
from ...search.spaces import make_space
from ...search.spaces.tree import TreeSpace
from .branches import Branches
from .files import FORMAT, checksum, load
from .patterns import LAYERS, join_of, layered
from .ranks import OK
from .task import PARTS

Array = NDArray[np.float64]
CHUNK = 1 << 20
"""Joins that are looked at together."""


@dataclass(frozen=True)
class Found:
    """A program of an atlas. ``layers``: index of `LAYERS`, ``join``: its row, ``sign``: 1 or -1."""

    layers: int
    join: int
    sign: int


class Atlas:
    """The atlas in a folder. ProxforgeError ``atlas`` where there is none, or one of another format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        place = folder / "manifest.json"
        try:
            self.manifest: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = "; its build is not finished: run it again" if (folder / "work").exists() else ""
            raise ProxforgeError("atlas", f"{folder} holds no atlas ({error}){hint}") from None
        if self.manifest.get("format") != FORMAT:
            raise ProxforgeError("atlas", f"{folder} has the format {self.manifest.get('format')}, expected {FORMAT}")
        self.targets: tuple[str, ...] = tuple(self.manifest["targets"])
        self.mask = self.manifest["masks"]
        self.pairs = np.array(self.manifest["pairs"], np.float64)
        self.joins = load(folder / "joins.npy")
        self.programs = tuple(load(folder / f"programs_{layers}.npy") for layers in LAYERS)
        self._keys = tuple(programs["key"] for programs in self.programs)
        self.status, self.agree, self.untied = (load(folder / f"{name}.npy") for name in ("status", "agree", "untied"))

    def check(self) -> None:
        """Raises ProxforgeError ``atlas`` for a file that has changed."""
        for name, wanted in self.manifest["files"].items():
            if checksum(self.folder / name) != wanted:
                raise ProxforgeError("atlas", f"{self.folder / name} is damaged; build the atlas again")

    @cached_property
    def space(self) -> TreeSpace:
        """The space of its programs."""
        options = dict(self.manifest["space"])
        space = make_space(options.pop("name"), options)
        assert isinstance(space, TreeSpace)
        return space

    @cached_property
    def branches(self) -> Branches:
        """The branches of its programs, in a pool of their own."""
        return Branches.of(self.space)

    def taus(self, rows: Any, layers: int, part: int) -> Array:
        """tau-b with each target of some joins, ``[R, targets]``; NaN where there is none."""
        agree = self.agree[rows, layers, part].astype(np.float64)
        untied = self.untied[rows, layers, part][:, self.mask].astype(np.float64) * self.pairs[part]
        valid = (self.status[rows, layers, part] == OK)[:, None] & (untied > 0)
        return np.asarray(
            np.clip(np.divide(agree, np.sqrt(untied), out=np.full(agree.shape, np.nan), where=valid), -1, 1)
        )

    def jcm(self, rows: Any, layers: int, part: int) -> Array:
        """The mean tau of some joins, ``[R]``; NaN where one is missing."""
        return np.asarray(self.taus(rows, layers, part).mean(axis=1))

    def chunks(self, layers: int) -> Iterator[NDArray[Any]]:
        """The programs with a layer reduction, in parts."""
        programs = self.programs[layers]
        for start in range(0, len(programs), CHUNK):
            yield np.asarray(programs[start : start + CHUNK])

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layer reductions that it has programs of."""
        return tuple(i for i, programs in enumerate(self.programs) if len(programs))

    def values(self, layers: int, part: int) -> NDArray[np.float32]:
        """The JCM of every program with a layer reduction, in the order of the file; NaN where it has none."""
        joins = self.joint(layers, part)
        found = np.empty(len(self.programs[layers]), np.float32)
        start = 0
        for chunk in self.chunks(layers):
            found[start : start + len(chunk)] = joins[chunk["place"] >> 1] * _sign(chunk["place"])
            start += len(chunk)
        return found

    def joint(self, layers: int, part: int) -> NDArray[np.float32]:
        """The JCM of every join, as float32."""
        found = np.empty(len(self.joins), np.float32)
        for start in range(0, len(found), CHUNK):
            found[start : start + CHUNK] = self.jcm(slice(start, start + CHUNK), layers, part)
        return found

    def find(self, node: Node) -> Found | None:
        """The program of a Score in canonical form; None where the space has no such program that compiles."""
        return self.lookup(node.digest)

    def lookup(self, digest: bytes) -> Found | None:
        """The program of a canonical hash."""
        key = np.uint64(int.from_bytes(digest[:8], "big"))
        for layers, keys in enumerate(self._keys):
            i = int(keys.searchsorted(key))
            if i < len(keys) and keys[i] == key:
                place = int(self.programs[layers]["place"][i])
                return Found(layers, place >> 1, -1 if place & 1 else 1)
        return None

    def node(self, found: Found) -> Node:
        """The Score of a program, in canonical form."""
        pool = self.branches.pool
        score = layered(pool, join_of(self.branches, self.joins[found.join].tolist()), LAYERS[found.layers])
        return score if found.sign > 0 else pool.apply(OPS["neg"], score)

    def row(self, found: Found) -> dict[str, Any]:
        """A program with its taus, as plain JSON."""
        taus = {part: self.taus([found.join], found.layers, p)[0] * found.sign for p, part in enumerate(PARTS)}
        node = self.node(found)
        return {
            "proxy": text(node),
            "hash": node.digest.hex(),
            **{f"jcm_{part}": _plain(taus[part].mean()) for part in PARTS},
            "taus": {part: dict(zip(self.targets, map(_plain, taus[part]), strict=True)) for part in PARTS},
            "shape_only": node.facts.shape_only,
        }

    def best(
        self, count: int, part: int, layers: Sequence[int], chosen: Mapping[int, NDArray[np.bool_]]
    ) -> list[Found]:
        """The programs with the largest JCM on a part; ``chosen``: for a layer reduction the joins that may be."""
        found: list[tuple[float, int, int, int]] = []
        for layer in layers:
            values = self.values(layer, part)
            places = np.asarray(self.programs[layer]["place"])
            if layer in chosen:
                values = np.where(chosen[layer][places >> 1], values, np.float32(np.nan))
            values = np.where(np.isnan(values), -np.inf, values)
            few = np.argpartition(-values, min(2 * count, len(values) - 1))[: 2 * count]
            exact = self.jcm(places[few] >> 1, layer, part) * _sign(places[few])
            for value, i, place in zip(exact.tolist(), few.tolist(), places[few].tolist(), strict=True):
                if not np.isnan(value):
                    found.append((-value, layer, i, place))
        found.sort()
        return [Found(layer, place >> 1, -1 if place & 1 else 1) for _, layer, _, place in found[:count]]


def _sign(place: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(place & 1, np.float32(-1), np.float32(1))


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
