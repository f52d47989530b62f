"""How programs order synthetic networks: cheap to know, without the networks, statistics or accuracies of a search.

The probes are small random networks of many shapes: transformer layers with normal weights, small gradients and GELU
activations, and convolutions. Programs that order them alike mostly order real networks alike. An order is the signs of
all pairs, of length 1, so that the inner product of two orders is Kendall's tau of the two programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool
from ..grammar.expr import Node
from ..grammar.types import STATISTICS
from ..stats_cache.memory import MemoryCache
from ..vm.evaluate import Evaluator
from ..vm.result import Result, Status, judge
from .correlation import settled
from .joins import Joins
from .spaces import Genotype, SearchSpace, TreeSpace

Array = NDArray[np.float64]
Signs = NDArray[np.int8]

PROBES = 24
"""Networks."""
PAIRS = PROBES * (PROBES - 1) // 2
"""Entries of an order."""
SEED = 0
"""Of the networks."""
MEMORY = 200_000
"""Orders, and nodes of programs, that are remembered at most."""


class Probes:
    """The probe networks, with the statistics ``inputs``. What was computed is remembered, and decides nothing."""

    def __init__(self, inputs: Sequence[str]) -> None:
        rng = np.random.default_rng(SEED)
        source = MemoryCache([_network(rng, inputs) for _ in range(PROBES)])
        self._evaluator = Evaluator(source, range(PROBES), device="cpu")
        self._joins = Joins(self._evaluator, source)
        self._first, self._second = np.triu_indices(PROBES, 1)
        self._pool = canonical_pool()
        self._known: dict[bytes, Signs] = {}

    def signs(self, space: SearchSpace, genotypes: Sequence[Genotype]) -> Signs:
        """Int8 ``[P, PAIRS]``; all 0 where a program has no score on the probes, or one score for all."""
        if len(self._pool) > MEMORY or len(self._known) > MEMORY:
            self._pool, self._known = canonical_pool(), {}
        found = np.zeros((len(genotypes), PAIRS), np.int8)
        left = np.ones(len(genotypes), np.bool_)
        if isinstance(space, TreeSpace) and space.branches == 2 and genotypes:
            scores, scales, known = self._joins.scores(space, *space.sides(genotypes))
            found[known] = self._of(judge(scores[known], scales[known]))
            left = ~known
        places = np.flatnonzero(left).tolist()
        if places:
            found[places] = self._run([space.expression(genotypes[i], self._pool) for i in places])
        return found

    def _run(self, nodes: Sequence[Node]) -> Signs:
        new = list({n.digest: n for n in nodes if n.digest not in self._known}.values())
        if new:
            self._known.update(zip([n.digest for n in new], self._of(self._evaluator.run(new)), strict=True))
        return np.stack([self._known[n.digest] for n in nodes])

    def _of(self, result: Result) -> Signs:
        scores = settled(np.where((result.status == Status.OK)[:, None], result.scores, 0.0))
        return np.sign(scores[:, self._first] - scores[:, self._second]).astype(np.int8)


def orders(signs: Signs) -> Array:
    """Signs of pairs as vectors of length 1, float64 ``[P, PAIRS]``; 0 where all are."""
    return np.asarray(signs / np.sqrt(np.maximum((signs != 0).sum(axis=1, keepdims=True), 1)))


@lru_cache(maxsize=4)
def probes(inputs: tuple[str, ...]) -> Probes:
    """The probes with these statistics, one set for the process."""
    return Probes(inputs)


def _network(rng: np.random.Generator, inputs: Sequence[str]) -> dict[str, list[Array]]:
    """One network: two to eight layers of one shape."""
    layers = int(rng.integers(2, 9))
    d = int(rng.integers(2, 7)) * 4
    size = {"d": d, "q": d, "3q": 3 * d, "m": d * int(rng.integers(1, 5)), "n": int(rng.integers(4, 65))}
    size |= {"o": int(rng.integers(4, 33)), "i": int(rng.integers(4, 33)), "p": int(rng.integers(4, 65))}
    found = {}
    for name in inputs:
        s = STATISTICS[name]
        shape = (size[s.type.rows], size[s.type.cols])
        found[name] = [_segment(rng, s.kind, shape) for _ in range(layers)]
    return found


def _segment(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> Array:
    x = rng.normal(size=shape)
    if kind == "w":
        return np.asarray(0.05 * x)
    if kind == "a":
        x = 0.5 * x
        return np.asarray(0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x**3))))
    return np.asarray(0.01 * np.abs(x) if kind == "v" else 0.003 * x)
