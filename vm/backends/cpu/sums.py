"""Sums that need no sweep of their own: Σ (a + s) follows from Σ a, Σ (a @ b) from sums of columns and of rows.

A rule is exact while every element is in float32's range, which `BOUNDS` proves; what is outside is computed as a
whole. The rules are written once, against `Known`: a planner answers with what it has to prepare, a group of layers
with values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....grammar.reference import FLOAT32_MAX
from ..values import Value
from .emit import ABSOLUTES, PRODUCTS, SQUARES

Array = NDArray[np.float64]

PRODUCT = "matmul.mm"


class Known(Protocol):
    """What a rule may ask for, each ``[T]``; ``x`` is the number of a value."""

    def sum(self, x: int, within: int) -> Array:
        """Σ x; of a Scalar the Scalar times the elements of the Matrix ``within`` that it is a part of."""

    def scalar(self, x: int) -> Array:
        """A Scalar."""

    def total(self, kind: int, *matrices: int) -> Array:
        """A total of all elements."""

    def affine(self, x: int) -> tuple[Array, Array]:
        """s and t of x = (a - s) t."""

    def count(self, x: int) -> Array:
        """The number of elements."""

    def over_columns(self, x: int, function: Callable[[Array, Array], Array]) -> Array:
        """The sum over the columns of a function of their largest element and their sum of exp(element - largest)."""

    def rows(self, x: int) -> Array:
        """The number of rows."""

    def finite(self, x: int) -> bool:
        """Whether it is proven that all elements of a Matrix are finite."""

    def inner(self, a: int, b: int) -> Array:
        """The sum over k of (the sum of column k of a) times (the sum of row k of b)."""


Rule = Callable[[Known, int, Value], Array]
TOTALS = {"abs.m": ABSOLUTES, "square.m": SQUARES, "mul.mm": PRODUCTS}
"""Σ x that is a total of the operands, by the opcode of x."""
TERMS: dict[str, np.ufunc] = {
    "neg.m": np.negative,
    **dict.fromkeys(("add.mm", "add.ms", "add.sm"), np.add),
    **dict.fromkeys(("sub.mm", "sub.ms", "sub.sm"), np.subtract),
}
"""How Σ x follows from the sums of the operands, by the opcode of x."""


def _total(known: Known, x: int, v: Value) -> Array:
    return known.total(TOTALS[v.name], *v.args)


def _terms(known: Known, x: int, v: Value) -> Array:
    return np.asarray(TERMS[v.name](*(known.sum(a, x) for a in v.args)))


def _times(known: Known, x: int, v: Value) -> Array:
    matrix, scalar = v.args if v.name == "mul.ms" else v.args[::-1]
    return known.sum(matrix, x) * known.scalar(scalar)


def _normalized(known: Known, x: int, v: Value) -> Array:
    if known.finite(v.args[0]):  # no pass over the data tells more
        return known.count(x) * 0.0
    mean, scale = known.affine(x)
    return (mean + scale) * 0.0  # NaN where it has no value


def _log_softmax(known: Known, x: int, v: Value) -> Array:
    (a,) = v.args
    rows = known.rows(a)
    total = known.sum(a, x) - rows * known.over_columns(a, lambda largest, sums: largest + np.log(sums))
    return np.where(rows == 1, total * 0.0, total)


SUMS: dict[str, Rule] = {
    "identity.m": lambda known, x, v: known.sum(v.args[0], x),
    **dict.fromkeys(TOTALS, _total),
    **dict.fromkeys(TERMS, _terms),
    "mul.ms": _times,
    "mul.sm": _times,
    "div.ms": lambda known, x, v: known.sum(v.args[0], x) / known.scalar(v.args[1]),
    "normalize.m": _normalized,
    "softmax.m": lambda known, x, v: known.over_columns(v.args[0], lambda largest, sums: sums / sums),
    "log_softmax.m": _log_softmax,
    PRODUCT: lambda known, x, v: known.inner(*v.args),
}
"""Σ x by the opcode of x. What rounding leaves of 0 is 0: the sum of normalize(a)."""
LARGEST: dict[str, Callable[[Array], Array]] = {
    "softmax.m": lambda sums: 1.0 / sums,
    "log_softmax.m": lambda sums: -np.log(sums),
}
"""The largest element of a column by the opcode, of the column's sum of exp(element of the operand - its largest)."""
UNGUARDED = frozenset(("identity.m", "neg.m", "abs.m", "normalize.m", "softmax.m"))
"""Rules that hold whatever the operand: no element can leave the range."""
LINEAR = frozenset(f"{name}.{kinds}" for name in ("add", "sub", "mul", "div") for kinds in ("mm", "ms", "sm")) - {
    "mul.mm",
    "div.mm",
    "div.sm",
} | {"identity.m", "neg.m"}
"""Rules that ask for the sums of their operands: what these ask for is there too."""
SHRINKING = frozenset(SUMS) - UNGUARDED - {"log_softmax.m"}
"""Rules of ops whose elements can be below float32's range where those of the operands are not: those of a difference
too, of elements that are hardly in it. An element of log_softmax that small is nothing beside another of its column."""

_LOG = 89.0
"""No logarithm of a number in float32's range is larger."""
_ROOT = 1e6
"""The square root of the number of elements is no larger: a bound of (x - mean)/std."""
_MODERATE = 1e3
"""Σ log_softmax(a) is a difference of sums of a: so large may its elements be, or too many digits cancel."""


def _unit(x: Any) -> Any:
    return np.ones_like(x)


def _exp(x: Any) -> Any:
    return np.exp(np.minimum(x, 2 * _LOG))


BOUNDS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("identity.m", "abs.m", "neg.m", "relu.m", "leaky_relu.m", "mish.m"), lambda a: a),
    **dict.fromkeys(("sigmoid.m", "softmax.m", "tanh.m", "sign.m", "heaviside.m", "min_max.m"), _unit),
    **dict.fromkeys(("log.m", "abslog.m"), lambda a: _unit(a) * _LOG),
    "log_softmax.m": lambda a: np.where(a <= _MODERATE, 2.0 * a + _LOG, np.inf),
    "normalize.m": lambda a: _unit(a) * _ROOT,
    "sqrt.m": np.sqrt,
    "square.m": np.square,
    "pow4.m": lambda a: np.square(np.square(a)),
    "exp.m": _exp,
    **{f"{name}.{kinds}": np.add for name in ("add", "sub") for kinds in ("mm", "ms", "sm")},
    **{f"mul.{kinds}": np.multiply for kinds in ("mm", "ms", "sm")},
    "div.ms": np.divide,
}
"""Bounds of the absolute value of an element from those of the operands (of a Scalar: its absolute value). Other ops
are not bounded."""


def in_bounds(bound: Any) -> Any:
    """A bound beyond float32's largest number becomes inf: so may the element."""
    return np.where(bound > FLOAT32_MAX, np.inf, bound)
