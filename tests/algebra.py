"""Terms and their values, for the proofs of the rewrite rules: float64 by the references of the op table alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from proxforge.grammar.canonical import CanonicalPool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool, topological
from proxforge.grammar.ops import FACT, NUMBER, OPS, STATISTIC, Form, Op
from proxforge.grammar.reference import FLOAT32_MAX, FLOAT32_TINY, in_range
from proxforge.grammar.types import AXES, Kind

LAYERS = 3
SPECIAL = np.array(
    [0.0, 1.0, -1.0, 0.5, -3.0, 2.0**-60, 1e-9, -1e-9, 88.5, -90.0, 1e-20, 1e19, -1e25, FLOAT32_MAX, -FLOAT32_MAX,
     FLOAT32_TINY, -FLOAT32_TINY, np.inf, -np.inf, np.nan]
)  # fmt: skip
"""Zero, the ends of float32's range, poles, overflows and underflows of the ops, and what is no number."""

Value = list[np.ndarray]


def matrices(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A matrix of one of many kinds: ordinary, of one sign, constant, of few values, wide-ranging, hostile."""
    kind = rng.integers(8)
    if kind == 0:
        x = np.full(shape, rng.choice(SPECIAL))
    elif kind == 1:
        x = rng.choice(SPECIAL, shape)
    elif kind == 2:
        x = rng.choice(SPECIAL[np.isfinite(SPECIAL)], shape)
    elif kind == 3:
        x = np.exp(rng.uniform(-90, 90, shape)) * rng.choice([-1.0, 1.0], shape)
    elif kind == 4:
        x = rng.integers(-2, 3, shape).astype(float)
    else:
        x = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)
        if kind == 5:
            x = np.abs(x)
        elif kind == 6:
            x.flat[rng.integers(x.size)] = rng.choice(SPECIAL)
    with np.errstate(over="ignore"):
        return in_range(x.astype(np.float32).astype(np.float64))


class Data:
    """Values of the leaves: of statistics, of the Scalars that stand for leaves, of the networks' facts."""

    def __init__(self, seed: int, scalars: Sequence[Node] = ()) -> None:
        self._rng = np.random.default_rng(seed)
        self._sizes = dict(zip(AXES, self._rng.choice([1, 2, 3, 4, 9], len(AXES)).tolist(), strict=True))
        self._values: dict[bytes, Value] = {}
        for s in scalars:
            self._values[s.digest] = [matrices(self._rng, (1, 1))[0, 0] for _ in range(LAYERS)]

    def value(self, root: Node) -> Value:
        """What the references make of the term: float64 in float32's range, for every layer (of a Score one number)."""
        known: dict[int, Value] = {}
        with np.errstate(all="ignore"):
            for node in topological([root], into=lambda n: n.digest not in self._values):
                if not node.args or node.digest in self._values:
                    known[id(node)] = self._leaf(node)
                else:
                    known[id(node)] = apply_op(node.op, [known[id(a)] for a in node.args])
        return known[id(root)]

    def _leaf(self, node: Node) -> Value:
        if node.digest not in self._values:
            if node.op is NUMBER:
                found = [np.asarray(float(node.attr))] * (1 if node.type.kind is Kind.SCORE else LAYERS)
            elif node.op is FACT:
                found = [np.asarray(float(self._rng.integers(1, 10**6)))]
            else:
                shape = (self._sizes[node.type.rows], self._sizes[node.type.cols])
                found = [matrices(self._rng, shape) for _ in range(LAYERS)]
            self._values[node.digest] = found
        return self._values[node.digest]


def apply_op(op: Op, operands: list[Value]) -> Value:
    """The op on values in every layer, brought into float32's range."""
    with np.errstate(all="ignore"):
        if op.form is Form.LAYERS:
            return [in_range(np.asarray(op.reference(np.array([float(x) for x in operands[0]]))))]
        return [in_range(np.asarray(op.reference(*layer))) for layer in zip(*operands, strict=True)]


def same(one: Value, other: Value, relative: float = 0.0) -> bool:
    """Bit by bit (NaN is NaN), or within a relative distance."""
    with np.errstate(all="ignore"):
        return all(
            a.shape == b.shape
            and bool(np.all((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= relative * np.abs(a))))
            for a, b in zip(one, other, strict=True)
        )


def canonical(root: Node, pool: CanonicalPool) -> Node:
    """The term made anew in a canonical pool, operands first."""
    made: dict[int, Node] = {}
    for node in topological([root]):
        made[id(node)] = leaf_in(pool, node) or pool.apply(node.op, *(made[id(a)] for a in node.args))
    return made[id(root)]


def leaf_in(pool: Pool, node: Node) -> Node | None:
    """The same leaf in another pool; None for what is no leaf."""
    if node.op is STATISTIC:
        return pool.statistic(str(node.attr))
    if node.op is FACT:
        return pool.fact(str(node.attr))
    return pool.number(float(node.attr), node.type.kind) if node.op is NUMBER else None


def applied(pool: Pool, op: Op, *args: Node) -> Node | None:
    """The node, or None where the operands do not fit."""
    try:
        return pool.apply(op, *args)
    except ProxyError:
        return None


def shown(node: Node) -> str:
    """The term as it is, without the shortcuts of the language."""
    return f"{node.op.name}({', '.join(map(shown, node.args))})" if node.args else str(node.attr)


UNARY = [op for op in OPS.values() if op.arity == 1 and op.form is not Form.LAYERS]
LAYER = [op for op in OPS.values() if op.form is Form.LAYERS]
BINARY = [op for op in OPS.values() if op.arity == 2]


def chains(pool: Pool, leaves: list[Node], length: int) -> Iterator[Node]:
    """All terms of up to so many unary ops on the leaves."""
    level = list(leaves)
    yield from level
    for _ in range(length):
        level = [n for x in level for op in UNARY if (n := applied(pool, op, x)) is not None]
        yield from level
