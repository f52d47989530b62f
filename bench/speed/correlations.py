"""Correlations of a population against scipy's, one call for each vector: the values are compared first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...search.correlation import kendall_interval, kendall_many, pearson_many, spearman_many

Array = NDArray[np.float64]

SIZES = (36, 100, 400, 15625)
"""Networks: the search part of the PiTs, the AutoFormers, and NAS-Bench-201."""
POPULATION = 200
LARGEST = 3_000_000
"""Numbers of a population at most: of very many networks it has fewer programs."""
REPEATS = 5
RESAMPLES = 1000
LISTED = 10
"""Resamples that are compared one by one; scipy's time for all is extrapolated from them."""

Many = Callable[[Array, Array], Array]
MEASURES: dict[str, tuple[Many, Callable[..., Any]]] = {
    "kendall": (kendall_many, stats.kendalltau),
    "spearman": (spearman_many, stats.spearmanr),
    "pearson": (pearson_many, stats.pearsonr),
}


@dataclass(frozen=True)
class Compared:
    """Microseconds for one vector of ``networks`` numbers, the best of several turns; ``apart``: the largest difference
    of the values."""

    measure: str
    networks: int
    programs: int
    ours_us: float
    scipy_us: float
    apart: float

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.scipy_us / self.ours_us


def compare_correlations(sizes: Sequence[int] = SIZES) -> list[Compared]:
    """Every measure for every number of networks, a third of the scores tied. Raises AssertionError beyond 1e-12."""
    found = []
    for count in sizes:
        x, y = population(count)
        for name, (many, one) in MEASURES.items():
            expected = np.array([one(row, y[0]).statistic for row in x])
            apart = float(np.abs(many(x, y)[:, 0] - expected).max())
            assert apart < 1e-12, (name, count, apart)
            few = x[: max(1, len(x) // 10)]
            ours = _best(partial(many, x, y)) / len(x)
            theirs = _best(partial(_one_by_one, one, few, y[0])) / len(few)
            found.append(Compared(name, count, len(x), ours * 1e6, theirs * 1e6, apart))
    return found


def compare_bootstrap(count: int = SIZES[0]) -> Compared:
    """An interval of tau-b from 1,000 resamples, against as many calls of scipy."""
    x, y = population(count)
    rng = np.random.default_rng(0)
    ours = _best(lambda: kendall_interval(x[0], y[0], resamples=RESAMPLES))
    drawn = rng.integers(0, count, (LISTED, count))
    theirs = _best(lambda: [stats.kendalltau(x[0, d], y[0, d]) for d in drawn]) * RESAMPLES / LISTED
    return Compared("kendall interval", count, 1, ours * 1e6, theirs * 1e6, 0.0)


def _one_by_one(one: Callable[..., Any], x: Array, y: Array) -> None:
    for row in x:
        one(row, y)


def population(count: int) -> tuple[Array, Array]:
    """Scores ``[P, A]`` and one target ``[1, A]``."""
    rng = np.random.default_rng(count)
    programs = max(1, min(POPULATION, LARGEST // count // 10))
    x = rng.normal(size=(programs, count))
    return np.where(rng.random(x.shape) < 1 / 3, x.round(1), x), rng.normal(size=(1, count)).round(3)


def _best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)
