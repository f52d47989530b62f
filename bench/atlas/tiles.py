"""The rows of the tall matrix, tile by tile, and what has to be known of whole columns before.

Each element takes part in a hundred functions, so the ones that follow from each other are computed together:
``sigmoid`` and ``softmax`` from ``exp``, where no exponential leaves the range of numbers, and what cannot leave
float32's range is not looked at for that. All else is computed as `grammar.reference` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.ops import OPS
from ...grammar.reference import EPS, FLOAT32_TINY, in_range
from .rows import AFFINE, COLUMNWISE, Key, Known, affine

Array = NDArray[np.float64]

TILE = 1 << 15
"""Elements of a tile, in whole rows."""
NARROW = 80.0
"""exp of what is not larger is in float32's range."""
SQUARED = FLOAT32_TINY**0.5
"""What is smaller has a square below float32's range."""
SMALL = 1e-20
"""A statistic whose elements differ by less is looked at in every step."""


@dataclass(frozen=True)
class Columns:
    """Of every column of a matrix the ``largest`` element, and the ``total`` of exp(element - largest)."""

    largest: Array
    total: Array

    def log(self, less: float) -> Array:
        """log(sum(exp(element - less)))."""
        return np.asarray(self.largest - less + np.log(self.total))


@dataclass(frozen=True)
class Task:
    """An inner op; its outer ops, the row of each, and what is taken from every element there."""

    inner: str
    outer: tuple[tuple[str, int, float], ...]


def result(segment: NDArray[np.float32], ops: Iterable[str]) -> NDArray[np.floating[Any]]:
    """Maps on a whole matrix, as the reference has them."""
    found: NDArray[np.floating[Any]] = segment
    with np.errstate(all="ignore"):
        for op in ops:
            if op != "identity":
                found = in_range(np.asarray(OPS[op].reference(in_range(found.astype(np.float64)))))
    return found


class Side:
    """One statistic in one layer, or the result of ops on it. ``known``: by inner op, for ``segment`` ``[r, c]``."""

    def __init__(self, segment: NDArray[np.floating[Any]], known: Mapping[str, Known]) -> None:
        self.segment, self.known = segment, known
        self.columns: dict[str, Columns] = {}
        own = known["identity"]
        self._plain = own.within(NARROW) and own.high - own.low > SMALL
        self.tiny = False

    def tiles(self, step: int) -> Iterable[Array]:
        """The elements, so many rows at once."""
        for start in range(0, len(self.segment), step):
            yield in_range(self.segment[start : start + step].astype(np.float64))

    def look(self, inner: Iterable[str], step: int) -> None:
        """Finds ``columns`` of the inner ops, and whether there are elements whose squares are below range."""
        wanted = sorted(inner, key=lambda op: op != "identity")
        found = {op: (np.full(self.segment.shape[1], -np.inf), np.zeros(self.segment.shape[1])) for op in wanted}
        after = [op for op in wanted if op in COLUMNWISE]
        with np.errstate(all="ignore"):
            for x in self.tiles(step):
                size = np.abs(x)
                self.tiny |= bool(((size < SQUARED) & (size > 0)).any())
            for ops in ([op for op in wanted if op not in after], after):
                for x in self.tiles(step) if ops else ():
                    tile = Tile(self, x)
                    for op in ops:
                        largest, total = found[op]
                        y = tile.inner(op)
                        if self.known[op].within(NARROW):
                            largest[:] = 0.0
                            total += tile.exp(op, y).sum(axis=0)
                        else:
                            now = np.maximum(largest, y.max(axis=0))
                            total *= np.exp(largest - now)
                            total += np.exp(y - now).sum(axis=0)
                            largest[:] = now
                for op in ops:
                    self.columns[op] = Columns(*found[op])

    def fill(self, tall: Array, x: Array, plan: Iterable[Task]) -> None:
        """Writes the rows of ``plan`` for a tile ``[r, c]`` into ``tall`` ``[rows, r c]``."""
        tile = Tile(self, x)
        with np.errstate(all="ignore"):
            for task in plan:
                y = tile.inner(task.inner)
                for op, row, centre in task.outer:
                    out = tall[row].reshape(x.shape)
                    if op == "identity":
                        np.subtract(y, centre, out=out)
                    else:
                        tile.outer(task.inner, op, y, out)


class Tile:
    """Functions of a tile ``x`` ``[r, c]`` of a `Side`."""

    def __init__(self, side: Side, x: Array) -> None:
        self._side, self._x = side, x
        self._exp: tuple[str, Array] | None = None  # of the last inner op
        self._exp_of_x: Array | None = None

    def inner(self, op: str) -> Array:
        """The result of an inner op, in float32's range."""
        if op == "identity":
            return self._x
        found = np.empty_like(self._x)
        if op in AFFINE and self._side._plain:
            scale, _ = affine(op, self._side.known["identity"])
            if op == "neg":
                return -self._x
            least = self._side.known["identity"].mean if op == "normalize" else self._side.known["identity"].low
            np.subtract(self._x, least, out=found)
            found *= scale
        elif self._side._plain:
            self.outer("identity", op, self._x, found)
        else:
            found = in_range(_plainly(op, self._x, self._side.known["identity"], self._side.columns.get("identity")))
        return found

    def exp(self, inner: str, y: Array) -> Array:
        """exp of an inner op's result, which is narrow; kept for the ops that need it."""
        if inner == "identity":
            if self._exp_of_x is None:
                self._exp_of_x = np.exp(y)
            return self._exp_of_x
        if self._exp is None or self._exp[0] != inner:
            self._exp = inner, np.exp(y)
        return self._exp[1]

    def outer(self, inner: str, op: str, y: Array, out: Array) -> None:
        """An op on the result ``y`` of an inner op."""
        known = self._side.known[inner]
        if op in ("exp", "sigmoid", "softmax") and known.within(NARROW):
            self._exponential(inner, op, y, out)
        elif op == "log":
            np.add(y, EPS, out=out)
            np.log(out, out=out)
        elif op == "abslog":
            np.abs(y, out=out)
            np.log(out, out=out)
            if known.low <= 0.0 <= known.high:
                out[np.isneginf(out)] = 0.0
        elif op == "square":
            np.multiply(y, y, out=out)
            _flush(out)
        elif op == "sqrt":
            np.maximum(y, 0.0, out=out)
            np.sqrt(out, out=out)
        elif op == "inv":
            np.add(y, EPS, out=out)
            np.divide(1.0, out, out=out)
        elif op == "relu":
            np.maximum(y, 0.0, out=out)
        elif op == "abs":
            np.abs(y, out=out)
        elif op == "sign":
            np.sign(y, out=out)
        else:
            out[:] = in_range(_plainly(op, y, known, self._side.columns.get(inner)))

    def _exponential(self, inner: str, op: str, y: Array, out: Array) -> None:
        e = self.exp(inner, y)
        if op == "exp":
            out[:] = e
        elif op == "sigmoid":
            np.add(e, 1.0, out=out)
            np.divide(e, out, out=out)
        else:
            columns = self._side.columns[inner]
            np.multiply(e, np.exp(-columns.largest) / columns.total, out=out)
            _flush(out)


def _flush(out: Array) -> None:
    """Positive numbers below float32's range are 0."""
    small = out < FLOAT32_TINY
    if small.any():
        out[small] = 0.0


def _plainly(op: str, y: Array, known: Known, columns: Columns | None) -> Array:
    """An op as the reference has it. ``known``, ``columns``: of the whole operand."""
    if op in COLUMNWISE:
        assert columns is not None
        shifted = y - columns.largest
        return np.exp(shifted) / columns.total if op == "softmax" else shifted - np.log(columns.total)
    if op in ("normalize", "min_max"):
        scale = affine(op, known)[0]
        return (y - (known.mean if op == "normalize" else known.low)) * scale if scale else y * 0.0
    return np.asarray(OPS[op].reference(y))


def plan_of(rows: Mapping[Key, int], centres: Mapping[Key, float]) -> tuple[Task, ...]:
    """The rows by their inner op."""
    inner = dict.fromkeys(op for op, _ in rows)
    return tuple(
        Task(op, tuple((outer, row, centres.get((a, outer), 0.0)) for (a, outer), row in rows.items() if a == op))
        for op in inner
    )
