"""How programs order synthetic networks: cheap to know, without the networks, statistics or accuracies of a search.

The probes are small random networks of many shapes: transformer layers with normal weights, small gradients and GELU
activations, and convolutions. Programs that order them alike mostly order real networks alike. An order is the signs of
all pairs, of length 1, so that the inner product of two orders is Kendall's tau of the two programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool
from ..grammar.types import STATISTICS
from ..stats_cache.memory import MemoryCache
from ..vm.evaluate import Evaluator
from ..vm.result import Status
from .correlation import settled
from .spaces import Genotype, SearchSpace

Array = NDArray[np.float64]

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
        networks = [_network(rng, inputs) for _ in range(PROBES)]
        self._evaluator = Evaluator(MemoryCache(networks), range(PROBES), device="cpu")
        self._first, self._second = np.triu_indices(PROBES, 1)
        self._pool = canonical_pool()
        self._known: dict[bytes, NDArray[np.int8]] = {}
        self._digests: WeakKeyDictionary[SearchSpace, dict[Genotype, bytes]] = WeakKeyDictionary()

    def orders(self, space: SearchSpace, genotypes: Sequence[Genotype]) -> Array:
        """``[P, PAIRS]``; all 0 where a program has no score on the probes, or one score for all."""
        if len(self._pool) > MEMORY or len(self._known) > MEMORY:
            self._pool, self._known = canonical_pool(), {}
            self._digests.clear()
        digests = self._digests.setdefault(space.unchecked, {})
        nodes = {g: space.expression(g, self._pool) for g in genotypes if g not in digests}
        digests.update((g, node.digest) for g, node in nodes.items())
        new = list({n.digest: n for n in nodes.values() if n.digest not in self._known}.values())
        if new:
            result = self._evaluator.run(new)
            scores = np.where((result.status == Status.OK)[:, None], result.scores, 0.0)
            scores = settled(scores)
            signs = np.sign(scores[:, self._first] - scores[:, self._second]).astype(np.int8)
            self._known.update(zip([n.digest for n in new], signs, strict=True))
        found = np.stack([self._known[digests[g]] for g in genotypes]).astype(np.float64)
        return np.asarray(found / np.sqrt(np.maximum((found != 0).sum(axis=1, keepdims=True), 1)))


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
