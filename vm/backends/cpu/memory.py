"""What need not be computed: totals that the source knows of its statistics, and what sweeps left behind, remembered
under a limit: a search asks for the same totals of the same Matrices again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...program import Program
from ..values import Value

Array = NDArray[np.float64]
What = tuple[int | str, tuple[int, ...]]
"""What is known of Matrices (values of a program): the kind of a total, or ``columns``, ``column_sums``,
``row_sums``."""
Arrays = tuple[Array, ...]
Facts = Callable[[str], Mapping[int, Array]]
"""The totals of a statistic in all layers, ``[T]``, by kind, as far as they are known without reading it."""

NAMES = 1 << 18
"""Sub-expressions that have a number; with more, all is forgotten."""


class Memory:
    """Values of all layers by sub-expression. What is forgotten is computed again, to the same digits.

    ``limit``: bytes; 0: nothing is remembered. ``facts``: they are asked always, so that no digit depends on the limit.
    ``recalled``: how many were asked for and there.
    """

    def __init__(self, limit: int, facts: Facts = lambda statistic: {}) -> None:
        self.limit = limit
        self.recalled = 0
        self._facts = facts
        self._numbers: dict[Hashable, int] = {}
        self._held: OrderedDict[What, Arrays] = OrderedDict()
        self._bytes = 0

    def of(self, program: Program, values: Sequence[Value]) -> Remembered:
        """What is remembered of the values of a program."""
        if len(self._numbers) > NAMES:
            self._numbers.clear()
            self._held.clear()
            self._bytes = 0
        names: list[int] = []
        leaves = {"load.m": program.statistics, "const.s": program.constants, "recall.s": program.recalled}
        for v in values:
            inputs: Hashable = leaves[v.name][v.index] if v.name in leaves else tuple(names[a] for a in v.args)
            names.append(self._numbers.setdefault((v.name, inputs), len(self._numbers)))
        statistics = {i: program.statistics[v.index] for i, v in enumerate(values) if v.name == "load.m"}
        return Remembered(self, names, statistics)

    def fact(self, statistic: str, kind: int) -> Arrays | None:
        """A total of a statistic, if it is known without reading it."""
        found = self._facts(statistic).get(kind)
        return None if found is None else (found,)

    def get(self, key: What) -> Arrays | None:
        """The values of sub-expressions with these numbers."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            self.recalled += 1
        return found

    def put(self, key: What, arrays: Arrays) -> None:
        """Remembers them; the least used ones are forgotten."""
        if key not in self._held:
            self._held[key] = arrays
            self._bytes += sum(a.nbytes for a in arrays)
        while self._bytes > self.limit:
            self._bytes -= sum(a.nbytes for a in self._held.popitem(last=False)[1])


class Remembered:
    """The memory as one program sees it. ``found``: what was asked for and is there, by the program's values;
    ``statistics``: those of them that are one."""

    def __init__(self, memory: Memory, names: Sequence[int], statistics: Mapping[int, str]) -> None:
        self.found: dict[What, Arrays] = {}
        self._memory = memory
        self._names = names
        self._statistics = statistics

    def knows(self, table: int | str, *matrices: int) -> bool:
        """Whether it is there; then it stays until the program has run."""
        what = (table, matrices)
        if what in self.found:
            return True
        arrays = None
        if isinstance(table, int) and len(matrices) == 1 and matrices[0] in self._statistics:
            arrays = self._memory.fact(self._statistics[matrices[0]], table)
        if arrays is None and self._memory.limit:
            arrays = self._memory.get(self._key(what))
        if arrays is not None:
            self.found[what] = arrays
        return arrays is not None

    def keep(self, what: What, arrays: Arrays) -> None:
        """Remembers what was computed."""
        if self._memory.limit:
            self._memory.put(self._key(what), arrays)

    def _key(self, what: What) -> What:
        return what[0], tuple(self._names[x] for x in what[1])
