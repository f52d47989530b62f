"""Tiny networks in memory, with all statistics that Auto-Prox reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proxforge.stats_cache.memory import MemoryCache

Segment = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""What draws the elements of a segment ``[rows, columns]``."""


def small_networks(seed: int, networks: int, segment: Segment) -> MemoryCache:
    """Networks of one to three layers and two to five channels."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(networks):
        d, m, n = (int(v) for v in rng.integers(2, 6, 3))
        shapes = {"qkv": (3 * d, d), "fc1": (m, d), "fc2": (d, m), "hidden": (n, m)}
        layers = int(rng.integers(1, 4))
        made.append(
            {
                f"{site}.{kind}": [segment(rng, shape) for _ in range(layers)]
                for site, shape in shapes.items()
                for kind in (("a", "g") if site == "hidden" else ("w", "g"))
            }
        )
    return MemoryCache(made)
