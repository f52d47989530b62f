"""Scores of trees of two branches on small networks, many at once, from what is known of the branches.

The mean of ``x + y`` of two matrices, or of ``x * y`` of a Matrix and a Scalar, follows from the sums over x and over
y, as in the cpu backend's `sums`: once the branches are known, a program needs no pass over elements, and no plan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool
from ..grammar.expr import Node
from ..grammar.ops import OPS
from ..grammar.reference import in_range
from ..grammar.types import SCALAR, STATISTICS, Type
from ..stats_cache.source import Source
from ..vm.evaluate import Evaluator
from ..vm.layers import LAYER_OPS, bounds
from .spaces.tree import Branch, TreeSpace

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

SUMS = {"+": np.add, "-": np.subtract}
"""Joins whose sum over the elements follows from the sums over both sides."""
PRODUCTS = {"*": 1, "@": 2}
"""Products, and of how many Scalars at least they are where they follow."""
SMALL, LARGE = 1e-24, 1e28
"""A mean between these tells that no element that counts has left float32's range."""
CANCELLED = 1e-4
"""Where so little of two sums is left, what is left may be rounding: then the elements decide."""
MEMORY = 20_000
"""Branches that are remembered at most."""
BLOCK = 1024
"""Programs at a time: their layers fit into the caches of a processor."""


class Joins:
    """The branches that were asked for, on the networks of an evaluator: T layers of A networks in all."""

    def __init__(self, evaluator: Evaluator, source: Source) -> None:
        self._evaluator = evaluator
        layers = [source.networks[i].layers for i in evaluator.networks]
        self._starts, self._layers = bounds(layers)
        self._types: dict[Type, int] = {SCALAR: 0}
        sizes = [np.ones(sum(layers))]
        for name in sorted(source.statistics):
            if STATISTICS[name].type not in self._types:
                self._types[STATISTICS[name].type] = len(sizes)
                segments = [s for i in evaluator.networks for s in source.segments(i, name)]
                sizes.append(np.array([s.rows * s.cols for s in segments], np.float64))
        self._sizes = np.stack(sizes)  # elements by type
        self._forget()

    def _forget(self) -> None:
        self._pool = canonical_pool()
        self._rows: dict[Branch, int] = {}
        self._type = np.empty(0, np.intp)
        self._value = self._scale = np.empty((0, self._sizes.shape[1]))

    def scores(
        self, space: TreeSpace, branches: Sequence[tuple[Branch, ...]], binaries: Sequence[str]
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Scores and scales (see `vm.rounding`) ``[P, A]`` of trees, and of which of them these are known ``[P]``."""
        if len(self._rows) > MEMORY:
            self._forget()
        first, second = (self._of(space, side) for side in zip(*branches, strict=True))
        scores, scales = np.zeros((2, len(branches), len(self._layers)))
        known, names = np.zeros(len(branches), np.bool_), np.array(binaries)
        with np.errstate(all="ignore"):
            for name in sorted({*SUMS, *PRODUCTS}.intersection(binaries)):
                places = np.flatnonzero(names == name)
                for start in range(0, len(places), BLOCK):
                    at = places[start : start + BLOCK]
                    values, sizes, known[at] = self._joined(name, first[at], second[at])
                    scores[at] = in_range(LAYER_OPS["layer_mean"](values, self._starts, self._layers))
                    scales[at] = LAYER_OPS["layer_max"](sizes, self._starts, self._layers)
        return scores, np.maximum(scales, np.abs(scores)), known

    def _joined(self, name: str, first: Ints, second: Ints) -> tuple[Array, Array, NDArray[np.bool_]]:
        """The mean of the join in every layer and its scale, ``[P, T]``, and where these are known."""
        types = self._type[np.stack((first, second))]
        scalars, type_ = types == 0, types.max(axis=0)
        elements, a, b = self._sizes[type_], self._value[first], self._value[second]
        if name in SUMS:
            a, b = (np.where(s[:, None], x * elements, x) for s, x in zip(scalars, (a, b), strict=True))
            total, least = SUMS[name](a, b), 0
            nothing = ((a == 0) | (b == 0)) & ~scalars.any(axis=0)[:, None]  # such as normalize(x): sums of large terms
            most = np.where(nothing, np.inf, np.abs(a) + np.abs(b))
            scales = self._scale[first] + self._scale[second]
        else:
            total, least = a * b, PRODUCTS[name]
            most = np.abs(total)
            scales = self._scale[first] * self._scale[second]
        values, size = in_range(total / elements), np.abs(total)
        small = (size < np.maximum(CANCELLED * most, SMALL * elements)) & (most > 0)
        doubtful = (small | (size > LARGE) & np.isfinite(size)).any(axis=1)
        known = (types.min(axis=0) >= 0) & (scalars.sum(axis=0) >= least) & ~(doubtful & (type_ > 0))
        return values, np.where(scalars.all(axis=0)[:, None], scales, np.abs(values)), known

    def _of(self, space: TreeSpace, branches: Sequence[Branch]) -> Ints:
        """The row of each branch; those that are new are run."""
        new = [b for b in dict.fromkeys(branches) if b not in self._rows]
        if new:
            self._rows.update(zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True))
            self._enter([space.branch(branch, self._pool) for branch in new])
        return np.array([self._rows[b] for b in branches], np.intp)

    def _enter(self, nodes: Sequence[Node]) -> None:
        """Of a Scalar its value in every layer, of a Matrix the sum of its elements."""
        types = np.array([self._types.get(n.type, -1) for n in nodes])
        ways = [[n if n.type == SCALAR else self._pool.plain(OPS[op], (n,)) for n in nodes] for op in ("sum", "mean")]
        (sums, scales), (means, _) = map(self._evaluator.scalars, ways)
        sums = np.where(np.isfinite(sums), sums, means * self._sizes[types])  # a sum can overflow where no mean does
        self._type = np.concatenate((self._type, types))
        self._value, self._scale = np.concatenate((self._value, sums)), np.concatenate((self._scale, scales))
