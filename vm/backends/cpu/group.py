"""Runs a plan on a part of the layers: sweeps over the tiles, and between them what all layers compute at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....grammar.reference import FLOAT32_MAX, in_range
from ...blas import one_blas_thread
from ..values import Axes, Value
from . import sums
from .emit import DEVIATIONS, MAX, MEAN, MIN, PAD, SUM
from .layout import Ints, Layout
from .machine import compiled
from .memory import Arrays, What
from .passes import Sweep, whole
from .plan import Plan, bound_of
from .rules import AFFINE, REDUCTIONS, SCALARS, Totals
from .segments import SMALLEST, Part
from .sweep import Left, Numbers, sweep_over
from .threads import Threads
from .together import AtOnce, Together, Unsure

Array = NDArray[np.float64]

Found = TypeVar("Found")


class Group:
    """T layers, and what is known of them so far.

    ``constants``, ``recalled`` (each ``[T]``): the program's tables. ``number``: float64 or float32, of the tiles.
    ``scalars``: float64 ``[rows of the plan, T]``.
    """

    def __init__(
        self,
        plan: Plan,
        part: Part,
        constants: Sequence[float],
        recalled: Sequence[Array],
        number: type[np.floating[Any]],
        threads: Threads,
    ) -> None:
        self._plan = plan
        self._part = part
        self._constants = constants
        self._recalled = recalled
        self._number = number
        self._threads = threads
        self.scalars = np.zeros((plan.height, part.layers))
        self._table = np.empty((len(plan.places), part.layers))
        self._columns: dict[int, tuple[Array, Array]] = {}
        self._column_sums: dict[int, Array] = {}
        self._row_sums: dict[int, Array] = {}
        self._whole: dict[int, list[Array]] = {}
        self._flat: dict[int, Numbers] = {}
        self._layouts: dict[Axes, Layout] = {}
        self._known_sums: dict[int, Array] = {}
        self._unsure: list[tuple[Unsure, Array]] = []
        self._doubts: list[tuple[int, Array]] = []
        self._careful = False
        self._known_bounds: dict[tuple[int, bool], Any] = {}
        self._left: list[Left] = []
        for what, arrays in plan.remembered.found.items():
            self._put(what, part.cut(what[0], plan.values[what[1][0]].axes, arrays))

    def run(self) -> None:
        """Computes all Scalars."""
        with np.errstate(all="ignore"):
            plan = self._plan
            for sweeps, at_once, ready in zip(plan.passes, plan.at_once, plan.ready, strict=True):
                for values in at_once:
                    self._reduce(values)
                for i in ready:
                    self._compute(i, plan.values[i])
                for sweep in sweeps:
                    self._sweep(sweep)

    def _put(self, what: What, arrays: Arrays) -> None:
        """Takes in what was remembered."""
        table, matrices = what
        if table == "columns":
            self._columns[matrices[0]] = arrays[0], arrays[1]
        elif table == "column_sums":
            (self._column_sums[matrices[0]],) = arrays
        elif table == "row_sums":
            (self._row_sums[matrices[0]],) = arrays
        else:
            assert isinstance(table, int)
            (self._table[self._plan.places[table, matrices]],) = arrays

    def left(self) -> Iterator[tuple[What, Arrays]]:
        """What the sweeps left behind."""
        for left in self._left:
            yield from left.items()

    def _reduce(self, values: AtOnce) -> None:
        added = values.added
        if added is not None:
            found = [self._sure(lambda: self._sums(added))]
        else:
            found = [
                _stacked(self.total(kind, *of) for kind, of in totals)
                if isinstance(totals, list)
                else self._table[totals]
                for totals in values.totals
            ]
        compiled("limited")(values.rule.value(*found, self._counts(values.counted)), values.rows, self.scalars)

    def _sums(self, added: Together) -> Array:
        """The sums that are wanted, ``[W, T]``."""
        if self._careful:
            return _stacked(self.sum(x, x) for x in (added.values[row] for row in added.wanted))
        table = np.empty((len(added.values), self._part.layers))
        start = len(added.totals)
        table[:start] = self._table[added.totals]
        for row, x in enumerate(added.single, start):
            table[row] = self.sum(x, x)
        compiled("added_up")(added.steps, table)
        self._unsure.append((added.unsure, table))
        return np.asarray(table[added.wanted])

    def _compute(self, i: int, v: Value) -> None:
        """Another value that is no tile, once its pass is over."""
        row = self._plan.rows.get(i, 0)
        if v.name in AFFINE:
            for k, totals in enumerate(AFFINE[v.name]):
                self.scalars[row + k] = self._from_totals(totals, v)
        elif v.name == "const.s":
            self.scalars[row] = self._constants[v.index]
        elif v.name == "recall.s":
            self.scalars[row] = self._recalled[v.index]
        elif v.name in REDUCTIONS:
            self.scalars[row] = in_range(self._sure(lambda: self._from_totals(REDUCTIONS[v.name], v)))
        elif whole(v):
            self._from_segments(i, v)
        else:
            assert v.opcode.op is not None
            compute = SCALARS.get(v.name, v.opcode.op.each)
            self.scalars[row] = in_range(np.asarray(compute(*map(self.scalar, v.args)), np.float64))

    def _from_totals(self, totals: Totals, v: Value) -> Array:
        """A value from totals of its operands, ``[T]``."""
        found = []
        for kind in totals.kinds:
            found.append(self.sum(v.args[0], v.args[0]) if kind == SUM else self.total(kind, *v.args))
            if kind == MEAN:
                found.append(self.total(DEVIATIONS, *v.args))
        return totals.value(*found, self.count(v.args[0]))

    # What the rules of `sums` ask for

    def sum(self, x: int, within: int) -> Array:
        """See `sums.Known`."""
        found = self._known_sums.get(x)
        if found is None:
            v = self._plan.values[x]
            if not v.matrix:
                return self.scalar(x) * self.count(within)
            found = self._by_rule(x, v) if self._plan.by_rule[x] else self.total(SUM, x)
            self._known_sums[x] = found
        return found

    def _counts(self, counted: Sequence[int]) -> Array:
        """The elements of each, ``[M, T]``, or ``[1, T]`` where they are of one type, see `together.alike`."""
        return _stacked(self.count(x) for x in counted)

    def _by_rule(self, x: int, v: Value) -> Array:
        """Σ x from other sums."""
        total = sums.SUMS[v.name](self, x, v)
        if v.name not in sums.UNGUARDED and any(self._plan.doubtful[x]):
            if self._careful:
                return self._mended(x, total)
            self._doubts.append((x, total))
        return total

    def _sure(self, compute: Callable[[], Found]) -> Found:
        """What is computed from sums by rule: these are believed first, looked at together, and where an element may be
        out of range computed again with care."""
        self._unsure, self._doubts = [], []
        found = compute()
        if not self._careful and self._doubted():
            self._careful = True
            self._known_sums.clear()
            found = compute()
        return found

    def _doubted(self) -> bool:
        """Whether an element of what was believed may be out of range."""
        for unsure, table in self._unsure:
            counts = self._counts(unsure.counted) if unsure.counted else table[:0]
            if compiled("small")(table, unsure.rows, counts, SMALLEST):
                return True
            if any(self._beyond(x).any() for x in unsure.growing):
                return True
        return any(self._doubtful(x, total).any() for x, total in self._doubts)

    def _beyond(self, x: int) -> Any:
        """In which layers an element may be beyond the range, bool ``[T]``."""
        bound = self._bound(x)
        return ~(bound <= FLOAT32_MAX) & ~np.isnan(bound)

    def _mended(self, x: int, total: Array) -> Array:
        """Σ x; of the layers where an element may be out of range, from the elements."""
        doubtful = np.flatnonzero(self._doubtful(x, total))
        if len(doubtful):
            total = np.array(total)
            for place in doubtful:
                total[place] = self._by_reference(x, int(place), {}).sum()
        return total

    def _doubtful(self, x: int, total: Array) -> Any:
        """In which layers an element of what is added up may be out of range, bool ``[T]``."""
        shrinks, grows = self._plan.doubtful[x]
        doubtful = _small(total, self.count(x)) if shrinks else np.zeros(len(total), np.bool_)
        if self._plan.values[x].name == sums.PRODUCT:
            doubtful |= np.isinf(total)  # an infinite factor times 0, or times numbers of both signs, is NaN
        return doubtful | self._beyond(x) if grows else doubtful

    def _bound(self, x: int, linear: bool = True) -> Any:
        """A bound of the absolute values of elements, a number or ``[T]``; of a Scalar its absolute value.

        ``linear``: whether Σ x was asked for, so that the extremes of the factors of a product are there. Where it was
        not they may be there as well, for another program; it must make no difference.
        """
        if (x, linear) not in self._known_bounds:
            v = self._plan.values[x]
            if not v.matrix:
                found = np.abs(self.scalar(x))
            elif v.name == sums.PRODUCT:
                a, b = (self._largest(y) if linear else self._bound(y, False) for y in v.args)
                found = sums.in_bounds(a * b * self._layout(v.args[0]).columns)
            else:
                below = linear and v.name in sums.LINEAR
                found = bound_of(v, [self._bound(a, below) for a in v.args], self._part.bounds)
            self._known_bounds[x, linear] = found
        return self._known_bounds[x, linear]

    def _largest(self, x: int) -> Any:
        """The largest absolute value of an element of a factor, or a bound of it."""
        if np.isfinite(self._plan.bounds[x]):
            return self._bound(x, False)
        return np.maximum(np.abs(self.total(MIN, x)), np.abs(self.total(MAX, x)))

    def scalar(self, x: int) -> Array:
        """See `sums.Known`."""
        row: Array = self.scalars[self._plan.rows[x]]
        return row

    def total(self, kind: int, *matrices: int) -> Array:
        """See `sums.Known`."""
        v = self._plan.values[matrices[0]]
        if kind == MAX and v.name in sums.LARGEST:
            largest = sums.LARGEST[v.name](self._columns[v.args[0]][1])
            return np.asarray(np.maximum.reduceat(largest, self._layout(matrices[0]).old_columns[:-1]))
        found: Array = self._table[self._plan.places[kind, matrices]]
        return found

    def affine(self, x: int) -> tuple[Array, Array]:
        """See `sums.Known`."""
        row = self._plan.rows[x]
        return self.scalars[row], self.scalars[row + 1]

    def count(self, x: int) -> Array:
        """See `sums.Known`."""
        return self._layout(x).counts

    def rows(self, x: int) -> Array:
        """See `sums.Known`."""
        return self._layout(x).rows.astype(np.float64)

    def over_columns(self, x: int, function: Callable[[Array, Array], Array]) -> Array:
        """See `sums.Known`."""
        return np.add.reduceat(function(*self._columns[x]), self._layout(x).old_columns[:-1])

    def finite(self, x: int) -> bool:
        """See `sums.Known`."""
        return self._plan.finite[x]

    def inner(self, a: int, b: int) -> Array:
        """See `sums.Known`."""
        return np.add.reduceat(self._column_sums[a] * self._row_sums[b], self._layout(a).old_columns[:-1])

    def _layout(self, matrix: int) -> Layout:
        axes = self._plan.values[matrix].axes
        if axes not in self._layouts:
            self._layouts[axes] = self._part.layout(axes)
        return self._layouts[axes]

    # Whole segments

    def _by_reference(self, i: int, place: int, known: dict[int, Array]) -> Array:
        """A Matrix of one layer by the reference functions, or a Scalar that is known."""
        v = self._plan.values[i]
        if not v.matrix:
            return np.asarray(self.scalar(i)[place])
        if i not in known:
            if v.opcode.op is None:
                value = self._part.segment(v.index, place).astype(np.float64)
            else:
                value = np.asarray(v.opcode.op.reference(*(self._by_reference(a, place, known) for a in v.args)))
            known[i] = in_range(value)
        return known[i]

    def _from_segments(self, i: int, v: Value) -> None:
        """An op by its reference function, layer by layer."""
        op = v.opcode.op
        assert op is not None
        made: list[Array] = [np.empty((0, 0))] * self._part.layers

        def one(place: int) -> None:
            operands = [
                self._matrix(a, place) if self._plan.values[a].matrix else np.asarray(self.scalar(a)[place])
                for a in v.args
            ]
            with np.errstate(all="ignore"):  # a setting of the thread
                value = in_range(np.asarray(op.reference(*operands)))
            if v.matrix:
                made[place] = np.ascontiguousarray(value, self._number)
            else:
                self.scalar(i)[place] = value

        with one_blas_thread():
            self._threads.each(one, range(self._part.layers))
        if v.matrix:
            self._whole[i] = made

    def _matrix(self, x: int, place: int) -> Array:
        """A Matrix that lies in memory."""
        if x in self._whole:
            return self._whole[x][place].astype(np.float64, copy=False)
        found = self._layout(x)
        start, stop = found.elements[place], found.elements[place + 1]
        shape = int(found.rows[place]), int(found.columns[place])
        return self._flat[x][start:stop].reshape(shape).astype(np.float64, copy=False)

    # Sweeps

    def _sweep(self, sweep: Sweep) -> None:
        where = self._part.layout(sweep.axes)
        for x in sweep.stored:
            self._flat[x] = np.empty(int(where.elements[-1]) + PAD, self._number)
        held = [None if lying else self._part.held(x) for lying, x in sweep.segments]
        addresses = np.zeros((max(1, len(held)), self._part.layers), np.int64)
        for ((_, x), row), segments in zip(sweep.segments.items(), held, strict=True):
            addresses[row] = self._addresses(x, where) if segments is None else segments.addresses
        start = 0 if not sweep.totals else self._plan.places[next(iter(sweep.totals))]
        totals = self._table[start : start + len(sweep.totals)]
        left = sweep_over(sweep, where, addresses, self.scalars, totals, self._columns, self._number, self._threads)
        self._columns.update(left.columns)
        self._column_sums.update(left.column_sums)
        self._row_sums.update(left.row_sums)
        self._left.append(left)

    def _addresses(self, x: int, where: Layout) -> Ints:
        if x in self._whole:
            return np.array([m.ctypes.data for m in self._whole[x]], np.int64)
        return self._flat[x].ctypes.data + where.elements[:-1] * self._flat[x].itemsize


def _small(total: Array, count: Array) -> Any:
    """Where a sum is so small that elements may be below the range, and is not nothing."""
    return (np.abs(total) < SMALLEST * count) & (total != 0)


def _stacked(rows: Iterable[Array]) -> Array:
    """Rows ``[T]`` as a table; `numpy.stack` takes five times as long for short ones."""
    found = list(rows)
    return np.concatenate(found).reshape(len(found), -1) if len(found) > 1 else found[0].reshape(1, -1)
