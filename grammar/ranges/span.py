"""What is known of a value: bounds, single elements that exist, moments. How they narrow one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ..reference import FLOAT32_MAX, FLOAT32_TINY

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Interval = tuple[Array, Array]

ROUNDING = 1e-13
"""Relative rounding error that any backend may have made in one operation, reductions included."""
HALF_RANGE = 0.70711
"""The unbiased std of numbers in an interval is at most this part of its width (two numbers at its ends)."""
ALL, SMALLEST, LARGEST, ABOVE, BELOW = range(5)
"""Rows of a `Span`: all elements; then single ones that exist: the smallest, the largest; of a statistic the smallest
positive (or 0) and the largest negative one, and what became of them. Then the witnesses."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is known of B values in C contexts.

    ``lo``, ``hi`` ``[R, B, C]``: row `ALL` bounds every element, each other row one element that exists; the rows from
    `BELOW` + 1 on are witnesses, at the same places in all statistics of one type. A
    Scalar or Score has one row. ``mean``, ``std`` (unbiased),
    ``mean_abs`` (of absolute values): ``[2, B, C]``, lower and upper bound. ``gap`` ``[B, C]``: no absolute value is
    below it, but for 0 where ``zero`` ``[B, C]`` says that it may occur. ``nan`` ``[B, C]``: some element is NaN.
    """

    lo: Array
    hi: Array
    mean: Array
    std: Array
    mean_abs: Array
    gap: Array
    zero: Flags
    nan: Flags

    @property
    def low(self) -> Array:
        """No element is smaller, ``[B, C]``."""
        return np.asarray(self.lo[ALL])

    @property
    def high(self) -> Array:
        """No element is larger."""
        return np.asarray(self.hi[ALL])

    @property
    def least(self) -> Array:
        """The smallest element is at most this."""
        return np.asarray(self.hi[SMALLEST if len(self.hi) > 1 else ALL])

    @property
    def most(self) -> Array:
        """The largest element is at least this."""
        return np.asarray(self.lo[LARGEST if len(self.lo) > 1 else ALL])

    @staticmethod
    def joined(spans: Sequence[Span]) -> Span:
        """The values of several spans, one after another."""
        parts = ((getattr(s, f.name) for s in spans) for f in fields(Span))
        return Span(*(np.concatenate(list(p), axis=-2) for p in parts))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lower and upper bounds ``[2, B, C]`` of the axes of the operands, first and last, and of the number of layers.

    ``scalar``: for each operand, whether it is a Scalar (or Score) and not a Matrix: then its axes are 1.
    ``networks``: where the contexts are all layers of all networks, one after another, the first of each network.
    """

    rows: tuple[Array, ...]
    cols: tuple[Array, ...]
    layers: Array
    scalar: tuple[bool, ...]
    networks: NDArray[np.intp] | None = None

    @property
    def elements(self) -> Array:
        """Elements of the first operand, ``[2, B, C]``."""
        return np.asarray(self.rows[0] * self.cols[0])

    @property
    def joined(self) -> Array:
        """Elements of a result of two operands of which one may be a Scalar, ``[2, B, C]``."""
        return np.asarray(self.rows[1] * self.cols[1]) if self.scalar[0] else self.elements


RangeRule = Callable[[tuple[Span, ...], Sizes], Span]
"""A transfer rule: what is known of the operands -> what is known of the result."""
Map = Callable[[Array, Array, Array, Flags], Interval]
"""An elementwise function on intervals ``[lo, hi]``, given gap and zero of all elements (see `Span`)."""


def in_range(x: Array) -> Array:
    """Bounds as float32's range makes them, see `reference.in_range`; NaN stays."""
    size = np.abs(x)
    large, small = size > FLOAT32_MAX, size < FLOAT32_TINY
    if large.any():
        x = np.where(large, np.copysign(np.inf, x), x)
    return np.where(small, 0.0, x) if small.any() else x


def settled(x: Array, value: float) -> Array:
    """With a value where nothing is known (NaN)."""
    unknown = np.isnan(x)
    return np.where(unknown, value, x) if unknown.any() else x


def down(x: Array) -> Array:
    return x * np.where(x > 0, 1 - ROUNDING, 1 + ROUNDING)


def up(x: Array) -> Array:
    return x * np.where(x > 0, 1 + ROUNDING, 1 - ROUNDING)


def bounded(lo: Array, hi: Array, *, exact: bool = False) -> Interval:
    """Widened by rounding, in range; where nothing is known (NaN) everything is possible."""
    lo, hi = (in_range(lo), in_range(hi)) if exact else (in_range(down(lo)), in_range(up(hi)))
    return settled(lo, -np.inf), settled(hi, np.inf)


def build(
    rows: Interval,
    nan: Flags,
    n: Array,
    mean: Interval | None = None,
    std: Interval | None = None,
    mean_abs: Interval | None = None,
    gap: tuple[Array, Flags] | None = None,
    exact: bool = False,
) -> Span:
    """The span of computed rows of ``n`` elements; what is not given follows from the rest.

    ``mean``, ``std``, ``mean_abs`` need not care for elements that leave float32's range. ``gap``: see `Span`.
    ``exact``: the op is rounded correctly, or not at all, so a bound needs no room for rounding.
    """
    lo, hi = (x if x.flags.writeable else x.copy() for x in bounded(*rows, exact=exact))
    least_size, zero = _apart(lo, hi, gap, exact=exact)
    if len(lo) == 1:
        return _single(lo, hi, least_size, zero, nan)
    low, high, most_of = lo[ALL], hi[ALL], n[1]
    least, most = hi[1:].min(axis=0), lo[1:].max(axis=0)
    finite = np.isfinite(low) & np.isfinite(high)
    largest = np.maximum(np.abs(low), np.abs(high))
    slack = np.where(finite, largest, 0.0) * ROUNDING + FLOAT32_TINY
    with np.errstate(invalid="ignore"):  # a single element moves the mean by its part
        floor = np.where(finite, low + np.maximum(most - low, 0.0) / most_of, low)
        ceiling = np.where(finite, high - np.maximum(high - least, 0.0) / most_of, high)
    mean_lo, mean_hi = _moment(mean, floor - slack, ceiling + slack, slack, low, high, finite)
    infinite = most == np.inf, least == -np.inf
    mean_lo, mean_hi = np.where(infinite[0], np.inf, mean_lo), np.where(infinite[1], -np.inf, mean_hi)
    lo[LARGEST] = np.maximum(most, np.where(finite, mean_lo - slack, low))
    hi[SMALLEST] = np.minimum(least, np.where(finite, mean_hi + slack, high))
    lo[SMALLEST], hi[LARGEST] = low, high
    with np.errstate(invalid="ignore"):
        width = np.where(finite, high - low, np.inf)
        apart = np.where(finite, np.maximum(most - least, 0.0) / np.sqrt(2.0 * most_of), 0.0)
    most_std = np.where(whole(low, high), 0.0, width * HALF_RANGE + slack)
    std_lo, std_hi = _moment(std, np.maximum(apart - slack, 0.0), most_std, slack, 0.0, np.inf, finite)
    magnitude = np.where(zero, 0.0, least_size)
    abs_lo, abs_hi = _moment(mean_abs, magnitude, largest, slack, 0.0, largest, finite)
    abs_lo = np.maximum(abs_lo, np.where(finite, np.maximum(mean_lo, -mean_hi) - slack, abs_lo))
    abs_hi = np.where(low >= 0, np.minimum(abs_hi, mean_hi), np.where(high <= 0, np.minimum(abs_hi, -mean_lo), abs_hi))
    abs_lo = np.where(infinite[0] | infinite[1], np.inf, abs_lo)
    sizes = np.stack((abs_lo, abs_hi))
    return Span(lo, hi, np.stack((mean_lo, mean_hi)), np.stack((std_lo, std_hi)), sizes, least_size, zero, nan)


def _apart(lo: Array, hi: Array, given: tuple[Array, Flags] | None, *, exact: bool) -> tuple[Array, Flags]:
    """Gap and zero of the result; they narrow the bounds of all elements."""
    low, high = lo[ALL], hi[ALL]
    size, zero = np.maximum(np.maximum(low, -high), FLOAT32_TINY), (low <= 0) & (high >= 0)
    if given is None:
        return size, zero
    least = given[0] if exact else down(given[0])
    gap = np.maximum(np.maximum(in_range(least), FLOAT32_TINY), size)
    zero &= given[1] | (least < FLOAT32_TINY)
    lo[ALL] = np.where((low >= 0) & ~zero, np.maximum(low, gap), low)
    hi[ALL] = np.where((high <= 0) & ~zero, np.minimum(high, -gap), high)
    return gap, zero


def _moment(
    given: Interval | None, low: Array, high: Array, slack: Array, least: Array | float, most: Array | float,
    finite: Flags,
) -> Interval:  # fmt: skip
    """A moment between its own bounds and those that follow from the elements."""
    lo, hi = low, high
    if given is not None:
        lo, hi = settled(given[0], -np.inf), settled(given[1], np.inf)
        lo, hi = np.maximum(down(lo) - slack, low), np.minimum(up(hi) + slack, high)
    return np.where(finite, np.maximum(lo, least), low), np.where(finite, np.minimum(hi, most), high)


def _single(lo: Array, hi: Array, gap: Array, zero: Flags, nan: Flags) -> Span:
    """One number: it is its own mean."""
    low, high = lo[ALL], hi[ALL]
    size = np.where(zero, 0.0, gap), np.maximum(np.abs(low), np.abs(high))
    return Span(lo, hi, np.stack((low, high)), np.zeros((2, *low.shape)), np.stack(size), gap, zero, nan)


def within(low: Array, high: Array) -> Span:
    """Scalars between bounds ``[B, C]``."""
    size = np.where(low * high < 0, 0.0, np.minimum(np.abs(low), np.abs(high)))
    gap, zero = np.maximum(size, FLOAT32_TINY), (low <= 0) & (high >= 0)
    return _single(low[None], high[None], gap, zero, np.zeros(low.shape, np.bool_))


def scalar_of(interval: Interval, like: Span, nan: Flags, *, exact: bool | Flags = False) -> Span:
    """A Scalar between bounds that are not yet widened for rounding."""
    lo, hi = bounded(*interval, exact=exact is True)
    if not isinstance(exact, bool) and exact.any():
        free = bounded(*interval, exact=True)
        lo, hi = np.where(exact, free[0], lo), np.where(exact, free[1], hi)
    return replace(within(lo, hi), nan=nan)


def whole(low: Array, high: Array) -> Flags:
    """Where all elements are one whole number, whose sums are exact."""
    return np.asarray((low == high) & (low == np.rint(low)) & (np.abs(low) <= 2**20))


def never(x: Span) -> Flags:
    return np.zeros(x.nan.shape, np.bool_)


def infinite(x: Span) -> Flags:
    """Where some element is infinite."""
    return np.asarray((x.most == np.inf) | (x.least == -np.inf))


def zeros(x: Span) -> Array:
    return np.zeros_like(x.lo[ALL])


def absolute_of(lo: Array, hi: Array) -> Interval:
    return np.maximum(np.maximum(lo, -hi), 0.0), np.maximum(-lo, hi)


def times(a: Array, b: Array, c: Array, d: Array) -> Interval:
    """[a, b] * [c, d]; 0 * inf is no value, so its neighbours count."""
    with np.errstate(invalid="ignore", over="ignore"):
        products = [settled(p, 0.0) for p in (a * c, a * d, b * c, b * d)]
    return (
        np.minimum(np.minimum(products[0], products[1]), np.minimum(products[2], products[3])),
        np.maximum(np.maximum(products[0], products[1]), np.maximum(products[2], products[3])),
    )
