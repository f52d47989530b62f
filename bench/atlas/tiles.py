"""The rows of the tall matrix, part by part, and what has to be known of whole columns before.

Each element takes part in a hundred functions. The machine of the cpu backend computes them tile by tile, as it does
for a population, and adds up the columns and rows while a tile is in the first cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.ops import OPS
from ...grammar.reference import FLOAT32_TINY, in_range
from ...vm.backends.cpu import machine
from ...vm.backends.cpu.columns import SHIFTED
from ...vm.backends.cpu.layout import Ints, Layout, layout
from ...vm.backends.cpu.passes import Sweep
from ...vm.backends.cpu.rules import COLUMNWISE, ELEMENTWISE
from ...vm.backends.cpu.sweep import Left, sweep_over
from ...vm.backends.cpu.threads import Threads
from .rows import Key, Known, affine

Array = NDArray[np.float64]

SQUARED = FLOAT32_TINY**0.5
"""What is smaller has a square below float32's range."""
_X, _INNER, _OUTER = range(3)
"""Registers: an element, the inner op's result, the outer op's."""


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


def result(segment: NDArray[np.floating[Any]], ops: Iterable[str]) -> NDArray[np.floating[Any]]:
    """Maps on a whole matrix, as the reference has them."""
    found = segment
    with np.errstate(all="ignore"):
        for op in ops:
            if op != "identity":
                found = in_range(np.asarray(OPS[op].reference(in_range(found.astype(np.float64)))))
    return found


class Side:
    """One statistic in one layer, or the result of ops on it. ``known``: by inner op, for ``segment`` ``[r, c]``."""

    def __init__(self, segment: NDArray[np.floating[Any]], known: Mapping[str, Known]) -> None:
        self.segment, self.known = np.ascontiguousarray(segment), known
        self.columns: dict[str, Columns] = {}

    @cached_property
    def tiny(self) -> bool:
        """Whether there are elements whose squares are below range."""
        size = np.abs(self.segment)
        return bool(((size < SQUARED) & (size >= FLOAT32_TINY)).any())

    def look(self, inner: Iterable[str], threads: Threads) -> None:
        """Finds ``columns`` of the inner ops."""
        wanted = list(inner)
        after = [op for op in wanted if f"{op}.m" in COLUMNWISE]
        for ops in ([op for op in wanted if op not in after], after):
            if ops:
                code = _Code()
                code.take(self)
                for op in ops:
                    code.look(code.inner(op))
                found = code.run(layout(*_sizes(self.segment.shape), 1), 0, {}, threads).columns
                self.columns |= {op: Columns(*found[i]) for i, op in enumerate(ops)}


class Rows:
    """Computes rows of the tall matrix. ``sides``, of one shape, and the ``plans`` of each."""

    def __init__(self, sides: Sequence[Side], plans: Sequence[Sequence[Task]], threads: Threads) -> None:
        self._threads = threads
        self._width = sides[0].segment.shape[1] if sides else 0
        self._code = _Code()
        self._layouts: dict[int, Layout] = {}
        for side, plan in zip(sides, plans, strict=True):
            self._code.take(side)
            for task in plan:
                y = self._code.inner(task.inner)
                for op, row, centre in task.outer:
                    self._code.row(row, self._code.outer(task.inner, op, y, centre))

    def fill(self, tall: Array, start: int, stop: int) -> tuple[Array, Array]:
        """Writes a part of all sides, the rows from ``start`` to ``stop`` of their matrices, into ``tall``, each row of
        which has room for as many elements. Returns the sums of the part's columns ``[rows, c]`` and of its rows
        ``[rows, stop - start]``."""
        size = stop - start
        if size not in self._layouts:
            self._layouts[size] = layout(*_sizes((size, self._width)), 1)
        places = {row: tall[row].ctypes.data for row in self._code.rows}
        left = self._code.run(self._layouts[size], start, places, self._threads)
        columns, rows = np.empty((len(tall), self._width)), np.empty((len(tall), size))
        for row in self._code.rows:
            columns[row], rows[row] = left.column_sums[row], left.row_sums[row]
        return columns, rows


class _Code:
    """Writes the code of a sweep over some sides, see `machine`. ``rows``: what is written to memory."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._lines: list[tuple[int, ...]] = []
        self._memory: list[NDArray[Any] | int] = []  # matrices that are read, rows that are written
        self._scalars = [0.0]
        self._factors: list[tuple[str, Columns]] = []
        self._looked = 0

    def take(self, side: Side) -> None:
        """What follows is of this side."""
        self._side = side
        self._read(side.segment, _X)

    def inner(self, op: str) -> int:
        """The register with the result of an inner op."""
        return self._step(("identity",), op, _X, _INNER)

    def outer(self, inner: str, op: str, y: int, centre: float) -> int:
        """The register with the result of an outer op on that of an inner one, in register ``y``, less a number."""
        found = self._step(("identity", inner), op, y, _OUTER)
        if centre == 0.0:
            return found
        self._lines.append((machine.STEP, ELEMENTWISE["sub.ms"], _OUTER, found, found, self._scalar(centre), 0))
        return _OUTER

    def look(self, register: int) -> None:
        """Asks for the statistics of its columns."""
        self._lines.append((machine.COLUMN_STATISTICS, SHIFTED, 0, register, register, self._looked, 0))
        self._looked += 1

    def row(self, row: int, register: int) -> None:
        """Asks for its elements, and the sums of its columns and rows."""
        self._lines += [
            (machine.COPY_OUT, 0, 0, register, register, len(self._memory), 0),
            (machine.COLUMN_SUMS, 0, 0, register, register, len(self.rows), 0),
            (machine.ROW_SUMS, 0, 0, register, register, len(self.rows), 0),
        ]
        self._memory.append(row)
        self.rows.append(row)

    def run(self, where: Layout, start: int, places: Mapping[int, int], threads: Threads) -> Left:
        """Runs it over a part that begins with row ``start``. ``places``: the address of each row to write."""
        addresses = [places[m] if isinstance(m, int) else m[start:].ctypes.data for m in self._memory]
        columns = {i: (found.largest, found.total) for i, (_, found) in enumerate(self._factors)}
        scalars, totals = np.array(self._scalars)[:, None], np.empty((0, 1))
        at = np.array(addresses, np.int64)[:, None]
        with np.errstate(all="ignore"):
            return sweep_over(self._sweep, where, at, scalars, totals, columns, np.float64, threads)

    @cached_property
    def _sweep(self) -> Sweep:
        """What was written."""
        rows = {row: i for i, row in enumerate(self.rows)}
        return Sweep(
            ("", ""), 1 + _OUTER, machine.coded(self._lines),
            columns={i: i for i in range(self._looked)},
            factors={(name, i): i for i, (name, _) in enumerate(self._factors)},
            column_sums=rows, row_sums=rows,
        )  # fmt: skip

    def _step(self, before: tuple[str, ...], op: str, a: int, d: int) -> int:
        """The register with the result of an op on register ``a``, which holds that of the ops ``before``."""
        name, known = f"{op}.m", self._side.known.get(before[-1])
        if op == "identity":
            return a
        if name in COLUMNWISE:
            self._lines.append((machine.COLUMN_STEP, COLUMNWISE[name][0], d, a, a, len(self._factors), 0))
            self._factors.append((name, self._side.columns[before[-1]]))
        elif op in ("normalize", "min_max"):
            assert known is not None
            less = self._scalar(known.mean if op == "normalize" else known.low)
            self._lines.append((machine.STEP, ELEMENTWISE[name], d, a, a, less, self._scalar(affine(op, known)[0])))
        elif name in ELEMENTWISE:
            self._lines.append((machine.STEP, ELEMENTWISE[name], d, a, a, 0, 0))
        else:
            self._read(np.ascontiguousarray(result(self._side.segment, (*before, op)), np.float64), d)
        return d

    def _read(self, matrix: NDArray[Any], d: int) -> None:
        kind = machine.TAKE if matrix.dtype == np.float32 else machine.COPY_IN
        self._lines.append((kind, machine.NOW, d, 0, 0, len(self._memory), 0))
        self._memory.append(matrix)

    def _scalar(self, value: float) -> int:
        self._scalars.append(value)
        return len(self._scalars) - 1


def _sizes(shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    """A layer's rows and columns, as `layout` wants them."""
    rows, columns = shape
    return np.array([rows], np.int64), np.array([columns], np.int64)


def plan_of(rows: Mapping[Key, int], centres: Mapping[Key, float]) -> tuple[Task, ...]:
    """The rows by their inner op."""
    inner = dict.fromkeys(op for op, _ in rows)
    return tuple(
        Task(op, tuple((outer, row, centres.get((a, outer), 0.0)) for (a, outer), row in rows.items() if a == op))
        for op in inner
    )
