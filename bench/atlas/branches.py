"""The branches of a tree space: its canonical sub-expressions of one statistic, numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.canonical import CanonicalPool
from ...grammar.expr import Node
from ...grammar.rewriting import order_key
from ...grammar.types import STATISTICS, Kind
from ...search.spaces.tree import TreeSpace
from ..tree_count import branches_over

Unaries = tuple[str, ...]
"""The ops of a branch, the innermost first; two at least: a space with a single one puts identity before it."""
Joins = NDArray[np.signedinteger[Any]]
"""``[R, 3]``: of joins the op and two branches, by number; int16, or int32 where there are more branches. ``[R, 5]``
where a third branch is joined to that: its op and the branch."""


def chains(space: TreeSpace, pool: CanonicalPool, leaf: Node) -> dict[Node, list[Unaries]]:
    """The canonical branches over a leaf, in the order of the genotypes, and the genotypes of each."""
    found: dict[Node, list[Unaries]] = {}
    before = ("identity",) * (2 - space.unaries)
    for node, ops in branches_over(space, pool, leaf):
        found.setdefault(node, []).append((*before, *ops))
    return found


@dataclass(frozen=True, eq=False)
class Branches:
    """The canonical branches of all inputs: B = S C, those of one input side by side.

    ``statistics``: the S inputs in the order of their table. ``each``: C. ``nodes``: in ``pool``.
    ``matrix``: bool ``[B]``. ``base``, ``sign``: int64 ``[B]``; a branch is ``sign`` times the branch ``base``, which
    is no negation. ``ordinal``: int64 ``[B]``, the place among all branches as operands are ordered. ``genes``: of the
    C branches of every input, their genotypes.
    """

    pool: CanonicalPool
    statistics: tuple[str, ...]
    each: int
    nodes: tuple[Node, ...]
    matrix: NDArray[np.bool_]
    base: NDArray[np.int64]
    sign: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    genes: tuple[tuple[Unaries, ...], ...]

    @staticmethod
    def of(space: TreeSpace) -> Branches:
        """Those of a space."""
        pool = CanonicalPool()
        statistics = tuple(name for name in STATISTICS if name in space.inputs)
        sides = [chains(space, pool, pool.statistic(name)) for name in statistics]
        nodes = tuple(node for side in sides for node in side)
        place = {node: i for i, node in enumerate(nodes)}
        base = np.arange(len(nodes))
        for i, node in enumerate(nodes):
            if node.op.name == "neg" and node.args[0] in place:
                base[i] = place[node.args[0]]
        order = sorted(range(len(nodes)), key=lambda i: order_key(nodes[i]))
        ordinal = np.empty(len(nodes), np.int64)
        ordinal[order] = np.arange(len(nodes))
        matrix = np.array([node.type.kind is Kind.MATRIX for node in nodes])
        sign = np.where(base == np.arange(len(nodes)), 1, -1)
        genes = tuple(tuple(each) for each in sides[0].values())
        return Branches(pool, statistics, len(genes), nodes, matrix, base, sign, ordinal, genes)

    @property
    def number(self) -> np.dtype[np.signedinteger[Any]]:
        """Of `Joins`."""
        return np.dtype(np.int16 if len(self.nodes) < 1 << 15 else np.int32)

    def matrices(self, statistic: str) -> Sequence[int]:
        """The branches of a statistic that are matrices, without negations."""
        first = self.statistics.index(statistic) * self.each
        span = range(first, first + self.each)
        return [i for i in span if self.matrix[i] and self.base[i] == i]
