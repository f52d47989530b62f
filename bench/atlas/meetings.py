"""Joins of two matrices by ``*``, ``@`` and ``dot``, network by network: the sums over the layers of their means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.reference import FLOAT32_MAX, in_range
from ...grammar.types import STATISTICS
from ...stats_cache.source import Source
from .branches import Branches, Joins
from .doubt import SMALLEST
from .listing import DOT, MATMUL, TIMES
from .matrices import Means, Tall, chains_of, groups_of
from .values import Values

Array = NDArray[np.float64]


SUMS = np.dtype([("total", "f8"), ("highest", "f4"), ("size", "f4"), ("doubtful", "?")])
"""Of one network and a join: the sum over the layers; the largest scale of a layer, and the sum of these; whether
elements may be out of float32's range."""
CANCELLED = 1e-3
"""The scale of mean(a * b), where terms of both signs are added, is so many times sqrt(mean(a²) mean(b²)): scores that
differ by less than 1e-10 of it are rounding, as the means of a matrix times one that has no mean."""
UNSURE = 1e-6
"""A mean of products of one sign that is nothing but so much of the terms that it follows from has lost its digits, as
that of ``sqrt(-x) * min_max(sign(x))``, which is 0: the program is run."""


def meeting(joins: Joins, branches: Branches) -> NDArray[np.int64]:
    """The joins of two matrices by * and @ and dot."""
    both = branches.matrix[joins[:, 1]] & branches.matrix[joins[:, 2]]
    return np.flatnonzero(both & np.isin(joins[:, 0], (TIMES, MATMUL, DOT)))


class Meetings:
    """Computes `SUMS` of any network. ``joins`` ``[R, 3]``: of `Listing.joins` those of two matrices by * or @ or dot.

    Not for several threads at once.
    """

    def __init__(
        self, source: Source, branches: Branches, values: Values, starts: NDArray[np.int64], joins: Joins
    ) -> None:
        self._source, self._branches, self._values, self._starts = source, branches, values, starts
        self._joins = joins.astype(np.int64)
        self._chains = chains_of(branches)
        self._groups = groups_of(branches.statistics)
        place = np.full(branches.each, -1)
        place[[chain.local for chain in self._chains]] = np.arange(len(self._chains))
        stat, local = np.divmod(self._joins[:, 1:], branches.each)
        side = np.array([branches.pool.side(node) for node in branches.nodes])
        mixed = (side[self._joins[:, 1]] == 0) | (side[self._joins[:, 2]] == 0)
        self._cancels = np.where(mixed, CANCELLED, 0.0)
        self._unsure = np.where(mixed, 0.0, UNSURE)
        self._at = place[local]  # the number of each operand among the matrices of its statistic
        self._products = [self._pairs((TIMES, DOT), stat, names, names) for names in self._groups]
        meets = [
            (a, b)
            for a in branches.statistics
            for b in branches.statistics
            if STATISTICS[a].type.cols == STATISTICS[b].type.rows
        ]
        self._matmuls = {(a, b): self._pairs((MATMUL,), stat, (a,), (b,)) for a, b in meets}
        self._talls = [Tall(self._chains) for _ in self._groups]

    def _pairs(
        self, ops: tuple[int, ...], stat: NDArray[np.int64], left: tuple[str, ...], right: tuple[str, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The joins by some ops of matrices of these statistics, and the numbers of the operands among these."""
        known = self._branches.statistics
        first = {known.index(name): i for i, name in enumerate(left)}
        second = {known.index(name): i for i, name in enumerate(right)}
        chosen = np.flatnonzero(
            np.isin(self._joins[:, 0], ops) & np.isin(stat[:, 0], list(first)) & np.isin(stat[:, 1], list(second))
        )
        count = len(self._chains)
        i = np.array([first[s] for s in stat[chosen, 0].tolist()], np.int64) * count + self._at[chosen, 0]
        j = np.array([second[s] for s in stat[chosen, 1].tolist()], np.int64) * count + self._at[chosen, 1]
        return chosen, i, j

    def of(self, network: int, place: int) -> NDArray[Any]:
        """The sums of a network, which is the ``place``-th of those that the values are of."""
        count = len(self._joins)
        total, highest, size = np.zeros(count), np.zeros(count), np.zeros(count)
        doubtful = np.zeros(count, np.bool_)
        for layer in range(self._starts[place + 1] - self._starts[place]):
            value, inner, scale, terms = self._layer(network, layer, int(self._starts[place]) + layer)
            with np.errstate(all="ignore"):
                value = in_range(value)
                at = self._values.largest[:, self._starts[place] + layer]
                bound = at[self._joins[:, 1]] * at[self._joins[:, 2]] * inner
                finite = np.isfinite(value)
                doubtful |= finite & ((bound > FLOAT32_MAX) | ((value != 0) & (inner * scale < SMALLEST)))
                doubtful |= finite & (np.abs(value) < self._unsure * terms)
                scale = np.maximum(self._cancels * inner * scale, np.abs(value))
                total += value
                highest = np.maximum(highest, scale)
                size += scale
        found = np.empty(count, SUMS)
        found["total"], found["doubtful"] = total, doubtful
        with np.errstate(over="ignore"):
            found["highest"], found["size"] = highest, size
        return found

    def _layer(self, network: int, layer: int, at: int) -> tuple[Array, Array, Array, Array]:
        """Of all joins in a layer the mean, of ``dot`` the sum; the length of the inner axis of ``@``, else 1;
        sqrt(mean(a²) mean(b²)), or of sums; and what the first follows from by adding, see `Means.terms`."""
        value, inner, scale, terms = np.ones((4, len(self._joins)))
        finite = np.isfinite(self._values.values[:, at])
        moments = {key: m[:, at] for key, m in self._values.moments.items()}
        made: dict[str, tuple[Means, int, Array]] = {}
        each = self._branches.each
        for names, tall, (chosen, i, j) in zip(self._groups, self._talls, self._products, strict=True):
            first = [self._branches.statistics.index(name) * each for name in names]
            means = tall.means(self._source, (network, layer), names, moments, [finite[f : f + each] for f in first])
            products = means.products()
            times = np.where(self._joins[chosen, 0] == DOT, float(means.shape[0] * means.shape[1]), 1.0)
            value[chosen] = products[i, j] * times
            terms[chosen] = means.terms()[i, j] * times
            roots = np.sqrt(np.maximum(np.diagonal(products), 0.0))
            scale[chosen] = roots[i] * roots[j] * times
            made |= {name: (means, k, roots) for k, name in enumerate(names)}
        count = len(self._chains)
        with np.errstate(invalid="ignore"):
            for (a, b), (chosen, i, j) in self._matmuls.items():
                if len(chosen):
                    (left, k, of_a), (right, m, of_b) = made[a], made[b]
                    mine, other = slice(k * count, (k + 1) * count), slice(m * count, (m + 1) * count)
                    elements = left.shape[0] * right.shape[1]
                    value[chosen] = (left.sums(0, mine) @ right.sums(1, other).T)[i, j] / elements
                    added = left.sums_of_terms(0, mine) @ right.sums_of_terms(1, other).T
                    terms[chosen] = added[i, j] / elements
                    scale[chosen] = of_a[k * count + i] * of_b[m * count + j]
                    inner[chosen] = left.shape[1]
        return value, inner, scale, terms
