"""From a program to launches of the fused kernel.

Values come in phases. A sweep of phase p reads the statistics, and what lies in memory, tile by tile; it computes again
what it needs, and leaves totals, statistics of columns, and Matrices that an op of whole segments reads (`@`, a
decomposition, a user's op). What follows from these belongs to phase p + 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...program import Program
from ..values import Axes, values_of
from .sweep import Input, Ints, Job, Sweep, Writer
from .table import AFFINE, COLUMNWISE, FINISHES, OPERATIONS, SCALARS
from .values import Value, in_tiles, reduction, whole


@dataclass(eq=False)
class Phase:
    """``steps``: instructions on Scalars ``[N, 4]`` that do not wait for each other, then values of whole segments;
    in turn. Then the ``sweeps``. ``over``: what lies in memory and is not read any more."""

    steps: list[tuple[Ints, list[int]]]
    sweeps: list[Sweep]
    over: list[Input] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Plan:
    """``rows``: Scalar value -> row of the table, of which there are ``height``; the first are the recalled ones.
    ``final``: Scalar register -> value, of those that the rest of the program reads."""

    values: list[Value]
    phases: list[Phase]
    rows: dict[int, int]
    height: int
    final: dict[int, int]


class TooLarge(Exception):
    """One formula alone needs more than a block holds."""


def plan(program: Program) -> Plan | None:
    """The launches of a verified program's layers' part; None where one formula alone does not fit."""
    try:
        return _Planner(program).plan()
    except TooLarge:
        return None


class _Planner:
    def __init__(self, program: Program) -> None:
        self._values, self._final = values_of(program, Value)
        self._rows: dict[int, int] = {}
        self._height = len(program.recalled)
        self._level: list[int] = []
        self._jobs: dict[tuple[int, Axes, bool], dict[Job, None]] = {}

    def plan(self) -> Plan:
        for i, v in enumerate(self._values):
            if v.name == "recall.s":
                self._rows[i] = v.index
            elif not v.matrix or (v.name in AFFINE and in_tiles(v)):
                self._rows[i] = self._height
                self._height += 1 + v.matrix  # an affine Matrix has two
            self._level.append(self._ready(i, v))
        phases = [Phase(self._steps(p), []) for p in range(max(self._level, default=0) + 1)]
        for (level, axes, _), jobs in self._jobs.items():
            phases[level].sweeps += self._sweeps(axes, list(jobs))
        self._release(phases)
        return Plan(self._values, phases, self._rows, self._height, self._final)

    def _ready(self, i: int, v: Value) -> int:
        """The phase in which a value is there, or can be computed in a tile; asks for what it needs before."""
        level = max((self._level[a] for a in v.args), default=0)
        if reduction(v):
            targets = tuple((kind, v.args) for kind in FINISHES[v.name][0])
            return 1 + self._ask(Job(targets, v.name, self._rows[i]))
        if in_tiles(v) and v.name in AFFINE:
            for row, finish in enumerate(AFFINE[v.name], self._rows[i]):
                self._ask(Job(tuple((kind, v.args) for kind in FINISHES[finish][0]), finish, row))
            return level + 1
        if in_tiles(v) and v.name in COLUMNWISE:
            return 1 + self._ask(Job((("COLUMN", v.args),)))
        if whole(v):
            asked = [1 + self._ask(Job((("STORE", (a,)),))) for a in v.matrices if in_tiles(self._values[a])]
            return max([level, *asked])
        return level

    def _ask(self, job: Job) -> int:
        """Takes a job into the phase in which its Matrices are first there."""
        matrices = job.targets[0][1]
        level = max(self._level[x] for x in matrices)
        key = level, self._values[matrices[0]].axes, job.targets[0][0] == "COLUMN"
        self._jobs.setdefault(key, {})[job] = None
        return level

    def _steps(self, phase: int) -> list[tuple[Ints, list[int]]]:
        """What of a phase needs no sweep, by how long it waits for others of it."""
        depth: dict[int, int] = {}
        steps: list[tuple[list[tuple[int, ...]], list[int]]] = []
        for i, v in enumerate(self._values):
            if self._level[i] != phase or v.name in ("recall.s", "load.m") or reduction(v) or in_tiles(v):
                continue
            depth[i] = 1 + max((depth.get(a, -1) for a in v.args), default=-1)
            steps += [([], []) for _ in range(depth[i] + 1 - len(steps))]
            if whole(v):
                steps[depth[i]][1].append(i)
            elif v.op is None:
                steps[depth[i]][0].append((OPERATIONS["CONSTANT"], self._rows[i], v.index, 0))
            else:
                element, places = SCALARS[v.name]
                rows = (self._rows[v.args[p]] if p < len(v.args) else 0 for p in places)
                steps[depth[i]][0].append((OPERATIONS[element], self._rows[i], *rows))
        return [(np.array(code, np.int32).reshape(-1, 4), wholes) for code, wholes in steps]

    def _sweeps(self, axes: Axes, jobs: list[Job]) -> Iterator[Sweep]:
        """The jobs in one sweep, or in two that each do half of them, and so on, as a block has little memory."""
        made = Writer(self._values, self._rows, jobs).sweep(axes)
        if made is not None:
            yield made
        elif len(jobs) == 1:
            raise TooLarge
        else:
            half = len(jobs) // 2
            yield from self._sweeps(axes, jobs[:half])
            yield from self._sweeps(axes, jobs[half:])

    def _release(self, phases: Sequence[Phase]) -> None:
        last: dict[Input, int] = {}
        for p, phase in enumerate(phases):
            last.update((("whole", a), p) for _, found in phase.steps for i in found for a in self._values[i].matrices)
            last.update((("whole", i), p) for _, found in phase.steps for i in found)
            last.update((source, p) for sweep in phase.sweeps for source in sweep.inputs)
        for source, p in last.items():
            phases[p].over.append(source)
