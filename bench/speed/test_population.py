"""A population scored by each backend, merged into one program or proxy by proxy: `make bench`.

The table of pytest-benchmark gives the ratios in parentheses. The values are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.expr import Node
from proxforge.grammar.parse import parse
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.backends import backend
from proxforge.vm.compile import compile_nodes

NETWORKS, LAYERS, WIDTH = 16, 4, 48
UNARY = ("abs", "sigmoid", "square", "relu", "normalize", "softmax")


@cache
def statistics() -> MemoryCache:
    """Networks of 4 layers, d = 48, m = 192, filled with Gaussian noise."""
    rng = np.random.default_rng(0)

    def segments(rows: int, cols: int) -> list[NDArray[np.float64]]:
        return [rng.normal(0, 0.02, (rows, cols)) for _ in range(LAYERS)]

    shapes = {"qkv": (3 * WIDTH, WIDTH), "fc1": (4 * WIDTH, WIDTH)}
    return MemoryCache(
        [{f"{site}.{kind}": segments(*shapes[site]) for site in shapes for kind in "wg"} for _ in range(NETWORKS)]
    )


@cache
def population() -> tuple[Node, ...]:
    """36 proxies, every unary op on each input; a merged program shares them."""
    pool = canonical_pool()
    return tuple(
        parse(f"mean({first}({second}(qkv.w))) + frobenius({second}({first}(fc1.g)))", pool)
        for first in UNARY
        for second in UNARY
    )


@cache
def expected() -> NDArray[np.float64]:
    """Scores ``[P, A]`` by the reference backend."""
    return backend("reference", statistics(), range(NETWORKS)).run(compile_nodes(population()))[0]


HOW = [f"{name}-{how}" for name in ("cpu", "torch", "reference") for how in ("merged", "one-by-one")]


@pytest.mark.parametrize("how", HOW)
def test_population(benchmark: Callable[..., object], how: str) -> None:
    """Backends are called directly: an Evaluator would remember in the second round what it reduced in the first."""
    name, _, rest = how.partition("-")
    chosen = backend(name, statistics(), range(NETWORKS), "cpu")
    batches = [population()] if rest == "merged" else [(node,) for node in population()]
    programs = [compile_nodes(batch) for batch in batches]

    def scores() -> NDArray[np.float64]:
        return np.concatenate([chosen.run(program)[0] for program in programs])

    np.testing.assert_allclose(scores(), expected(), rtol=1e-5, atol=1e-7)
    benchmark(scores)
