"""From a program to passes over the data.

A pass reads every segment once. What needs a full reduction first (a Scalar, softmax, normalize, a product) waits for a
later pass, which computes what it needs again, from the statistics on: in the caches of the processor that costs less
than to keep it. Matrices of one type share a sweep, tile by tile; a register is a place for one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...layers import by_register
from ...program import Program
from ..values import Axes, Value, values_of
from . import sums
from .columns import MODERATES
from .emit import DEVIATIONS, MAX, MEAN, MIN, SUM
from .machine import COLUMN_STATISTICS, COLUMN_SUMS, COPY_OUT, MOMENTS, ROW_SUMS, TOTAL
from .memory import Memory, Remembered
from .passes import Sweep, Targets, Total, Writer, whole
from .rules import AFFINE, COLUMNWISE, REDUCTIONS
from .together import AtOnce, Places, alike, places, together

_INSTRUCTION = {"columns": COLUMN_STATISTICS, "column_sums": COLUMN_SUMS, "row_sums": ROW_SUMS}
_LONG = 1e6
"""No sum inside a product of matrices has more terms."""
_ONE = np.ones(1)


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
    def places(self) -> dict[Total, int]:
        """The row of each total in one table of all: those of a sweep stand in a row, as it numbers them."""
        every = dict.fromkeys(total for sweeps in self.passes for sweep in sweeps for total in sweep.totals)
        every.update(dict.fromkeys((kind, of) for kind, of in self.remembered.found if isinstance(kind, int)))
        return {total: row for row, total in enumerate(every)}

    @cached_property
    def registers(self) -> Places:
        """The rows of ``final``, see `layers.by_register`."""
        return by_register({register: self.rows[i] for register, i in self.final.items()})

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

    @cached_property
    def at_once(self) -> list[list[AtOnce]]:
        """The values in ``reduced``, those of one opcode together."""
        return [[self._at_once(name, found) for name, found in reduced.items()] for reduced in self.reduced]

    def _at_once(self, name: str, found: list[int]) -> AtOnce:
        rule = REDUCTIONS[name]
        operands = [self.values[i].args for i in found]
        firsts = [args[0] for args in operands]
        rows, counted = places([self.rows[i] for i in found]), alike(self.values, firsts)
        if rule.kinds == (SUM,):
            added = together(self.values, self.by_rule, self.doubtful, self.places, firsts)
            return AtOnce(rule, rows, counted, added, [])
        kinds = [k for kind in rule.kinds for k in ((kind, DEVIATIONS) if kind == MEAN else (kind,))]
        totals: list[Places | list[Total]] = []
        for kind in kinds:
            wanted = [(kind, args) for args in operands]
            known = all(total in self.places for total in wanted)  # others follow from what is known of columns
            totals.append(places([self.places[total] for total in wanted]) if known else wanted)
        return AtOnce(rule, rows, counted, None, totals)


def by_rule(v: Value, bound: float) -> bool:
    """Whether the sum of a value follows from other sums."""
    return v.name in sums.UNGUARDED or v.name == sums.PRODUCT or (v.name in sums.SUMS and np.isfinite(bound))


def plan(program: Program, bounds: list[float], memory: Memory | None = None) -> Plan:
    """The passes of a verified program. ``bounds``: the largest absolute value of an element of each statistic.
    ``memory``: what need not be computed."""
    values, final = values_of(program, Value)
    return _Planner(values, bounds, (memory or Memory(0)).of(program, values)).plan(final)


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
                writer = Writer(self._values, rows, sweep, self._targets[level, axes])
                passes[level].append(sweep)
                writer.write()
                self._make(writer.lying, made)
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
            return max(level, self._asked)  # the totals may be remembered
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
