"""How the ops that are no elementwise instruction are computed: from totals, from statistics of columns, as a whole.

An op on a Matrix that is in none of these tables, nor in `kernels.KERNELS`, is computed on whole segments by its
reference function: `@`, decompositions, and what a user registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....grammar.reference import EPS
from .emit import ABSOLUTES, LOG_SOFTMAX, MAX, MEAN, MIN, PRODUCTS, SOFTMAX, SQUARES, SUM
from .kernels import KERNELS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Totals:
    """A value from totals of all elements. ``kinds``: which. ``value``: of them and the number of elements, each
    ``[T]``; the mean comes as two totals: the mean itself, and the sum of squared deviations from it.
    """

    kinds: tuple[int, ...]
    value: Callable[..., Array]


def _std(mean: Array, deviations: Array, count: Array) -> Array:
    return np.where(count > 1, np.sqrt(deviations / np.maximum(count - 1, 1)), np.nan)


REDUCTIONS: dict[str, Totals] = {
    "sum.m": Totals((SUM,), lambda x, count: x),
    "mean.m": Totals((SUM,), lambda x, count: x / count),
    "normalized_sum.m": Totals((SUM,), lambda x, count: x / (count + EPS)),
    "l1_norm.m": Totals((ABSOLUTES,), lambda x, count: x / (count + EPS)),
    "frobenius.m": Totals((SQUARES,), lambda x, count: np.sqrt(x)),
    "std.m": Totals((MEAN,), _std),
    "min.m": Totals((MIN,), lambda x, count: x),
    "max.m": Totals((MAX,), lambda x, count: x),
    "dot.mm": Totals((PRODUCTS,), lambda x, count: x),
}
"""The ops that reduce, by opcode."""


def _scale(mean: Array, deviations: Array, low: Array, high: Array, count: Array) -> Array:
    """1/std, and 0 where all elements are one number: 0 times what rounding leaves, and NaN where it is not finite."""
    return np.where((low == high) | (count < 2), 0.0, 1.0 / _std(mean, deviations, count))


AFFINE: dict[str, tuple[Totals, Totals]] = {
    "normalize.m": (
        Totals((MEAN, MIN, MAX), lambda mean, deviations, low, high, count: mean),
        Totals((MEAN, MIN, MAX), _scale),
    ),
    "min_max.m": (
        Totals((MIN,), lambda low, count: low),
        Totals((MIN, MAX), lambda low, high, count: 1.0 / (high - low + EPS)),
    ),
}
"""The ops (x - s) t, and how s and t come from totals of x."""


def _inverse(sums: Array) -> Array:
    return 1.0 / sums


COLUMNWISE: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "softmax.m": (SOFTMAX, _inverse),
    "log_softmax.m": (LOG_SOFTMAX, np.log),
}
"""The ops that know their column: the variant of the instruction, and its factor from the column's sum."""

ELEMENTWISE = {name: number for number, name in enumerate(KERNELS)}
"""The elementwise instructions by opcode, those of `AFFINE` among them."""


def _no_change(x: Array) -> Array:
    return x - x


SCALARS: dict[str, Callable[..., Array]] = {
    "softmax.s": lambda x: np.exp(x - x),
    "log_softmax.s": _no_change,
    "normalize.s": lambda x: (x - x) * 0.0,
    "min_max.s": lambda x: (x - x) / (x - x + EPS),
    **dict.fromkeys(("sum.s", "mean.s", "normalized_sum.s", "min.s", "max.s"), lambda x: x),
    **dict.fromkeys(("l1_norm.s", "nuclear_norm.s"), np.abs),
    "frobenius.s": lambda x: np.sqrt(x * x),
    "gram.s": np.square,
    "slogdet.s": lambda x: np.log(x * x * (1.0 + EPS)),
    "matmul.ss": np.multiply,
    "dot.ss": np.multiply,
}
"""Ops on Scalars of many layers ``[T]`` that are not elementwise by the op table, but the same on one number."""
