"""Random typed expressions and small in-memory sources, hostile ones among them."""

from __future__ import annotations

from functools import cache

import numpy as np

from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from ...grammar.op import Form
from ...grammar.ops import OPS, Op
from ...grammar.types import NETWORK_FACTS, STATISTICS, Kind
from ...stats_cache.memory import MemoryCache
from ...stats_cache.spaces.base import Size
from ...vm.program import in_use

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
            with np.errstate(over="ignore"):
                segments[s.name] = [x.astype(np.float32) for x in parts]
        networks.append(segments)
        sizes.append(Size(params=1000 + 37 * i, flops=5000 + 91 * i, depth=layers, width=float(d)))
    return MemoryCache(networks, sizes)


def constant_source(seed: int, shapes: list[tuple[int, int, int, int]]) -> MemoryCache:
    """`random_source` with all elements of a segment equal to its first."""
    source = random_source(seed, shapes)
    made = [
        {
            s: [np.full_like(x, x.flat[0]) for x in (source.read(n.index, s, k) for k in range(n.layers))]
            for s in source.statistics
        }
        for n in source.networks
    ]
    return MemoryCache(made, [n.size for n in source.networks])


def broken_source(seed: int, shapes: list[tuple[int, int, int, int]]) -> MemoryCache:
    """`random_source` with an element of every network's first layer NaN or infinite."""
    source = random_source(seed, shapes)
    made = []
    for network in source.networks:
        found = {}
        for i, s in enumerate(sorted(source.statistics)):
            found[s] = [np.array(source.read(network.index, s, k)) for k in range(network.layers)]
            found[s][0].flat[i % found[s][0].size] = (np.nan, np.inf, -np.inf)[i % 3]
        made.append(found)
    return MemoryCache(made, [n.size for n in source.networks])


SHAPES = [(4, 6, 5, 2), (8, 6, 3, 3), (4, 10, 5, 1), (1, 1, 1, 2), (5, 7, 1, 2), (4, 6, 5, 4)]
"""Small networks, among them one of single elements, some of single rows and single layers."""
EDGES = [
    (7, 9, 15, 1),
    (8, 16, 17, 1),
    (3, 1537, 3, 1),
    (16, 64, 33, 2),
    (1, 3073, 65, 1),
    (5, 767, 171, 1),
    (65, 127, 33, 1),
]
"""Around the widths of a vector (8, 16), of a tile (1536) and of a job (8192 elements)."""


@cache
def hostile_sources() -> dict[str, MemoryCache]:
    """By what is hostile in them."""
    return {
        "normal": random_source(1, SHAPES),
        "small": random_source(2, SHAPES, scale=1e-12),
        "special": random_source(3, SHAPES, special=True),
        "tiny": random_source(7, SHAPES, scale=1e-19),
        "huge": random_source(8, SHAPES, scale=1e38),
        "constant": constant_source(9, SHAPES),
        "broken": broken_source(6, SHAPES[:2]),
        "edges": random_source(4, EDGES),
    }


def every_op(pool: Pool) -> list[Node]:
    """Every op on Matrices and on Scalars, on operands of both signs, positive ones, and ones within (0, 1)."""
    roots = []
    for opcode in in_use():
        op = opcode.op
        if op is None or Kind.SCORE in opcode.operands or (op.no_scalar and Kind.MATRIX not in opcode.operands):
            continue
        first, second = ("fc2.w", "fc1.w") if op.form is Form.PRODUCT else ("qkv.w", "qkv.g")
        for wrap in ("identity", "abs", "sigmoid", "square"):
            wrapped = [pool.apply(OPS[wrap], pool.statistic(s)) for s in (first, second)[: op.arity]]
            scalars = [pool.apply(OPS[name], x) for x, name in zip(wrapped, ("max", "l1_norm"), strict=False)]
            picked = zip(wrapped, scalars, opcode.operands, strict=True)
            roots.append(pool.score(pool.apply(op, *(m if k is Kind.MATRIX else s for m, s, k in picked))))
    return roots
