"""Canonical form: rewrite rules as data. Two formulas with one canonical form are one program.

A rule may change a float64 result by rounding alone, for every input: zeros, negatives, huge, tiny and non-finite
values. ``sqrt(square(x)) = abs(x)`` is no rule: the square leaves float32's range where x does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .expr import Node, Pool
from .ops import NUMBER, OPS, STATISTIC, Form, Op
from .reference import in_range
from .types import STATISTICS, Kind

Args = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """``algebra`` is the rule in words; ``rewrite`` gives the new node where ``applies`` holds."""

    op: str
    algebra: str
    applies: Callable[[Args], bool]
    rewrite: Callable[[Pool, Args], Node]


def _is(name: str) -> Callable[[Args], bool]:
    return lambda a: a[0].op.name == name


def _scalar(a: Args) -> bool:
    return a[0].type.kind is Kind.SCALAR


def _nonnegative(a: Args) -> bool:
    return a[0].facts.nonnegative


def _number(i: int, value: float) -> Callable[[Args], bool]:
    return lambda a: a[i].op is NUMBER and a[i].attr == value


def _operand(i: int) -> Callable[[Pool, Args], Node]:
    return lambda pool, a: a[i]


def _inner(name: str) -> Callable[[Pool, Args], Node]:
    """The same op on the operand's operand: op(f(x)) -> op(x)."""
    return lambda pool, a: pool.apply(OPS[name], a[0].args[0])


RULES: tuple[Rule, ...] = (
    Rule("identity", "identity(x) = x", lambda a: True, _operand(0)),
    Rule("mean", "mean(s) = s", _scalar, _operand(0)),
    Rule("sum", "sum(s) = s", _scalar, _operand(0)),
    Rule("min", "min(s) = s", _scalar, _operand(0)),
    Rule("max", "max(s) = s", _scalar, _operand(0)),
    Rule("normalized_sum", "normalized_sum(s) = s", _scalar, _operand(0)),
    Rule("l1_norm", "l1_norm(s) = abs(s)", _scalar, lambda pool, a: pool.apply(OPS["abs"], a[0])),
    Rule("frobenius", "frobenius(s) = abs(s)", _scalar, lambda pool, a: pool.apply(OPS["abs"], a[0])),
    Rule("abs", "abs(x) = x where x >= 0", _nonnegative, _operand(0)),
    Rule("abs", "abs(-x) = abs(x)", _is("neg"), _inner("abs")),
    Rule("relu", "relu(x) = x where x >= 0", _nonnegative, _operand(0)),
    Rule("neg", "-(-x) = x", _is("neg"), lambda pool, a: a[0].args[0]),
    Rule("neg", "-(a - b) = b - a", _is("-"), lambda pool, a: pool.apply(OPS["-"], a[0].args[1], a[0].args[0])),
    Rule("square", "square(-x) = square(x)", _is("neg"), _inner("square")),
    Rule("square", "square(abs(x)) = square(x)", _is("abs"), _inner("square")),
    Rule("abslog", "abslog(-x) = abslog(x)", _is("neg"), _inner("abslog")),
    Rule("abslog", "abslog(abs(x)) = abslog(x)", _is("abs"), _inner("abslog")),
    Rule("frobenius", "frobenius(-x) = frobenius(x)", _is("neg"), _inner("frobenius")),
    Rule("frobenius", "frobenius(abs(x)) = frobenius(x)", _is("abs"), _inner("frobenius")),
    Rule("l1_norm", "l1_norm(-x) = l1_norm(x)", _is("neg"), _inner("l1_norm")),
    Rule("l1_norm", "l1_norm(abs(x)) = l1_norm(x)", _is("abs"), _inner("l1_norm")),
    Rule("std", "std(-x) = std(x)", _is("neg"), _inner("std")),
    Rule("sign", "sign(sign(x)) = sign(x)", _is("sign"), _operand(0)),
    Rule("@", "a @ b = a * b for Scalars", _scalar, lambda pool, a: pool.apply(OPS["*"], *a)),
    Rule("+", "0 + x = x", _number(0, 0.0), _operand(1)),
    Rule("+", "x + 0 = x", _number(1, 0.0), _operand(0)),
    Rule("-", "x - 0 = x", _number(1, 0.0), _operand(0)),
    Rule("-", "0 - x = -x", _number(0, 0.0), lambda pool, a: pool.apply(OPS["neg"], a[1])),
    Rule("*", "1 * x = x", _number(0, 1.0), _operand(1)),
    Rule("*", "x * 1 = x", _number(1, 1.0), _operand(0)),
    Rule("/", "x / 1 = x", _number(1, 1.0), _operand(0)),
    Rule("+", "-a + b = b - a", _is("neg"), lambda pool, a: pool.apply(OPS["-"], a[1], a[0].args[0])),
    Rule(
        "+",
        "a + -b = a - b",
        lambda a: a[1].op.name == "neg",
        lambda pool, a: pool.apply(OPS["-"], a[0], a[1].args[0]),
    ),
    Rule(
        "-",
        "a - -b = a + b",
        lambda a: a[1].op.name == "neg",
        lambda pool, a: pool.apply(OPS["+"], a[0], a[1].args[0]),
    ),
)
"""Tried in this order; the first that applies is taken. Each makes an expression smaller, so rewriting ends."""

_BY_OP: dict[str, tuple[Rule, ...]] = {name: tuple(r for r in RULES if r.op == name) for name in OPS}
_LEAF_ORDER = {name: i for i, name in enumerate(STATISTICS)}


def _folded(pool: Pool, op: Op, args: Args) -> Node | None:
    """f(numbers) is a number, where the value is in float32's range; elsewhere it stays as it is written."""
    if not (op.elementwise and all(a.op is NUMBER for a in args)):
        return None
    with np.errstate(all="ignore"):
        value = float(in_range(np.asarray(op.reference(*(np.float64(a.attr) for a in args)))))
    return pool.number(value, args[0].type.kind) if math.isfinite(value) else None


def order_key(node: Node) -> tuple[int, int, bytes]:
    """The order of commutative operands: shallow before deep, statistics as in their table, then by digest."""
    rank = _LEAF_ORDER.get(str(node.attr), 0) if node.op is STATISTIC else -1
    return node.depth, rank, node.digest


def rewrite(pool: Pool, op: Op, args: Args) -> Node | None:
    """Numbers are folded; else the first rule that applies; else commutative operands in their order; else None."""
    folded = _folded(pool, op, args)
    if folded is not None:
        return folded
    for rule in _BY_OP[op.name]:
        if rule.applies(args):
            return rule.rewrite(pool, args)
    if op.commutative and op.form is Form.JOIN and order_key(args[1]) < order_key(args[0]):
        return pool.apply(op, args[1], args[0])
    return None


def canonical_pool() -> Pool:
    """A pool that makes every expression in canonical form."""
    return Pool(rewrite)


def hash_of(node: Node) -> str:
    """The canonical hash: 32 hex digits, the same in every process."""
    return node.digest.hex()
