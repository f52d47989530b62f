"""One sweep over the Matrices of one type: what it reads and leaves behind, and its code."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ....grammar.types import Kind
from ..order import needed, scheduled
from ..values import Axes, Value
from .emit import MAX, MIN, SUM, SUMMED
from .layout import Layout
from .machine import COLUMN_STEP, COPY_IN, NOW, STEP, STEP_SUM, TAKE, TOTAL, coded
from .rules import AFFINE, COLUMNWISE, ELEMENTWISE, REDUCTIONS

Total = tuple[int, tuple[int, ...]]
"""A total: its kind, and the Matrices it is of."""
Targets = dict[int, list[tuple[int, int, int, int, int]]]
"""Matrix -> what is done with it beside computing on: (instruction, variant, two Matrices, index in a table)."""
Segment = tuple[bool, int]
"""(False, a statistic of the program's table), or (True, a Matrix that lies in memory as a whole)."""


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

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """The kind of each total."""
        return np.array([kind for kind, _ in self.totals], np.int64)

    @cached_property
    def first_totals(self) -> NDArray[np.float64]:
        """Each total of nothing."""
        return np.where(self.kinds == MIN, np.inf, np.where(self.kinds == MAX, -np.inf, 0.0))

    def bytes(self, where: Layout) -> int:
        """How much what it leaves behind takes, and what it reads of whole Matrices."""
        lying = sum(whole for whole, _ in self.segments)
        columns = 4 * len(self.columns) + 2 * len(self.factors) + 2 * len(self.column_sums)
        rows = 2 * len(self.row_sums)
        numbers = int(where.elements[-1]) * lying + where.new_columns * columns + where.new_rows * rows
        return 8 * (numbers + len(where.jobs) * len(self.totals))


def whole(v: Value) -> bool:
    """Whether a value is computed from whole segments, by the op's reference function."""
    tiles = v.name in ELEMENTWISE or v.name in COLUMNWISE or v.name in REDUCTIONS
    return Kind.MATRIX in v.opcode.operands and not tiles


class Writer:
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
        self._order = self._ordered()
        self.lying = [x for x in self._order if whole(values[x])]

    def write(self) -> None:
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
            if read == {x} and len(targets) == 1 and self._values[x].name in SUMMED and targets[0][:2] == (TOTAL, SUM):
                number = SUMMED.index(self._values[x].name)
                _, step, *places, _, _ = self._code[-1]
                self._code[-1] = (STEP_SUM, number, *places, targets[0][4], step)
            else:
                for instruction, variant, a, b, index in targets:
                    self._code.append((instruction, variant, 0, self._register[a], self._register[b], index, 0))
            self._free += sorted(self._register.pop(y) for y in read)
        self._sweep.code = coded(self._code)

    def _ordered(self) -> list[int]:
        """What the targets take, in the order in which it is computed."""
        pairs = {x: [y for _, _, *pair, _ in targets for y in pair] for x, targets in self._targets.items()}
        before = {x: set(self._operands(x)) for x in needed(chain(*pairs.values()), self._operands)}
        for x, read in pairs.items():
            before[x].update(y for y in read if y != x)
        return scheduled(before)

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
            self._code.append((COPY_IN if lying else TAKE, NOW, d, 0, 0, row, 0))

    def _take(self, x: int) -> int:
        if self._free:
            register = self._free.pop()
        else:
            register = self._sweep.registers
            self._sweep.registers += 1
        self._register[x] = register
        return register
