"""Small networks in memory, small tree spaces, and their atlases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proxforge.bench.atlas.task import Task
from proxforge.bench.atlas.triples import building
from proxforge.search.spaces import TreeSpace
from proxforge.stats_cache.memory import MemoryCache
from tests.small_networks import small_networks

NETWORKS = 14
SPLIT = (tuple(range(0, NETWORKS, 2)), tuple(range(1, NETWORKS, 2)))
SPACES = {
    "scalars": (("qkv.w", "fc1.g"), ("abs", "neg", "mean", "std", "+", "-", "*", "@")),
    "products": (("qkv.w", "qkv.g"), ("abs", "normalize", "softmax", "sum", "*", "-")),
    "matmul": (("fc1.w", "fc2.g"), ("relu", "log_softmax", "neg", "max", "@", "+")),
    "out of range": (("fc1.w", "fc1.g"), ("inv", "square", "exp", "log", "*")),
    "apart": (("fc1.g",), ("sqrt", "neg", "relu", "min_max", "sign", "*")),
    "few ops": (("fc1.w",), ("softmax", "abslog", "abs", "*")),
    "one unary": (("qkv.w", "fc1.g"), ("abs", "neg", "relu", "log_softmax", "mean", "-", "*", "@"), 1),
    "three unaries": (("fc1.w", "fc1.g"), ("normalize", "softmax", "max", "*"), 3),
    "three of one": (("hidden.a",), ("sqrt", "exp", "normalize", "*"), 3),
    "three branches": (("fc1.w", "fc1.g"), ("identity", "mean", "relu", "*", "-"), 1, 3),
    "three branches, @": (("fc1.w", "fc2.g"), ("neg", "identity", "std", "@", "/"), 1, 3),
    "three unaries, @": (("fc1.w", "fc2.g"), ("exp", "neg", "log_softmax", "std", "@"), 3),
}


def cache() -> MemoryCache:
    """Networks of one to three layers; some elements are zero, tiny or large."""
    return small_networks(3, NETWORKS, _segment)


def _segment(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    made = rng.normal(scale=0.5, size=shape)
    made[rng.random(shape) < 0.05] = 0.0
    made[rng.random(shape) < 0.05] *= 1e-12
    made[rng.random(shape) < 0.05] *= 8.0
    return made


def targets() -> dict[str, np.ndarray]:
    """Two, the second with a tie and a network without a value."""
    drawn = np.random.default_rng(4).normal(size=(2, NETWORKS))
    drawn[1, 3], drawn[1, 5] = np.nan, drawn[1, 7]
    return dict(zip("ab", drawn, strict=True))


def task(name: str, source: MemoryCache | None = None, **more) -> Task:
    source = cache() if source is None else source
    return Task(source, targets(), SPLIT, TreeSpace(*SPACES[name]), {"benchmark": "small"}, **more)


def build(folder: Path, made: Task, told=lambda step, share: None) -> dict:
    return building(made, folder, 2, "cpu", told).run()
