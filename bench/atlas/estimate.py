"""What a build will cost, before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...search.spaces.tree import TreeSpace
from ...stats_cache.source import Source
from .branches import Branches
from .matrices import chains_of, groups_of

MULTIPLY_ADDS = 2e10
"""float64 multiply-adds of a matrix product per second and thread, as seen on one core of a server."""
LIVE = 0.55
"""The share of the matrices that are rows of the tall matrix: finite, and no multiple of another plus numbers."""
FILLED = 3e-9
"""Seconds and thread per element of the tall matrix, to compute it and to add it up by column and row."""
RANKED = 1.2e-9
"""Seconds and thread per join and pair of networks in 64 bits, and per join and layer."""
LISTED = 1.5e-6
"""Seconds per genotype that type-checks, to list the programs."""
RUN = 1.2e-10
"""Seconds and thread per element and branch, to run the branches."""


@dataclass(frozen=True)
class Estimate:
    """``joins``: at most so many have to be ranked. ``seconds`` by step; ``bytes`` of the finished atlas."""

    joins: int
    seconds: dict[str, float]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def estimate(source: Source, space: TreeSpace, targets: int, threads: int, with_products: bool = True) -> Estimate:
    """A rough guess, within a factor of two or three. ``with_products``: whether two matrices are joined by * and @."""
    branches = Branches.of(space)
    chains = chains_of(branches)
    singles = int((branches.base == range(len(branches.nodes))).sum())
    joins = min(space.typed_size(), 3 * singles * singles // 2)
    networks, layers = len(source.networks), sum(n.layers for n in source.networks)
    products, elements = 0.0, 0.0
    for names in groups_of(branches.statistics):
        positions = sum(
            height * width
            for n in source.networks
            for layer in range(n.layers)
            for height, width in (source.shape(n.index, names[0], layer),)
        )
        rows = LIVE * len(chains) * len(names)
        products += positions * (rows**2 / 2 / MULTIPLY_ADDS + rows * FILLED)
        elements += positions * len(names) * branches.each
    words = -(-networks // 64)
    ranks = joins * (2 * 3 * (2 * targets + 1) * networks * words / 8 + layers) * RANKED
    seconds = {
        "programs": space.typed_size() * LISTED / 2,
        "branches": elements * RUN / threads,
        "matrices": products / threads if with_products else 0.0,
        "ranks": ranks / threads,
    }
    each = 6 + 6 + 2 * 3 * (2 * targets + 2)
    return Estimate(joins, {name: round(s, 1) for name, s in seconds.items()}, joins * each + 2 * 16 * joins)


def left_out(space: TreeSpace, with_products: bool) -> list[str]:
    """What of the space will have the status ``left out``, a line each."""
    found = []
    if "/" in space.binary:
        found.append("left out: quotients by a matrix, whose means do not follow from those of the branches")
    if not with_products:
        found.append("left out: products of two matrices")
    return found
