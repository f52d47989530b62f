"""From expressions to verified programs, rejection included: `make bench`.

The mean of pytest-benchmark is for all expressions of `population()`; the extra column ``us_each`` is for one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from proxforge.grammar.analysis import Analyser, Known
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.expr import Node, statistics_of
from proxforge.search.spaces import make_space
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.compile import compile_nodes
from proxforge.vm.known import known_of

SPACES = ("tree", "expression", "memory")
COUNT, BATCH = 20_000, 2_000
NETWORKS, LAYERS = 16, 4


@cache
def population(name: str) -> tuple[Node, ...]:
    """Different typed random programs of a space, many of them invalid because of their values."""
    rng, pool, space = np.random.default_rng(0), canonical_pool(), make_space(name)
    found = dict[Node, None]()
    while len(found) < COUNT:
        found[space.expression(space.sample(rng), pool)] = None
    return tuple(found)


@cache
def known() -> Known:
    """The facts of the statistics of small networks of Gaussian noise."""
    rng = np.random.default_rng(0)
    used = statistics_of(root for name in SPACES for root in population(name))
    shapes = {"qkv": (72, 24), "proj": (24, 24), "fc1": (48, 24), "fc2": (24, 48), "hidden": (17, 24)}
    return known_of(
        MemoryCache(
            [
                {s: [rng.normal(0, 0.1, shapes[s.partition(".")[0]]) for _ in range(LAYERS)] for s in used}
                for _ in range(NETWORKS)
            ]
        ),
        range(NETWORKS),
    )


@pytest.mark.parametrize("data", ["nothing known", "a cache's facts"])
@pytest.mark.parametrize("name", SPACES)
def test_compile(benchmark: Any, name: str, data: str) -> None:
    """Both stages in batches, by a new analyser."""
    roots = population(name)
    facts = known() if data.startswith("a ") else None
    parts = [roots[i : i + BATCH] for i in range(0, COUNT, BATCH)]

    def run() -> int:
        accepted, analyser = 0, Analyser(facts)
        for part in parts:
            errors = analyser.check(part)
            accepted += compile_nodes([r for r, e in zip(part, errors, strict=True) if e is None]).outputs.size
        return accepted

    assert COUNT // 4 < run() < COUNT
    timed: Callable[..., object] = benchmark
    timed(run)
    if benchmark.stats is not None:
        benchmark.extra_info["us_each"] = benchmark.stats["min"] / COUNT * 1e6
