"""The rules of the ops of two operands, and of gram."""

from __future__ import annotations

import numpy as np

from .maps import squared
from .span import (
    ALL,
    BELOW,
    LARGEST,
    ROUNDING,
    SMALLEST,
    Array,
    Flags,
    Interval,
    RangeRule,
    Sizes,
    Span,
    absolute_of,
    build,
    never,
    scalar_of,
    settled,
    times,
)


def _paired(a: Span, b: Span, sizes: Sizes) -> tuple[Array, Array, Array, Array]:
    """Rows of two operands, lower and upper bounds, that belong to the same places.

    The extremes of two matrices lie at different places: each is paired with all of the other.
    """
    if any(sizes.scalar):
        return a.lo, a.hi, b.lo, b.hi
    first = [SMALLEST, LARGEST, ALL, ALL]
    left = [ALL, *first, *range(BELOW + 1, len(a.lo))]
    right = [ALL, *first[::-1], *range(BELOW + 1, len(a.lo))]
    return a.lo[left], a.hi[left], b.lo[right], b.hi[right]


def added(sign: int) -> RangeRule:
    """a + b and a - b: means add up, deviations at most; inf - inf is NaN."""

    def rule(args: tuple[Span, ...], sizes: Sizes) -> Span:
        a, b = args
        p, q, r, s = _paired(a, b, sizes)
        m0, m1 = b.mean[0], b.mean[1]
        if sign < 0:
            r, s, m0, m1 = -s, -r, -m1, -m0
        nan = (((p == np.inf) & (s == -np.inf)) | ((q == -np.inf) & (r == np.inf))).any(axis=0)
        with np.errstate(invalid="ignore"):
            mean = a.mean[0] + m0, a.mean[1] + m1
            least = np.maximum(np.maximum(a.std[0] - b.std[1], b.std[0] - a.std[1]), 0.0)
            return build((p + r, q + s), nan, sizes.joined, mean, (least, a.std[1] + b.std[1]), exact=True)

    return rule


def multiplied(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """a * b: the mean of products is the product of means plus a covariance; 0 * inf is NaN."""
    a, b = args
    p, q, r, s = _paired(a, b, sizes)
    nan = (_nothing(p, q) & _endless(r, s)) | (_endless(p, q) & _nothing(r, s))
    lo, hi = times(a.mean[0], a.mean[1], b.mean[0], b.mean[1])
    std, size = None, None
    with np.errstate(invalid="ignore"):
        covariance = settled(a.std[1] * b.std[1], np.inf)
        if any(sizes.scalar):
            matrix, number = (a, b) if sizes.scalar[1] else (b, a)
            factor = absolute_of(number.mean[0], number.mean[1])
            std = times(matrix.std[0], matrix.std[1], *factor)
            size = times(matrix.mean_abs[0], matrix.mean_abs[1], *factor)
            covariance = np.zeros_like(covariance)
        mean, gap = (lo - covariance, hi + covariance), (a.gap * b.gap, a.zero | b.zero)
        return build(times(p, q, r, s), np.asarray(nan.any(axis=0)), sizes.joined, mean, std, size, gap, exact=True)


def divided(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """a / b: 0/0 and inf/inf are NaN."""
    a, b = args
    p, q, r, s = _paired(a, b, sizes)
    nan = (_nothing(p, q) & _nothing(r, s)) | (_endless(p, q) & _endless(r, s))
    lo, hi = _quotient(p, q, r, s)
    none = _nothing(r, s) & ~_nothing(p, q)  # x/0: +inf where x > 0, since there is no -0
    lo, hi = np.where(none & (p > 0), np.inf, lo), np.where(none & (q < 0), -np.inf, hi)
    mean = _quotient(a.mean[0], a.mean[1], b.mean[0], b.mean[1]) if sizes.scalar[1] else None
    return build((lo, hi), np.asarray(nan.any(axis=0)), sizes.joined, mean)


def _quotient(p: Array, q: Array, r: Array, s: Array) -> Interval:
    pole = (r <= 0) & (s >= 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        parts = [settled(x, 0.0) for x in (p / r, p / s, q / r, q / s)]
    lo = np.minimum(np.minimum(parts[0], parts[1]), np.minimum(parts[2], parts[3]))
    hi = np.maximum(np.maximum(parts[0], parts[1]), np.maximum(parts[2], parts[3]))
    one = (r == 0) & (s > 0), (s == 0) & (r < 0)
    lo = np.where(pole, np.where(one[0] & (p >= 0), 0.0, -np.inf), lo)
    hi = np.where(pole, np.where(one[0] & (q <= 0), 0.0, np.inf), hi)
    # from an infinite divisor comes 0, whatever is divided (unless it is infinite too: NaN)
    far = np.isinf(r) | np.isinf(s)
    return np.where(far, np.minimum(lo, 0.0), lo), np.where(far, np.maximum(hi, 0.0), hi)


def _nothing(lo: Array, hi: Array) -> Flags:
    return np.asarray((lo == 0) & (hi == 0))


def _endless(lo: Array, hi: Array) -> Flags:
    return np.asarray((lo == np.inf) | (hi == -np.inf))


def product(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """a @ b of inner size k: sums of k products; their mean is k (mean a mean b + a covariance)."""
    if sizes.scalar[0]:
        return multiplied(args, sizes)
    a, b = args
    k = sizes.cols[0]
    lo, hi = times(*times(a.low, a.high, b.low, b.high), k[0], k[1])
    rows = np.broadcast_to(lo, a.lo.shape), np.broadcast_to(hi, a.hi.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = times(a.mean[0], a.mean[1], b.mean[0], b.mean[1])
        covariance = settled(a.std[1] * b.std[1], np.inf)
        mean = times(low - covariance, high + covariance, k[0], k[1])
    return build(rows, never(a), sizes.rows[0] * sizes.cols[1], mean)


def gram(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """x x^T by the number of elements: sums of c products; the mean is a sum of squares."""
    if sizes.scalar[0]:
        return squared(args, sizes)
    x, r = args[0], sizes.rows[0]
    size = np.maximum(np.abs(x.low), np.abs(x.high))
    most = size * size / r[0]
    low = np.where((x.low >= 0) | (x.high <= 0), 0.0, -most)
    rows = np.broadcast_to(low, x.lo.shape), np.broadcast_to(most, x.hi.shape)
    return build(rows, never(x), r * r, (np.zeros_like(most), np.full_like(most, np.inf)))


def dotted(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """The sum of the products, none of which is brought into float32's range."""
    if sizes.scalar[0]:
        return multiplied(args, sizes)
    a, b = args
    n = sizes.elements
    low, high = times(a.low, a.high, b.low, b.high)
    mean_lo, mean_hi = times(a.mean[0], a.mean[1], b.mean[0], b.mean[1])
    with np.errstate(invalid="ignore", over="ignore"):
        covariance = settled(a.std[1] * b.std[1], np.inf)
        largest = np.maximum(np.abs(low), np.abs(high))
        slack = settled(largest * ROUNDING, np.inf)
        low, high = np.maximum(low, mean_lo - covariance) - slack, np.minimum(high, mean_hi + covariance) + slack
    return scalar_of(times(low, high, n[0], n[1]), a, never(a))
