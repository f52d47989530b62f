"""A search over cached statistics against the papers' way: every formula builds every network and runs it both ways.

The search is timed whole; building is timed on a sample of the networks and multiplied by what the search evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ...search.loop import run_search
from ...search.problem import Problem
from ...search.spaces import TreeSpace
from ...search.strategies import make_strategy
from ...stats_cache.recipe import Recipe
from ...stats_cache.source import Source
from ..truth.base import Benchmark

SAMPLE = 6
"""Networks that are built, evenly spread over the sizes."""
STRATEGY = "elitism_preserve"
BUDGET = 220
"""Evaluations that Auto-Prox publishes: 20 programs and 200 steps."""


@dataclass(frozen=True)
class Comparison:
    """Seconds of both ways, for the same evaluations of the same networks.

    ``search_seconds``: the whole search, measured. ``network_seconds``: to build one network, run it forward and
    backward, the mean of ``sampled`` networks. ``rebuild_seconds``: that for every evaluation and network.
    """

    benchmark: str
    evaluations: int
    networks: int
    sampled: int
    search_seconds: float
    evaluate_seconds: float
    network_seconds: float

    @property
    def rebuild_seconds(self) -> float:
        """Every network anew for every evaluation, extrapolated."""
        return self.network_seconds * self.networks * self.evaluations

    @property
    def collect_seconds(self) -> float:
        """Every network once: what the cache costs, extrapolated."""
        return self.network_seconds * self.networks

    @property
    def ratio(self) -> float:
        """How many times longer building anew takes than the search, the cache at hand."""
        return self.rebuild_seconds / self.search_seconds

    @property
    def ratio_with_cache(self) -> float:
        """The same, where the search has to make the cache first."""
        return self.rebuild_seconds / (self.search_seconds + self.collect_seconds)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        extrapolated = ("rebuild_seconds", "collect_seconds", "ratio", "ratio_with_cache")
        return {**asdict(self), **{name: getattr(self, name) for name in extrapolated}}


def compare(benchmark: Benchmark, source: Source, told: Callable[[str], None] | None = None) -> Comparison:
    """Times a search on the search part of a benchmark, and the building of some of its networks, on one thread each.

    ``source``: the statistics of all its networks that the tree space reads.
    """
    tell = told or (lambda text: None)
    tell("search")
    split = benchmark.split(0)
    problem = Problem.of(
        source,
        {name: benchmark.targets[name] for name in benchmark.default_targets},
        (split[0].tolist(), split[1].tolist()),
    )
    began = time.perf_counter()
    found = run_search(problem, make_strategy(STRATEGY, TreeSpace(), None), seed=0, budget=BUDGET)
    seconds = time.perf_counter() - began
    recipe = benchmark.recipe(seed=0, batch=None, input_seed=0)
    ordered = sorted(split[0].tolist(), key=lambda i: source.networks[i].size.params)
    chosen = [ordered[round(k * (len(ordered) - 1) / (SAMPLE - 1))] for k in range(SAMPLE)]
    times = []
    for k, network in enumerate(chosen):
        tell(f"network {k + 1} of {len(chosen)}")
        times.append(_built(recipe, network))
    return Comparison(
        benchmark.name,
        found.evaluations,
        len(split[0]),
        len(chosen),
        seconds,
        found.seconds["evaluate"],
        sum(times) / len(times),
    )


def _built(recipe: Recipe, network: int) -> float:
    """Seconds to build a network, run it forward and backward; the best of three times."""
    import torch
    from torch.nn import functional

    space = recipe.family()
    shape = (recipe.batch, space.channels, space.resolution, space.resolution)
    images, labels = torch.randn(shape), torch.zeros(recipe.batch, dtype=torch.long)

    def once() -> float:
        began = time.perf_counter()
        model = space.build(recipe.archs[network], seed=recipe.seed, classes=recipe.classes).eval()
        output = model(images)
        logits = output[0] if isinstance(output, tuple) else output
        functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    return min(once() for _ in range(3))
