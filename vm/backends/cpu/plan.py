"""From a program to passes over the data.

A pass reads every segment once. What needs a full reduction first (a Scalar, softmax, normalize, a product) waits for a
later pass, which computes what it needs again, from the statistics on: in the caches of the processor that costs less
than to keep it. Matrices of one type share a sweep, tile by tile; a register is a place for one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....grammar.types import Kind
from ...program import Program
from . import sums
from .columns import MODERATES
from .emit import DEVIATIONS, MAX, MEAN, MIN, SUM
from .layout import Layout
from .machine import (
    COLUMN_STATISTICS,
    COLUMN_STEP,
    COLUMN_SUMS,
    COPY_IN,
    COPY_OUT,
    MOMENTS,
    ROW_SUMS,
    STEP,
    TAKE,
    TOTAL,
)
from .memory import Memory, Remembered
from .rules import AFFINE, COLUMNWISE, ELEMENTWISE, REDUCTIONS
from .values import Axes, Value, values_of

Total = tuple[int, tuple[int, ...]]
"""A total: its kind, and the Matrices it is of."""
Targets = dict[int, list[tuple[int, int, int, int, int]]]
"""Matrix -> what is done with it beside computing on: (instruction, variant, two Matrices, index in a table)."""
Segment = tuple[bool, int]
"""(False, a statistic of the program's table), or (True, a Matrix that lies in memory as a whole)."""
_INSTRUCTION = {"columns": COLUMN_STATISTICS, "column_sums": COLUMN_SUMS, "row_sums": ROW_SUMS}
_LONG = 1e6
"""No sum inside a product of matrices has more terms."""
_ONE = np.ones(1)


@dataclass
class Sweep:
    """One pass over the Matrices of one type.

    ``code``: int64 ``[N, 7]``, see `machine`. ``registers``: how many tiles it needs. ``segments``: what the rows of
    the table of addresses stand for. ``totals``: the columns of the table of totals. ``columns``: Matrices whose
    columns' statistics are taken, those in the rows ``moderate`` as `columns.MODERATE`; ``factors``: (opcode, Matrix)
    of those that are used; ``column_sums``, ``row_sums``: Matrices whose columns or rows are added up. ``stored``:
    Matrices that are written to memory.
    """

    axes: Axes
    registers: int = 0
    code: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 7), np.int64))
    segments: dict[Segment, int] = field(default_factory=dict)
    totals: dict[Total, int] = field(default_factory=dict)
    columns: dict[int, int] = field(default_factory=dict)
    moderate: list[int] = field(default_factory=list)
    factors: dict[tuple[str, int], int] = field(default_factory=dict)
    column_sums: dict[int, int] = field(default_factory=dict)
    row_sums: dict[int, int] = field(default_factory=dict)
    stored: list[int] = field(default_factory=list)

    def bytes(self, where: Layout) -> int:
        """How much what it leaves behind takes, and what it reads of whole Matrices."""
        lying = sum(whole for whole, _ in self.segments)
        columns = 4 * len(self.columns) + 2 * len(self.factors) + 2 * len(self.column_sums)
        rows = 2 * len(self.row_sums)
        numbers = int(where.elements[-1]) * lying + where.new_columns * columns + where.new_rows * rows
        return 8 * (numbers + len(where.jobs) * len(self.totals))


@dataclass
class Plan:
    """``passes``: the sweeps of each pass. ``reduced``, ``ready``: before each pass the values to compute that are no
    tiles: by opcode those that need no Scalar, then the others, in order. ``rows``: value -> its row (or two)
    in the table of Scalars, of which there are ``height``. ``bounds``: of the absolute values of elements, where every
    Scalar is 1; ``certain``: whether no Scalar has a part in it; ``finite``: whether all elements are proven to be.
    ``final``: Scalar register -> value at the end of the layers' part, for those that the rest reads.
    ``remembered``: what is known before the first pass."""

    values: list[Value]
    passes: list[list[Sweep]]
    reduced: list[dict[str, list[int]]]
    ready: list[list[int]]
    rows: dict[int, int]
    height: int
    bounds: list[float]
    certain: list[bool]
    finite: list[bool]
    final: dict[int, int]
    remembered: Remembered

    @cached_property
    def by_rule(self) -> list[bool]:
        """Whether Σ of each value follows from other sums."""
        return [by_rule(v, bound) for v, bound in zip(self.values, self.bounds, strict=True)]

    @cached_property
    def doubtful(self) -> list[tuple[bool, bool]]:
        """Whether an element of each value may be below float32's range, or beyond it: its rule does not hold then."""
        return [
            (v.name in sums.SHRINKING, not (certain and np.isfinite(bound)))
            for v, bound, certain in zip(self.values, self.bounds, self.certain, strict=True)
        ]


def by_rule(v: Value, bound: float) -> bool:
    """Whether the sum of a value follows from other sums."""
    return v.name in sums.UNGUARDED or v.name == sums.PRODUCT or (v.name in sums.SUMS and np.isfinite(bound))


def whole(v: Value) -> bool:
    """Whether a value is computed from whole segments, by the op's reference function."""
    tiles = v.name in ELEMENTWISE or v.name in COLUMNWISE or v.name in REDUCTIONS
    return Kind.MATRIX in v.opcode.operands and not tiles


def plan(program: Program, bounds: list[float], memory: Memory | None = None) -> Plan:
    """The passes of a verified program. ``bounds``: the largest absolute value of an element of each statistic.
    ``memory``: what need not be computed again."""
    values, final = values_of(program)
    remembered = (memory or Memory(0)).of(program, values)
    return _Planner(values, bounds, remembered).plan(final)


def bound_of(v: Value, args: list[Any], statistics: list[float]) -> Any:
    """A bound of the elements of a Matrix from those of its operands."""
    if v.name == "load.m":
        return statistics[v.index]
    if v.name == sums.PRODUCT:
        return sums.in_bounds(args[0] * args[1] * _LONG)
    rule = sums.BOUNDS.get(v.name)
    return np.inf if rule is None else sums.in_bounds(rule(*args))


class _Planner:
    """Answers the rules of `sums` as `Known`: it notes what they ask for, and how many passes that takes."""

    def __init__(self, values: list[Value], statistics: list[float], remembered: Remembered) -> None:
        self._values = values
        self._remembered = remembered
        self._level: list[int] = []
        self._bounds: list[float] = []
        self._certain: list[bool] = []
        self._finite: list[bool] = []
        self._statistics = statistics
        self._targets: dict[tuple[int, Axes], Targets] = {}
        self._sweeps: dict[tuple[int, Axes], Sweep] = {}
        self._asked = 0  # passes that what was asked for takes
        self._scalars = False  # whether a Scalar was asked for
        self._at_once: set[int] = set()  # reductions for which none was

    def plan(self, final: dict[int, int]) -> Plan:
        rows: dict[int, int] = {}
        height = 1  # row 0 is for instructions that read no Scalar
        with np.errstate(all="ignore"):
            for i, v in enumerate(self._values):
                bound = bound_of(v, [self._bounds[a] for a in v.args], self._statistics) if v.matrix else 1.0
                self._bounds.append(float(bound))
                self._certain.append(v.matrix and all(self._certain[a] for a in v.args))
                defined = v.name != "log.m" and all(self._finite[a] for a in v.args)  # a bound says nothing of NaN
                self._finite.append(defined and self._certain[-1] and bool(np.isfinite(bound)))
                self._scalars = False
                self._level.append(self._ready(v))
                if v.name in REDUCTIONS and not self._scalars:
                    self._at_once.add(i)
                if not v.matrix or v.name in AFFINE:
                    rows[i] = height
                    height += 1 + v.matrix
        ready: list[list[int]] = [[] for _ in range(max(self._level, default=0) + 1)]
        for i in rows:
            ready[self._level[i]].append(i)
        passes: list[list[Sweep]] = [[] for _ in ready]
        made: set[int] = set()
        for level in reversed(range(len(ready))):  # the last first: it says what lies in memory before
            for axes in [a for at, a in self._sweeps if at == level]:
                sweep = self._sweeps[level, axes]
                emitter = _Emitter(self._values, rows, sweep, self._targets[level, axes])
                passes[level].append(sweep)
                emitter.emit()
                self._make(emitter.lying, made)
            self._make([i for i in ready[level] if whole(self._values[i])], made)
        for i in sorted(made - rows.keys()):
            ready[self._level[i]].append(i)
        reduced: list[dict[str, list[int]]] = [{} for _ in ready]
        for level, found in enumerate(ready):
            for i in sorted(found):
                if i in self._at_once:
                    reduced[level].setdefault(self._values[i].name, []).append(i)
        rest = [sorted(set(found) - self._at_once) for found in ready]
        return Plan(
            self._values, passes, reduced, rest, rows, height, self._bounds, self._certain, self._finite, final,
            self._remembered,
        )  # fmt: skip

    def _ready(self, v: Value) -> int:
        """How many passes must be over before the value is there, or can be computed in a tile; notes what it needs."""
        level = max((self._level[a] for a in v.args), default=0)
        if v.name in COLUMNWISE:
            return max(level, self._entry(v.args[0], "columns"))
        self._asked = 0
        if v.name in AFFINE:
            for kind in dict.fromkeys(k for totals in AFFINE[v.name] for k in totals.kinds):
                self.total(kind, *v.args)
            return self._asked
        if v.name in REDUCTIONS:
            for kind in REDUCTIONS[v.name].kinds:
                self.sum(v.args[0], v.args[0]) if kind == SUM else self.total(kind, *v.args)
            return self._asked
        if whole(v):
            return max(level, 1 + max(self._level[a] for a in v.args if self._values[a].matrix))
        return level

    def _make(self, wanted: list[int], made: set[int]) -> None:
        """Sees to it that the operands of what is computed from whole segments lie in memory before."""
        while wanted:
            i = wanted.pop()
            if i in made:
                continue
            made.add(i)
            for a in self._values[i].args:
                if self._values[a].matrix and whole(self._values[a]):
                    wanted.append(a)
                elif self._values[a].matrix:
                    sweep, targets = self._sweep(a)
                    if a not in sweep.stored:
                        sweep.stored.append(a)
                        row = sweep.segments.setdefault((True, a), len(sweep.segments))
                        targets.setdefault(a, []).append((COPY_OUT, 0, a, a, row))

    def _sweep(self, *matrices: int) -> tuple[Sweep, Targets]:
        """The sweep in which these Matrices of one type are first there."""
        level = max(self._level[x] for x in matrices)
        self._asked = max(self._asked, level + 1)
        key = level, self._values[matrices[0]].axes
        return self._sweeps.setdefault(key, Sweep(key[1])), self._targets.setdefault(key, {})

    def _entry(self, x: int, table: str) -> int:
        """Asks for an entry of a table; how many passes that takes."""
        if self._remembered.knows(table, x):
            return 0
        sweep, targets = self._sweep(x)
        entries: dict[int, int] = getattr(sweep, table)
        if x not in entries:
            entries[x] = len(entries)
            variant = int(table == "columns" and self._moderate(x))
            targets.setdefault(x, []).append((_INSTRUCTION[table], variant, x, x, entries[x]))
            if variant:
                sweep.moderate.append(entries[x])
        return self._level[x] + 1

    def _moderate(self, x: int) -> bool:
        """Whether exponentials of the elements can be added up as they are."""
        return self._certain[x] and self._bounds[x] <= MODERATES

    # What the rules of `sums` ask for

    def sum(self, x: int, within: int) -> NDArray[np.float64]:
        v = self._values[x]
        if not v.matrix:
            return self.scalar(x)
        if by_rule(v, self._bounds[x]):
            return sums.SUMS[v.name](self, x, v)
        return self.total(SUM, x)

    def scalar(self, x: int) -> NDArray[np.float64]:
        self._scalars = True
        self._asked = max(self._asked, self._level[x])
        return _ONE

    def total(self, kind: int, *matrices: int) -> NDArray[np.float64]:
        if kind == MAX and self._values[matrices[0]].name in sums.LARGEST:
            return self.over_columns(self._values[matrices[0]].args[0], np.add)
        if self._remembered.knows(kind, *matrices) and (kind != MEAN or self._remembered.knows(DEVIATIONS, *matrices)):
            return _ONE
        sweep, targets = self._sweep(*matrices)
        if (kind, matrices) not in sweep.totals:
            column = len(sweep.totals)
            sweep.totals[kind, matrices] = column
            if kind == MEAN:
                sweep.totals[DEVIATIONS, matrices] = column + 1
            instruction, variant = (MOMENTS, 0) if kind == MEAN else (TOTAL, kind)
            behind = targets.setdefault(max(matrices), [])
            behind.append((instruction, variant, matrices[0], matrices[-1], column))
        return _ONE

    def affine(self, x: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self._scalars = True
        self._asked = max(self._asked, self._level[x])
        return _ONE, _ONE

    def count(self, x: int) -> NDArray[np.float64]:
        return _ONE

    def rows(self, x: int) -> NDArray[np.float64]:
        return _ONE

    def over_columns(self, x: int, function: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
        self._asked = max(self._asked, self._entry(x, "columns"))
        return _ONE

    def finite(self, x: int) -> bool:
        return self._finite[x]

    def inner(self, a: int, b: int) -> NDArray[np.float64]:
        self._entry(a, "column_sums")
        self._entry(b, "row_sums")
        for x in (a, b):
            if not np.isfinite(self._bounds[x]):
                self.total(MIN, x)
                self.total(MAX, x)
        return _ONE


class _Emitter:
    """The code of one sweep: each value once, what is asked of it right behind it, registers by liveness.

    ``lying``: the Matrices that it reads from memory as a whole.
    """

    def __init__(self, values: list[Value], rows: dict[int, int], sweep: Sweep, targets: Targets) -> None:
        self._values = values
        self._rows = rows
        self._sweep = sweep
        self._targets = targets
        self._register: dict[int, int] = {}
        self._free: list[int] = []
        self._code: list[tuple[int, ...]] = []
        self._order = sorted(self._needed())
        self.lying = [x for x in self._order if whole(values[x])]

    def emit(self) -> None:
        """Writes the sweep's code."""
        last = {}
        for x in self._order:
            for a in self._operands(x):
                last[a] = x
            for _, _, a, b, _ in self._targets.get(x, ()):
                last[a] = last[b] = x
        for x in self._order:
            targets = self._targets.get(x, ())
            read = {y for _, _, *pair, _ in targets for y in pair if last[y] == x}
            self._compute(x, [a for a in dict.fromkeys(self._operands(x)) if last[a] == x and a not in read])
            for instruction, variant, a, b, index in targets:
                self._code.append((instruction, variant, 0, self._register[a], self._register[b], index, 0))
            self._free += sorted(self._register.pop(y) for y in read)
        self._sweep.code = np.array(self._code, np.int64)

    def _needed(self) -> set[int]:
        needed: set[int] = set()
        waiting = [a for targets in self._targets.values() for _, _, *pair, _ in targets for a in pair]
        while waiting:
            x = waiting.pop()
            if x not in needed:
                needed.add(x)
                waiting.extend(self._operands(x))
        return needed

    def _operands(self, x: int) -> tuple[int, ...]:
        """The Matrices that a tile of the value is computed from."""
        v = self._values[x]
        return () if whole(v) else tuple(a for a in v.args if self._values[a].matrix)

    def _compute(self, x: int, ending: list[int]) -> None:
        """One instruction; the registers of the operands in ``ending`` are free after it."""
        v, sweep = self._values[x], self._sweep
        a, b = ([self._register[y] for y in self._operands(x)] + [0, 0])[:2]
        if v.name in COLUMNWISE:  # may not overwrite its operand
            index = sweep.factors.setdefault((v.name, v.args[0]), len(sweep.factors))
            self._code.append((COLUMN_STEP, COLUMNWISE[v.name][0], self._take(x), a, a, index, 0))
        self._free += sorted(self._register.pop(y) for y in ending)
        if v.name in COLUMNWISE:
            return
        d = self._take(x)
        if v.name in ELEMENTWISE:
            scalar = next((self._rows[y] for y in v.args if not self._values[y].matrix), self._rows.get(x, 0))
            second = scalar + 1 if v.name in AFFINE else 0
            self._code.append((STEP, ELEMENTWISE[v.name], d, a, b, scalar, second))
        else:
            lying = whole(v)
            row = sweep.segments.setdefault((True, x) if lying else (False, v.index), len(sweep.segments))
            self._code.append((COPY_IN if lying else TAKE, 0, d, 0, 0, row, 0))

    def _take(self, x: int) -> int:
        if self._free:
            register = self._free.pop()
        else:
            register = self._sweep.registers
            self._sweep.registers += 1
        self._register[x] = register
        return register
