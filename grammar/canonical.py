"""Canonical form: two formulas with one canonical form are one program. The rules are in `rules`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from .expr import Node, Pool
from .ops import FACT, NUMBER, OPS, Form, Op
from .reference import in_range
from .rewriting import Args, Rule, Term, product_side, unordered
from .rules import RULES
from .types import Kind, Type


class CanonicalPool(Pool):
    """A pool that makes every expression in canonical form, and knows what the rules ask."""

    def __init__(self) -> None:
        super().__init__(_rewritten)
        self._built: dict[tuple[object, ...], Node] = {}
        self._magnitudes: dict[Node, Node] = {}
        self._sides: dict[Node, int] = {}

    def like(self, node: Node, value: float) -> Node:
        """A number that joins with the node."""
        return self.number(value, Kind.SCORE if node.type.kind is Kind.SCORE else Kind.SCALAR)

    def built(self, op: Op, args: Args, type_: Type | None = None) -> Node:
        """The canonical node of an op on operands that fit; ``type_``: of the op on them, where it is known."""
        key = (op.name, *args)
        node = self._built.get(key)
        if node is None:
            term = self._step(op, args)
            node = self._built[key] = self.plain(op, args, type_) if term is None else self.build(term)
        return node

    def stands(self, op: Op, args: Args) -> bool:
        """Whether the op on these nodes, which fit, is in canonical form as it is."""
        return self._step(op, args) is None

    def build(self, term: Term) -> Node:
        """The canonical node of a term. Without recursion: a rule can reach down as far as the term goes."""
        todo: list[Term | _Join | _Keep] = [term]
        done: list[Node] = []
        while todo:
            item = todo.pop()
            if isinstance(item, Node):
                done.append(item)
            elif isinstance(item, _Keep):
                self._built[item.key] = done[-1]
            elif isinstance(item, _Join):
                args = tuple(done[-item.count :])
                del done[-item.count :]
                todo.append(self._next(OPS[item.name], args, todo))
            elif isinstance(item[1], tuple) or isinstance(item[-1], tuple):
                todo.append(_Join(item[0], len(item) - 1))
                todo += item[:0:-1]
            else:
                todo.append(self._next(OPS[item[0]], item[1:], todo))
        return done[0]

    def _next(self, op: Op, args: Args, todo: list[Any]) -> Term:
        """What an op on nodes is: a node, or the term that a rule makes of it (then it is to be kept)."""
        key = (op.name, *args)
        node = self._built.get(key)
        if node is not None:
            return node
        term = self._step(op, args)
        if term is None:
            node = self._built[key] = self.plain(op, args)
            return node
        todo.append(_Keep(key))
        return term

    def _step(self, op: Op, args: Args) -> Term | None:
        """Numbers are folded; else the first rule that applies; else commutative operands in their order; else None."""
        if args[0].op is NUMBER:
            folded = self._folded(op, args)
            if folded is not None:
                return folded
        for rule in _rules(op.name, *[a.op.name for a in args]):
            if rule.condition(self, args):
                return rule.rewrite(self, args)
        if op.commutative and unordered(self, args):
            return (op.name, args[1], args[0])
        return None

    def _folded(self, op: Op, args: Args) -> Node | None:
        """f(numbers) is a number, where the value is in float32's range; elsewhere it stays as it is written."""
        if op.form is Form.LAYERS or args[-1].op is not NUMBER:
            return None
        if op.name == "neg":
            return self.like(args[0], -float(args[0].attr))
        with np.errstate(all="ignore"):
            value = float(in_range(np.asarray(op.reference(*(np.asarray(a.attr, np.float64) for a in args)))))
        return self.like(args[0], value) if math.isfinite(value) else None

    def magnitude(self, node: Node) -> Node:
        """What has the same absolute value, without the abs and the signs that it does not need."""
        if node.op.name not in _THROUGH:
            return node
        found = self._magnitudes.get(node)
        return _upwards(node, self._magnitudes, _THROUGH, self._magnitude) if found is None else found

    def _magnitude(self, x: Node) -> Node:
        if x.op.name not in _THROUGH:
            return x
        found = tuple(self._magnitudes[a] for a in x.args)
        if x.op.name in ("neg", "abs"):
            return found[0]
        if found == x.args:
            return x
        made = self.built(x.op, found)
        self._magnitudes[made] = made
        return made

    def side(self, node: Node) -> int:
        """1: no element is negative, -1: none is positive (NaN may be among them), 0: not known.

        Of the values as they are computed, whatever the input.
        """
        found = self._sides.get(node)
        return _upwards(node, self._sides, _SIDED, self._side) if found is None else found

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


@dataclass(slots=True)
class _Join:
    """Still to do: an op on the last nodes."""

    name: str
    count: int


@dataclass(slots=True)
class _Keep:
    """Still to do: the last node is the canonical one of this term."""

    key: tuple[object, ...]


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


def _rewritten(pool: Pool, op: Op, args: Args, type_: Type) -> Node:
    assert isinstance(pool, CanonicalPool)
    return pool.built(op, args, type_)


def canonical_pool() -> CanonicalPool:
    """A pool that makes every expression in canonical form."""
    return CanonicalPool()


def hash_of(node: Node) -> str:
    """The canonical hash: 32 hex digits, the same in every process."""
    return node.digest.hex()
