"""Many values at once: totals side by side in one table, sums of sums, all of one kind in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....grammar.types import Kind
from ..values import Value
from . import sums
from .emit import SUM
from .passes import Total
from .rules import Totals

Places = NDArray[np.int64]
_SIGNS = {name: {np.add: 1, np.subtract: -1, np.negative: 0}[term] for name, term in sums.TERMS.items()}


def places(rows: Sequence[int] | Sequence[tuple[int, ...]]) -> Places:
    """Rows of a table, to take them at once."""
    return np.array(rows, np.int64)


def alike(values: Sequence[Value], matrices: Sequence[int]) -> list[int]:
    """One of the Matrices where all are of one type, so that they have as many elements; otherwise all of them."""
    return list(matrices[:1] if len({values[x].axes for x in matrices}) == 1 else matrices)


@dataclass(frozen=True, eq=False)
class Unsure:
    """Sums that are believed at first: of values whose elements may leave the range, see `plan.Plan.doubtful`.

    ``rows``: where those stand that may go below it; ``counted``: these, see `alike`. ``growing``: the values that may
    go beyond it.
    """

    rows: Places
    counted: list[int]
    growing: list[int]


@dataclass(frozen=True, eq=False)
class Together:
    """A table of sums ``[S, T]``, a row for each of ``values``.

    ``totals``: which totals the first rows are, by their place. ``single``: the values of the next rows, each by its
    own rule. ``steps``: the rows after these, from others, see `join.MAKERS`. ``wanted``: the rows of the values that
    were asked for.
    """

    values: tuple[int, ...]
    totals: Places
    single: tuple[int, ...]
    steps: Places
    wanted: Places
    unsure: Unsure


@dataclass(frozen=True, eq=False)
class AtOnce:
    """Values of one opcode that need no Scalar, computed together.

    ``rule``: how. ``rows``: theirs in the table of Scalars. ``counted``: see `alike`, of their operands. ``added``: the
    sums that they are made of, or else ``totals``: by kind, the places of the totals, or which these are.
    """

    rule: Totals
    rows: Places
    counted: list[int]
    added: Together | None
    totals: list[Places | list[Total]]


def together(
    values: Sequence[Value],
    by_rule: Sequence[bool],
    doubtful: Sequence[tuple[bool, bool]],
    table: Mapping[Total, int],
    wanted: Sequence[int],
) -> Together:
    """How to add up the ``wanted`` Matrices. ``table``: the places of totals."""
    totals: dict[int, Total] = {}
    depths: dict[int, int] = {}

    def depth(x: int) -> int:
        """0: a total; 1: by its own rule; then one more than that of its terms."""
        if x not in depths:
            v = values[x]
            if not by_rule[x]:
                totals[x], found = (SUM, (x,)), 0
            elif v.name in sums.TOTALS:
                totals[x], found = (sums.TOTALS[v.name], v.args), 0
            elif v.name in sums.TERMS and all(k is Kind.MATRIX for k in v.opcode.operands):
                found = 2 + max(depth(a) for a in v.args)
            else:
                found = 1
            depths[x] = found
        return depths[x]

    for x in wanted:
        depth(x)
    single = tuple(x for x, at in depths.items() if at == 1)
    later = sorted((x for x, at in depths.items() if at > 1), key=lambda x: depths[x])
    every = (*totals, *single, *later)
    row = {x: i for i, x in enumerate(every)}

    def rows(of: Sequence[int]) -> Places:
        return places([row[x] for x in of])

    steps = [(row[x], row[values[x].args[0]], row[values[x].args[-1]], _SIGNS[values[x].name]) for x in later]
    guarded = (x for x in every if depths[x] != 1 and by_rule[x] and values[x].name not in sums.UNGUARDED)
    doubted = [x for x in guarded if any(doubtful[x])]
    shrinking = [x for x in doubted if doubtful[x][0]]
    unsure = Unsure(rows(shrinking), alike(values, shrinking), [x for x in doubted if doubtful[x][1]])
    code = places(steps).reshape(-1, 4)
    return Together(every, places([table[t] for t in totals.values()]), single, code, rows(wanted), unsure)
