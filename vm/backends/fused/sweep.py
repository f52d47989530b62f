"""One sweep over the Matrices of one type: what it reads and leaves, and its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....grammar.types import Kind
from ..order import needed, scheduled
from ..values import Axes
from .table import AFFINE, COLUMNWISE, FINISHING, OPERATIONS, POINTERS, SCALAR_A, SCALAR_B, SHARED, TILE
from .values import Value, in_tiles

Ints = NDArray[np.int32]
Target = tuple[str, tuple[int, ...]]
"""What a sweep leaves of Matrices: a total, ``COLUMN``, or ``STORE``."""
Input = tuple[str, int]
"""What a sweep reads: ``load`` and a statistic, ``whole`` or ``columns`` and a value."""
ROOM = SHARED // 8 // TILE
"""Tiles that fit into a block's shared memory."""


@dataclass(frozen=True)
class Job:
    """``targets``, all in one sweep; and what follows from them, unless they are kept as they are: a Scalar's row."""

    targets: tuple[Target, ...]
    finish: str = ""
    row: int = 0


@dataclass(frozen=True, eq=False)
class Sweep:
    """One launch. ``code`` ``[N, 4]``: operation, destination, two operands. ``kinds``: of the totals. ``entries``
    ``[E, 5]``: how, of which totals, into which row a Scalar follows. ``columns``: the Matrices whose columns are
    looked at, by columns then. ``inputs``, ``outputs``: by number, as the code has them."""

    axes: Axes
    code: Ints
    registers: int
    kinds: Ints
    entries: Ints
    columns: tuple[int, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]


class Writer:
    """The code of one sweep: each value once, what is asked of it right behind it, registers by liveness."""

    def __init__(self, values: list[Value], rows: dict[int, int], jobs: Sequence[Job]) -> None:
        self._values = values
        self._rows = rows
        self._jobs = jobs
        self._inputs: dict[Input, int] = {}
        self._outputs: dict[int, int] = {}
        self._columns: dict[int, int] = {}
        self._slots: dict[Target, int] = {}
        self._kinds: list[int] = []
        self._register: dict[int, int] = {}
        self._free: list[int] = []
        self._registers = 0
        self._code: list[tuple[int, int, int, int]] = []

    def sweep(self, axes: Axes) -> Sweep | None:
        """The sweep, or None where it is more than a block holds."""
        targets = dict.fromkeys(t for job in self._jobs for t in job.targets)
        every = needed((x for _, matrices in targets for x in matrices), self._operands)
        order = scheduled({x: self._operands(x) for x in every})
        place = {x: p for p, x in enumerate(order)}
        last = {a: x for x in order for a in self._operands(x)}
        behind: dict[int, list[Target]] = {}
        for kind, matrices in targets:
            x = max(matrices, key=place.__getitem__)
            behind.setdefault(x, []).append((kind, matrices))
            last.update((y, max(x, last.get(y, x), key=place.__getitem__)) for y in matrices)
        for x in order:
            self._compute(x)
            for kind, matrices in behind.get(x, ()):
                a, b = self._register[matrices[0]], self._register[matrices[-1]]
                self._leave((kind, matrices), a, b)
            done = dict.fromkeys((*self._operands(x), *(y for _, matrices in behind.get(x, ()) for y in matrices)))
            self._free += [self._register.pop(y) for y in done if last[y] == x]
        if self._registers + 2 * len(self._columns) + len(self._kinds) / TILE > ROOM:
            return None
        if max(len(self._inputs), len(self._outputs)) > POINTERS:
            return None
        entries = [self._entry(job) for job in self._jobs if job.finish]
        return Sweep(
            axes,
            np.array(self._code, np.int32),
            self._registers,
            np.array(self._kinds, np.int32),
            np.array(entries, np.int32).reshape(-1, 5),
            tuple(self._columns),
            tuple(self._inputs),
            tuple(self._outputs),
        )

    def _entry(self, job: Job) -> tuple[int, ...]:
        slots = [self._slots[t] for t in job.targets] + [-1, -1]
        return FINISHING[job.finish], *slots[:3], job.row

    def _operands(self, x: int) -> tuple[int, ...]:
        """The Matrices that a tile of the value is computed from."""
        return self._values[x].matrices if in_tiles(self._values[x]) else ()

    def _compute(self, x: int) -> None:
        v = self._values[x]
        if self._free:
            d = self._free.pop()
        else:
            d = self._registers
            self._registers += 1
        self._register[x] = d
        if not in_tiles(v):
            source = ("load", v.index) if v.op is None else ("whole", x)
            self._write("LOAD", d, self._input(source), 0)
            return
        a = self._register[v.matrices[0]]
        if v.name in AFFINE:
            self._write("SCALE", d, a, self._rows[x])
        elif v.name in COLUMNWISE:
            self._write(COLUMNWISE[v.name], d, a, self._input(("columns", v.args[0])))
        else:
            kinds = [k is Kind.MATRIX for k in v.kinds]
            places = [self._register[y] if m else self._rows[y] for y, m in zip(v.args, kinds, strict=True)]
            flags = sum(flag for flag, m in zip((SCALAR_A, SCALAR_B), kinds, strict=False) if not m)
            self._write(v.name, d, places[0], places[-1], flags)

    def _leave(self, target: Target, a: int, b: int) -> None:
        kind, matrices = target
        if kind == "STORE":
            self._write("STORE", 0, a, self._outputs.setdefault(matrices[0], len(self._outputs)))
        elif kind == "COLUMN":
            self._write("COLUMN", self._columns.setdefault(matrices[0], len(self._columns)), a, 0)
        else:
            self._slots[target] = len(self._kinds)
            self._write(kind, len(self._kinds), a, b)
            self._kinds += [OPERATIONS[kind]] * (1 + (kind == "MOMENTS"))

    def _input(self, source: Input) -> int:
        return self._inputs.setdefault(source, len(self._inputs))

    def _write(self, operation: str, d: int, a: int, b: int, flags: int = 0) -> None:
        self._code.append((OPERATIONS[operation] + flags, d, a, b))
