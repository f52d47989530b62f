"""Canonical form: two formulas with one canonical form are one program. The rules are in `rules`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np

from .expr import Node, Pool
from .ops import FACT, NUMBER, OPS, Form, Op
from .reference import in_range
from .rules import RULES, Args, Rule, product_side, unordered
from .types import Kind


class CanonicalPool(Pool):
    """A pool that makes every expression in canonical form, and knows what the rules ask."""

    def __init__(self) -> None:
        super().__init__(_rewritten)
        self._magnitudes: dict[Node, Node] = {}
        self._sides: dict[Node, int] = {}

    def make(self, name: str, *args: Node) -> Node:
        """The node of an op, by its name."""
        return self.apply(OPS[name], *args)

    def like(self, node: Node, value: float) -> Node:
        """A number that joins with the node."""
        return self.number(value, Kind.SCORE if node.type.kind is Kind.SCORE else Kind.SCALAR)

    def magnitude(self, node: Node) -> Node:
        """What has the same absolute value, without the abs and the signs that it does not need."""
        return _upwards(node, self._magnitudes, _THROUGH, self._magnitude)

    def _magnitude(self, x: Node) -> Node:
        if x.op.name not in _THROUGH:
            return x
        found = [self._magnitudes[a] for a in x.args]
        if x.op.name in ("neg", "abs"):
            return found[0]
        return x if all(f is a for f, a in zip(found, x.args, strict=True)) else self.make(x.op.name, *found)

    def side(self, node: Node) -> int:
        """1: no element is negative, -1: none is positive (NaN may be among them), 0: not known.

        Of the values as they are computed, whatever the input.
        """
        return _upwards(node, self._sides, _SIDED, self._side)

    def _side(self, x: Node) -> int:
        if x.op is NUMBER:
            return 1 if float(x.attr) >= 0 else -1
        if x.op.name not in _SIDED:
            return 1 if x.op is FACT or x.op.name in _NONNEGATIVE else -1 if x.op.name == "log_softmax" else 0
        sides = [self._sides[a] for a in x.args]
        if x.op.name in _PRODUCTS:
            return product_side(x.op.name, *sides)
        if x.op.name == "gram":
            return sides[0] ** 2
        if x.op.name in ("neg", "-"):
            sides[-1] = -sides[-1]
        return sides[0] if sides[0] == sides[-1] else 0


_THROUGH = frozenset(("neg", "abs", "*", "/", "sign", "tanh"))
"""Ops whose absolute value depends on the absolute values of their operands alone."""
_NONNEGATIVE = frozenset(
    ("abs", "square", "pow4", "exp", "sigmoid", "softmax", "sqrt", "relu", "heaviside", "min_max", "frobenius",
     "l1_norm", "std", "nuclear_norm", "layer_std")
)  # fmt: skip
"""Ops that give nothing negative."""
_PRODUCTS = frozenset(("*", "/", "@", "dot"))
_SIDED = _PRODUCTS | frozenset(
    ("+", "-", "neg", "gram", "sign", "tanh", "mish", "leaky_relu", "identity", "mean", "sum", "normalized_sum", "min",
     "max", "layer_mean", "layer_sum", "layer_min", "layer_max")
)  # fmt: skip
"""Ops whose side of 0 follows from the sides of their operands."""

_T = TypeVar("_T")


def _upwards(node: Node, known: dict[Node, _T], into: frozenset[str], value: Callable[[Node], _T]) -> _T:
    """A property of a node that follows from those of its operands, remembered; without recursion."""
    todo = [node]
    while node not in known:
        x = todo[-1]
        missing = [a for a in x.args if a not in known] if x.op.name in into else []
        todo += missing
        if not missing:
            known[x] = value(todo.pop())
    return known[node]


@cache
def _rules(op: str, *operands: str) -> tuple[Rule, ...]:
    """The rules that can apply to an op, by the ops of its operands."""
    return tuple(rule for rule in RULES if rule.op == op and rule.fits(operands))


def _rewritten(pool: Pool, op: Op, args: Args) -> Node | None:
    """Numbers are folded; else the first rule that applies; else commutative operands in their order; else None."""
    assert isinstance(pool, CanonicalPool)
    if args[0].op is NUMBER:
        folded = _folded(pool, op, args)
        if folded is not None:
            return folded
    for rule in _rules(op.name, *[a.op.name for a in args]):
        if rule.condition(pool, args):
            return rule.rewrite(pool, args)
    if op.commutative and unordered(pool, args):
        return pool.apply(op, args[1], args[0])
    return None


def _folded(pool: CanonicalPool, op: Op, args: Args) -> Node | None:
    """f(numbers) is a number, where the value is in float32's range; elsewhere it stays as it is written."""
    if op.form is Form.LAYERS or not all(a.op is NUMBER for a in args):
        return None
    with np.errstate(all="ignore"):
        value = float(in_range(np.asarray(op.reference(*(np.asarray(a.attr, np.float64) for a in args)))))
    return pool.like(args[0], value) if math.isfinite(value) else None


def canonical_pool() -> CanonicalPool:
    """A pool that makes every expression in canonical form."""
    return CanonicalPool()


def hash_of(node: Node) -> str:
    """The canonical hash: 32 hex digits, the same in every process."""
    return node.digest.hex()
