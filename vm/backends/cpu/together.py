"""Σ x of many values at once: totals side by side in one table, then sums of these, all of one kind in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....grammar.types import Kind
from . import sums
from .emit import SUM
from .passes import Total
from .values import Value

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Together:
    """A table of sums ``[S, T]``, a row for each of ``values``.

    ``totals``: what the first rows are. ``single``: the values of the next rows, each by its own rule. ``steps``: the
    rows after these, as a function of others. ``wanted``: the rows of the values that were asked for. ``unsure``:
    values whose elements may leave the range, see `plan.Plan.doubtful`, and their rows.
    """

    values: tuple[int, ...]
    totals: tuple[Total, ...]
    single: tuple[int, ...]
    steps: tuple[tuple[np.ufunc, Places, tuple[Places, ...]], ...]
    wanted: Places
    unsure: tuple[list[int], Places]


def together(
    values: Sequence[Value], by_rule: Sequence[bool], doubtful: Sequence[tuple[bool, bool]], wanted: Sequence[int]
) -> Together:
    """How to add up the ``wanted`` Matrices."""
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
    later: dict[tuple[int, np.ufunc], list[int]] = {}
    for x, at in depths.items():
        if at > 1:
            later.setdefault((at, sums.TERMS[values[x].name]), []).append(x)
    ordered = [later[key] for key in sorted(later, key=lambda key: (key[0], key[1].__name__))]
    every = (*totals, *single, *(x for step in ordered for x in step))
    row = {x: i for i, x in enumerate(every)}

    def rows(of: Sequence[int]) -> Places:
        return np.array([row[x] for x in of], np.intp)

    steps = tuple(
        (
            sums.TERMS[values[step[0]].name],
            rows(step),
            tuple(map(rows, zip(*(values[x].args for x in step), strict=True))),
        )
        for step in ordered
    )
    guarded = (x for x in every if depths[x] != 1 and by_rule[x] and values[x].name not in sums.UNGUARDED)
    unsure = [x for x in guarded if any(doubtful[x])]
    return Together(every, tuple(totals.values()), single, steps, rows(wanted), (unsure, rows(unsure)))
