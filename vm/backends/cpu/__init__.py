"""The cpu backend: a whole population in a few passes over the data, tile by tile, in compiled vector code.

Arithmetic is float64 in float32's range, so values and statuses are the reference's up to float64 rounding. The
largest float32 number is taken as 2^128, which differs from it by half a unit in its last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ....stats_cache.addresses import room
from ....stats_cache.source import Source
from ...layers import fact_table, finish
from ...program import Program
from .. import Array
from .group import Group
from .machine import compiled
from .memory import Arrays, Memory, What
from .plan import Plan, plan
from .segments import SHARE, Part, Segments
from .threads import Threads, available

REMEMBERED = 1 << 27
"""Bytes of totals that later programs may ask for again."""
MEMORY = 1 << 28
"""Bytes of intermediate results of the layers that are worked on together."""
LITTLE = 1 << 22
"""Bytes that nobody looks for."""
COPIES_TO_RESULTS = 2
"""Copies of segments may take so many times as much."""


class CpuBackend:
    """See `Backend`. ``threads``: all processors that this process may use, unless given. ``number``: of the tiles;
    totals are float64 always. ``remembered``: bytes of totals that are kept for later programs; 0: none are, and the
    same program runs the same passes every time."""

    name = "cpu"

    def __init__(
        self,
        source: Source,
        networks: Sequence[int],
        threads: int | None = None,
        number: type[np.floating[Any]] = np.float64,
        remembered: int = REMEMBERED,
    ) -> None:
        count = available() if threads is None else threads
        self.device = f"{count} thread{'s'[: count > 1]}, {np.dtype(number).name}"
        self._threads = Threads(count)
        self._number = number
        self._counts = [source.networks[i].layers for i in networks]
        self._facts = fact_table(source, networks)
        self._plans: WeakKeyDictionary[Program, Plan] = WeakKeyDictionary()
        self._segments = Segments(source, networks, 8 // np.dtype(number).itemsize, self._threads)
        self._memory = Memory(remembered, self._segments.totals)
        self._threads.ahead(lambda: compiled("run", number is np.float64))

    def run(self, program: Program, recalled: Sequence[Array] = (), keep: Sequence[int] = ()) -> tuple[Array, Array]:
        """See `Backend.run`."""
        bounds = self._segments.bounds(program.statistics)
        made = self._plan(program, bounds)
        total = len(self._segments.places)
        scalars = np.empty((made.height, total))
        left: dict[What, list[Arrays]] = {}
        step = self._layers_at_once(made, program)
        for start in range(0, total, step):
            stop = min(start + step, total)
            part = Part(self._segments, program.statistics, bounds, start, stop)
            group = Group(made, part, program.constants, [r[start:stop] for r in recalled], self._number, self._threads)
            group.run()
            scalars[:, start:stop] = group.scalars
            for what, arrays in group.left() if self._memory.limit else ():
                left.setdefault(what, []).append(arrays)
        for what, parts in left.items():
            made.remembered.keep(what, tuple(np.concatenate(p) for p in zip(*parts, strict=True)))
        scores = finish(program, scalars, made.registers, self._counts, self._facts, compiled("limited"))
        return scores, scalars[[made.rows[i] for i in keep]]

    @property
    def recalled(self) -> int:
        """How many totals were asked for and remembered."""
        return self._memory.recalled

    def _plan(self, program: Program, bounds: list[float]) -> Plan:
        if self._memory.limit:  # depends on what is remembered
            return plan(program, bounds, self._memory)
        if program not in self._plans:
            self._plans[program] = plan(program, bounds, self._memory)
        return self._plans[program]

    def _layers_at_once(self, made: Plan, program: Program) -> int:
        """So many that what is kept between the passes has room, and what has to be copied."""
        step = len(self._segments.places)
        if not any(made.passes):
            return step
        needed = sum(s.bytes(self._segments.layout(s.axes, 0, step)) for sweeps in made.passes for s in sweeps)
        needed += self._segments.copied(program.statistics) // COPIES_TO_RESULTS
        if needed <= LITTLE:
            return step
        memory = min(MEMORY, SHARE / COPIES_TO_RESULTS * room())
        while needed > memory and step > 1:
            step, needed = -(-step // 2), -(-needed // 2)
        return step
