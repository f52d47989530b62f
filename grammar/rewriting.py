"""What rewrite rules are made of: when a rule applies, and the term that it gives."""

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


def always(pool: CanonicalPool, a: Args) -> bool:
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
    condition: Condition = always
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
    x, y = a
    return y.depth < x.depth if x.depth != y.depth else order_key(y) < order_key(x)


def product_side(name: str, a: int, b: int) -> int:
    """The side of 0 of a product or quotient, see `CanonicalPool.side`."""
    return a * b if name != "/" else a * (b > 0)  # a / 0 has the sign of a, also where b <= 0


def scalar(pool: CanonicalPool, a: Args) -> bool:
    return a[0].type.kind is Kind.SCALAR


def same(pool: CanonicalPool, a: Args) -> bool:
    return a[0] is a[1]


def positive(pool: CanonicalPool, a: Args) -> bool:
    return pool.side(a[0]) > 0


def negative(pool: CanonicalPool, a: Args) -> bool:
    return pool.side(a[0]) < 0


def value(i: int, value: float) -> Condition:
    return lambda pool, a: a[i].attr == value


def below_zero(i: int) -> Condition:
    return lambda pool, a: float(a[i].attr) < 0


def power_of_two(pool: CanonicalPool, a: Args) -> bool:
    value = float(a[1].attr)
    return math.frexp(value)[0] == 0.5 and FLOAT32_TINY <= 1.0 / value <= FLOAT32_MAX


def magnified(pool: CanonicalPool, a: Args) -> bool:
    return pool.magnitude(a[0]) is not a[0]


def absolute(pool: CanonicalPool, a: Args) -> bool:
    """An absolute value, however it is written."""
    return pool.side(a[0]) > 0 and pool.magnitude(a[0]) is not a[0]


def sided(name: str, side: int) -> Condition:
    """A product or quotient of a known side, with an abs that this makes superfluous."""

    def condition(pool: CanonicalPool, a: Args) -> bool:
        x, y = a
        if x.type.kind is Kind.SCORE or (pool.magnitude(x) is x and pool.magnitude(y) is y):
            return False
        return "neg" not in (x.op.name, y.op.name) and product_side(name, pool.side(x), pool.side(y)) == side

    return condition


def operand(i: int) -> Rewrite:
    return lambda pool, a: a[i]


def renamed(name: str) -> Rewrite:
    """Another op on the same operands."""
    return lambda pool, a: (name, *a)


def within(*outer: str) -> Rewrite:
    """f(g(x)) -> outer(x), the outermost op first."""
    return lambda pool, a: called(outer, a[0].args[0])


def called(ops: tuple[str, ...], x: Term) -> Term:
    for f in ops[::-1]:
        x = (f, x)
    return x


def outwards(name: str, i: int) -> Rewrite:
    """f(.., -x, ..) -> -f(.., x, ..)."""
    return lambda pool, a: ("neg", (name, *(("neg", x) if j == i else x for j, x in enumerate(a))))


def unsigned(name: str) -> Rewrite:
    """f(-x, -y) -> f(x, y)."""
    return lambda pool, a: (name, *(x.args[0] for x in a))


def merged(name: str, *outer: str) -> Rewrite:
    """name(a, ..) -> outer(name(|a|, ..)), with magnitudes for the operands."""
    return lambda pool, a: called(outer, (name, *map(pool.magnitude, a)))


Match = Callable[["CanonicalPool", Node, Node], bool]


def times(f: str, y: str, g: str, match: Match) -> tuple[Rule, Rule]:
    """f(x) * y -> g(x), or x, in both orders of the factors, where x and y match. ``y``: in words."""
    result = f"{g}(x)" if g else "x"
    where = "" if y != "y" else " where y = abs(x)"

    def way(i: int) -> tuple[Rewrite, Condition]:
        """With f(x) as factor i."""
        return (
            lambda pool, a: (g, a[i].args[0]) if g else a[i].args[0],
            lambda pool, a: match(pool, a[i].args[0], a[1 - i]),
        )

    (rewrite, condition), (mirrored, other) = way(0), way(1)
    return (
        Rule("*", f"{f}(x) * {y} = {result}{where}", rewrite, f, "", condition),
        Rule("*", f"{y} * {f}(x) = {result}{where}", mirrored, "", f, other),
    )


def call_of(g: str) -> Match:
    return lambda pool, x, y: y.op.name == g and y.args[0] is x


def absolute_of(pool: CanonicalPool, x: Node, y: Node) -> bool:
    return pool.side(y) > 0 and pool.magnitude(x) is pool.magnitude(y)
