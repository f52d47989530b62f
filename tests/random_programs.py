"""Random typed expressions and small in-memory sources, for property tests."""

from __future__ import annotations

import numpy as np

from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool
from proxforge.grammar.ops import OPS, Op
from proxforge.grammar.types import NETWORK_FACTS, STATISTICS, Kind
from proxforge.stats_cache.memory import MemoryCache
from proxforge.stats_cache.spaces.base import Size

UNARY = [op for op in OPS.values() if op.arity == 1 and Kind.MATRIX in op.kinds]
BINARY = [op for op in OPS.values() if op.arity == 2]


def random_layer_value(rng: np.random.Generator, pool: Pool, depth: int) -> Node:
    """A Matrix or Scalar expression of at most this depth; operands that do not fit are drawn again."""
    if depth <= 1:
        if rng.random() < 0.1:
            return pool.number(float(rng.integers(-3, 4)))
        return pool.statistic(str(rng.choice(list(STATISTICS))))
    while True:
        op: Op = UNARY[rng.integers(len(UNARY))] if rng.random() < 0.6 else BINARY[rng.integers(len(BINARY))]
        operands = [random_layer_value(rng, pool, depth - 1) for _ in range(op.arity)]
        if op.name == "/" and operands[1].facts.value == 0:
            continue  # x/0 or x/(what rounding leaves of 0): there is no value to agree on
        try:
            return pool.apply(op, *operands)
        except ProxyError as error:
            assert error.kind in {"type", "shape", "nonfinite"}, error


def random_score(rng: np.random.Generator, pool: Pool, depth: int = 4) -> Node:
    """A Score expression: one or two layer values, reduced over the layers, perhaps joined with a network fact."""
    layer_ops = [name for name in OPS if name.startswith("layer_")]
    score = pool.apply(OPS[str(rng.choice(layer_ops))], random_layer_value(rng, pool, depth))
    if rng.random() < 0.3:
        other = pool.fact(str(rng.choice(list(NETWORK_FACTS))))
        score = pool.apply(OPS[str(rng.choice(["+", "-", "*", "/"]))], score, other)
    return pool.score(score)


def random_source(
    seed: int, shapes: list[tuple[int, int, int, int]], scale: float = 1.0, special: bool = False
) -> MemoryCache:
    """Networks with the given (d, m, n, layers); ``special`` plants zeros, huge, tiny and constant segments."""
    rng = np.random.default_rng(seed)
    networks, sizes = [], []
    for i, (d, m, n, layers) in enumerate(shapes):
        axes = {"d": d, "q": d, "3q": 3 * d, "m": m, "n": n, "o": d + 1, "i": m + 2, "p": n + 3}
        segments = {}
        for s in STATISTICS.values():
            parts = [rng.normal(0.0, scale, (axes[s.type.rows], axes[s.type.cols])) for _ in range(layers)]
            if special:
                for x in parts:
                    x.flat[rng.integers(x.size)] = 0.0
                    x.flat[rng.integers(x.size)] = rng.choice([1e30, -1e30, 3e38, 1e-30, 1e-40, 88.0, -120.0])
                if rng.random() < 0.2:
                    parts[0][:] = parts[0].flat[0]
            segments[s.name] = [x.astype(np.float32) for x in parts]
        networks.append(segments)
        sizes.append(Size(params=1000 + 37 * i, flops=5000 + 91 * i, depth=layers, width=float(d)))
    return MemoryCache(networks, sizes)
