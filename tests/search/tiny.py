"""A benchmark of a second: tiny random networks in memory, and an evaluator that draws its scores from the hash."""

from __future__ import annotations

import time

import numpy as np

from proxforge.search.problem import Problem
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.result import judge
from tests.small_networks import small_networks

NETWORKS = 20
SEARCH, TEST = tuple(range(0, NETWORKS, 2)), tuple(range(1, NETWORKS, 2))


def targets() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    drawn = rng.normal(size=(3, NETWORKS))
    drawn[1, [3, 4]] = np.nan
    return dict(zip("abc", drawn, strict=True))


def cache() -> MemoryCache:
    """Networks of one to three layers, all of the statistics that Auto-Prox reads."""
    return small_networks(12, NETWORKS, lambda rng, shape: rng.normal(scale=0.3, size=shape))


def real_problem(backend: str = "reference") -> Problem:
    return Problem.of(cache(), targets(), (SEARCH, TEST), backend=backend, about={"benchmark": "tiny"})


class HashScores:
    """Scores that follow from the program's hash alone; about one program in eight has none."""

    def __init__(self, networks, delay: float = 0.0) -> None:
        self.networks = tuple(networks)
        self.delay = delay
        self.runs: list[list[str]] = []

    def run(self, roots):
        time.sleep(self.delay * len(roots))
        self.runs.append([r.digest.hex() for r in roots])
        scores = np.empty((len(roots), len(self.networks)))
        for row, root in zip(scores, roots, strict=True):
            row[:] = np.random.default_rng(int.from_bytes(root.digest[:8], "little")).normal(size=NETWORKS)[
                list(self.networks)
            ]
            row[0] = {0: np.nan, 1: np.inf}.get(root.digest[0] % 16, row[0])
        return judge(scores)


def hash_problem(delay: float = 0.0, made: list[HashScores] | None = None) -> Problem:
    """``made`` collects the evaluators in the order in which they are made."""

    def evaluator(networks):
        scores = HashScores(networks, delay)
        if made is not None:
            made.append(scores)
        return scores

    return Problem(evaluator, targets(), SEARCH, TEST, about={"benchmark": "hash"})
