"""The rewrite rules of the canonical form, one line each with its algebra.

A rule holds for every input: zeros, negatives, huge, tiny and non-finite values, matrices and Scalars. Both sides are
the same float64 number, bit by bit, except where ``rounding`` says that their last digits may differ. So these are no
rules: ``sqrt(square(x)) = abs(x)`` (the square leaves float32's range where x does not), regrouped sums and products
(what cancels or overflows on the way differs), ``a / -b = -(a / b)`` (not where b is 0), ``softmax(mean(x)) = 1`` (not
where x is infinite), ``mean(x) = normalized_sum(x)`` (it has an epsilon).

Signs move outwards (``mean(-x) = -mean(x)``) and the operands of ``+ - *`` stand in one order (``b - a = -(a - b)``):
what does not see the sign (``abs(b - a)``) loses it.

Rewriting ends: every rule lowers a measure. It is confluent: in whatever order rules are taken, the result is the same
(but for parts that are 0 for every input, as ``x - x``, and numbers that overflow). Tests prove both, rule by rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .expr import Node
from .ops import STATISTIC
from .reference import FLOAT32_MAX, FLOAT32_TINY
from .types import STATISTICS, Kind

if TYPE_CHECKING:
    from .canonical import CanonicalPool

Args = tuple[Node, ...]
Condition = Callable[["CanonicalPool", Args], bool]
Term = Node | tuple[Any, ...]
"""A node that is there, or (op, operand, ..) with terms for the operands."""
Rewrite = Callable[["CanonicalPool", Args], Term]


def _always(pool: CanonicalPool, a: Args) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """``algebra`` is the rule in words (``s`` a Scalar, ``c`` a number), ``rewrite`` gives the new term.

    It applies to ``op`` where the ops of its operands are ``first`` and ``second`` (if given) and the ``condition``
    holds. ``rounding``: the two sides may differ in their last digits.
    """

    op: str
    algebra: str
    rewrite: Rewrite
    first: str = ""
    second: str = ""
    condition: Condition = _always
    rounding: bool = False

    def fits(self, names: tuple[str, ...]) -> bool:
        """Whether the ops of the operands are those that it asks for."""
        return all(asked in ("", name) for asked, name in zip((self.first, self.second), names, strict=False))

    def applies(self, pool: CanonicalPool, a: Args) -> bool:
        """Whether it applies to its op on these operands."""
        return self.fits(tuple(x.op.name for x in a)) and self.condition(pool, a)


_LEAF_ORDER = {name: i for i, name in enumerate(STATISTICS)}


def order_key(node: Node) -> tuple[int, int, int, bytes]:
    """The order of operands: shallow before deep, Scalars before matrices, statistics as in their table, by digest."""
    rank = _LEAF_ORDER.get(str(node.attr), 0) if node.op is STATISTIC else -1
    return node.depth, -node.type.kind, rank, node.digest


def unordered(pool: CanonicalPool, a: Args) -> bool:
    """Whether the second operand comes first."""
    return order_key(a[1]) < order_key(a[0])


def product_side(name: str, a: int, b: int) -> int:
    """The side of 0 of a product or quotient, see `CanonicalPool.side`."""
    return a * b if name != "/" else a * (b > 0)  # a / 0 has the sign of a, also where b <= 0


def _scalar(pool: CanonicalPool, a: Args) -> bool:
    return a[0].type.kind is Kind.SCALAR


def _same(pool: CanonicalPool, a: Args) -> bool:
    return a[0] is a[1]


def _positive(pool: CanonicalPool, a: Args) -> bool:
    return pool.side(a[0]) > 0


def _negative(pool: CanonicalPool, a: Args) -> bool:
    return pool.side(a[0]) < 0


def _value(i: int, value: float) -> Condition:
    return lambda pool, a: a[i].attr == value


def _below_zero(i: int) -> Condition:
    return lambda pool, a: float(a[i].attr) < 0


def _power_of_two(pool: CanonicalPool, a: Args) -> bool:
    value = float(a[1].attr)
    return math.frexp(value)[0] == 0.5 and FLOAT32_TINY <= 1.0 / value <= FLOAT32_MAX


def _magnified(pool: CanonicalPool, a: Args) -> bool:
    return any(pool.magnitude(x) is not x for x in a)


def _absolute(pool: CanonicalPool, a: Args) -> bool:
    """An absolute value, however it is written."""
    return pool.side(a[0]) > 0 and pool.magnitude(a[0]) is not a[0]


def _sided(name: str, side: int) -> Condition:
    """A product or quotient of a known side, with an abs that this makes superfluous."""
    return lambda pool, a: (
        all(x.type.kind is not Kind.SCORE and x.op.name != "neg" for x in a)
        and _magnified(pool, a)
        and product_side(name, *map(pool.side, a)) == side
    )


def _operand(i: int) -> Rewrite:
    return lambda pool, a: a[i]


def _as(name: str) -> Rewrite:
    """Another op on the same operands."""
    return lambda pool, a: (name, *a)


def _within(*outer: str) -> Rewrite:
    """f(g(x)) -> outer(x), the outermost op first."""
    return lambda pool, a: _called(outer, a[0].args[0])


def _called(ops: tuple[str, ...], x: Term) -> Term:
    for f in ops[::-1]:
        x = (f, x)
    return x


def _outwards(name: str, i: int) -> Rewrite:
    """f(.., -x, ..) -> -f(.., x, ..)."""
    return lambda pool, a: ("neg", (name, *(("neg", x) if j == i else x for j, x in enumerate(a))))


def _unsigned(name: str) -> Rewrite:
    """f(-x, -y) -> f(x, y)."""
    return lambda pool, a: (name, *(x.args[0] for x in a))


def _merged(name: str, *outer: str) -> Rewrite:
    """name(a, ..) -> outer(name(|a|, ..)), with magnitudes for the operands."""
    return lambda pool, a: _called(outer, (name, *map(pool.magnitude, a)))


_Match = Callable[["CanonicalPool", Node, Node], bool]


def _times(f: str, algebra: str, match: _Match, g: str) -> Rule:
    """f(x) * y -> g(x), or x, in either order of the factors, where x and y match."""

    def found(pool: CanonicalPool, a: Args) -> Node | None:
        for fx, y in (a, a[::-1]):
            if fx.op.name == f and match(pool, fx.args[0], y):
                return fx.args[0]
        return None

    def condition(pool: CanonicalPool, a: Args) -> bool:
        return f in (a[0].op.name, a[1].op.name) and found(pool, a) is not None

    def rewrite(pool: CanonicalPool, a: Args) -> Term:
        x = found(pool, a)
        assert x is not None
        return (g, x) if g else x

    return Rule("*", algebra, rewrite, condition=condition)


def _call_of(g: str) -> _Match:
    return lambda pool, x, y: y.op.name == g and y.args[0] is x


def _absolute_of(pool: CanonicalPool, x: Node, y: Node) -> bool:
    return pool.side(y) > 0 and pool.magnitude(x) is pool.magnitude(y)


_EVEN = ("abs", "square", "pow4", "abslog", "frobenius", "l1_norm")
"""What depends on abs(x) alone."""
_SYMMETRIC = ("std", "gram", "layer_std")
"""What is the same of x and -x."""
_ODD = ("sign", "tanh", "mean", "sum", "normalized_sum", "normalize", "layer_mean", "layer_sum")
"""What is the opposite of -x."""
_MIRRORED = (("min", "max"), ("max", "min"), ("layer_min", "layer_max"), ("layer_max", "layer_min"))
_RISING = ("sign", "heaviside", "relu", "sqrt", "leaky_relu")
"""What never falls where x rises, exactly."""
_GROWING = ("exp", "sigmoid", "tanh")
"""What never falls where x rises, but for its last digits."""

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("identity", "identity(x) = x", _operand(0)),
    # one number in every layer
    *(Rule(f, f"{f}(s) = s", _operand(0), condition=_scalar) for f in ("mean", "sum", "min", "max", "normalized_sum")),
    *(Rule(f, f"{f}(s) = abs(s)", _as("abs"), condition=_scalar) for f in ("l1_norm", "frobenius", "nuclear_norm")),
    Rule("gram", "gram(s) = square(s)", _as("square"), condition=_scalar),
    Rule("@", "s @ t = s * t", _as("*"), condition=_scalar),
    Rule("dot", "dot(s, t) = s * t", _as("*"), condition=_scalar),
    # signs move outwards
    Rule("neg", "-(-x) = x", lambda pool, a: a[0].args[0], "neg"),
    *(Rule(f, f"{f}(-x) = {f}(x)", _within(f), "neg") for f in (*_EVEN, *_SYMMETRIC)),
    Rule("nuclear_norm", "nuclear_norm(-x) = nuclear_norm(x)", _within("nuclear_norm"), "neg", rounding=True),
    *(Rule(f, f"{f}(-x) = -{f}(x)", _within("neg", f), "neg") for f in _ODD),
    *(Rule(f, f"{f}(-x) = -{g}(x)", _within("neg", g), "neg") for f, g in _MIRRORED),
    *(Rule(f, f"-a {f} -b = a {f} b", _unsigned(f), "neg", "neg") for f in "*@"),
    Rule("dot", "dot(-a, -b) = dot(a, b)", _unsigned("dot"), "neg", "neg"),
    *(Rule(f, f"-a {f} b = -(a {f} b)", _outwards(f, 0), "neg") for f in "*/@"),
    *(Rule(f, f"a {f} -b = -(a {f} b)", _outwards(f, 1), "", "neg") for f in "*@"),
    *(Rule(f, f"-c {f} b = -(c {f} b)", _outwards(f, 0), "number", condition=_below_zero(0)) for f in "*/"),
    *(Rule(f, f"a {f} -c = -(a {f} c)", _outwards(f, 1), "", "number", _below_zero(1)) for f in "*/"),
    Rule("dot", "dot(-a, b) = -dot(a, b)", _outwards("dot", 0), "neg"),
    Rule("dot", "dot(a, -b) = -dot(a, b)", _outwards("dot", 1), "", "neg"),
    *(Rule(f, f"{f}(-sign(x)) = heaviside(-x)",
           lambda pool, a: ("heaviside", ("neg", a[0].args[0].args[0])), "neg",
           condition=lambda pool, a: a[0].args[0].op.name == "sign") for f in ("relu", "sqrt", "heaviside")),
    # what is on one side of 0
    *(Rule(f, f"{f}(x) = x where x >= 0", _operand(0), condition=_positive) for f in ("abs", "relu", "leaky_relu")),
    Rule("abs", "abs(x) = -x where x <= 0", _as("neg"), condition=_negative),
    Rule("heaviside", "heaviside(x) = sign(x) where x >= 0", _as("sign"), condition=_positive),
    Rule("l1_norm", "l1_norm(x) = normalized_sum(x) where x >= 0", _as("normalized_sum"), condition=_positive),
    Rule("l1_norm", "l1_norm(x) = -normalized_sum(x) where x <= 0",
         lambda pool, a: ("neg", ("normalized_sum", a[0])), condition=_negative),
    Rule("normalized_sum", "normalized_sum(x) = l1_norm(y) where x = abs(y)", _merged("l1_norm"), condition=_absolute),
    # absolute values
    *(Rule(f, f"{f}(x) = {f}(y) where abs(x) = abs(y), as of a * abs(b) and a * b", _merged(f), condition=_magnified)
      for f in _EVEN),
    *(Rule(f, f"x = abs(y) where x = a {f} b >= 0 and abs(x) = abs(y), as of abs(a) {f} abs(b) and a {f} b",
           _merged(f, "abs"), condition=_sided(f, 1)) for f in "*/"),
    *(Rule(f, f"x = -abs(y) where x = a {f} b <= 0 and abs(x) = abs(y)", _merged(f, "neg", "abs"),
           condition=_sided(f, -1)) for f in "*/"),
    Rule("abs", "abs(tanh(x)) = tanh(abs(x))", _within("tanh", "abs"), "tanh"),
    *(Rule(f, f"{f}(sign(x)) = sign(abs(x))", _within("sign", "abs"), "sign") for f in ("abs", "square", "pow4")),
    # one op that says less than the other
    *(Rule(f, f"{f}({g}(x)) = {f}(x)", _within(f), g) for f, g in (
        ("relu", "leaky_relu"), ("sqrt", "relu"), ("sqrt", "leaky_relu"), ("heaviside", "relu"),
        ("heaviside", "leaky_relu"), ("heaviside", "sqrt"), ("heaviside", "sign"), ("sign", "sign"))),
    *(Rule(f, f"{f}({g}(x)) = {g}(x)", _operand(0), g) for f, g in (
        ("sign", "heaviside"), ("sqrt", "heaviside"), ("square", "heaviside"), ("pow4", "heaviside"))),
    *(Rule(f, f"{f}({g}(x)) = heaviside(x)", _within("heaviside"), g) for f, g in (
        ("sign", "relu"), ("sign", "sqrt"), ("relu", "sign"), ("sqrt", "sign"))),
    *(Rule(f, f"{f}(log_softmax(x)) = {f}(x)", _within(f), "log_softmax", rounding=True)
      for f in ("softmax", "log_softmax")),
    Rule("square", "square(square(x)) = pow4(x)", _within("pow4"), "square"),
    Rule("pow4", "pow4(square(x)) = square(pow4(x))", _within("square", "pow4"), "square"),
    # the smallest and the largest element
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(x))", _within(g, f), g) for f in ("min", "max") for g in _RISING),
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(x))", _within(g, f), g, rounding=True) for f in ("min", "max") for g in _GROWING),
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(abs(x)))", _within(g, f, "abs"), g)
      for f in ("min", "max") for g in ("square", "pow4")),
    Rule("min", "min(log(x)) = log(min(x))", _within("log", "min"), "log", rounding=True),
    # numbers
    Rule("+", "0 + x = x", _operand(1), "number", condition=_value(0, 0.0)),
    Rule("+", "x + 0 = x", _operand(0), "", "number", _value(1, 0.0)),
    Rule("-", "x - c = -c + x", lambda pool, a: ("+", ("neg", a[1]), a[0]), "", "number"),
    Rule("-", "c - x = -(-c + x)", lambda pool, a: ("neg", ("+", ("neg", a[0]), a[1])), "number"),
    Rule("*", "1 * x = x", _operand(1), "number", condition=_value(0, 1.0)),
    Rule("*", "x * 1 = x", _operand(0), "", "number", _value(1, 1.0)),
    Rule("/", "x / 1 = x", _operand(0), "", "number", _value(1, 1.0)),
    Rule("/", "x / c = (1/c) * x where c is a power of 2",
         lambda pool, a: ("*", pool.like(a[0], 1.0 / float(a[1].attr)), a[0]), "", "number", _power_of_two),
    # sums, differences and products
    Rule("+", "-a + b = b - a", lambda pool, a: ("-", a[1], a[0].args[0]), "neg"),
    Rule("+", "a + -b = a - b", lambda pool, a: ("-", a[0], a[1].args[0]), "", "neg"),
    Rule("-", "a - -b = a + b", lambda pool, a: ("+", a[0], a[1].args[0]), "", "neg"),
    Rule("-", "-a - b = -(a + b)", lambda pool, a: ("neg", ("+", a[0].args[0], a[1])), "neg"),
    Rule("-", "b - a = -(a - b) where a comes first",
         lambda pool, a: ("neg", ("-", a[1], a[0])), condition=unordered),
    Rule("+", "x + x = 2 * x", lambda pool, a: ("*", pool.like(a[0], 2.0), a[0]), condition=_same),
    Rule("*", "x * x = square(x)", lambda pool, a: ("square", a[0]),
         condition=lambda pool, a: a[0] is a[1] and a[0].type.kind is not Kind.SCORE),
    _times("sign", "sign(x) * x = abs(x)", lambda pool, x, y: y is x, "abs"),
    *(_times(f, f"{f}(x) * {g}(x) = {g}(x)", _call_of(g), g) for f in ("sign", "heaviside") for g in ("relu", "sqrt")),
    _times("sign", "sign(x) * y = x where y = abs(x)", _absolute_of, ""),
)
# fmt: on
"""Tried in this order; the first that applies is taken."""
