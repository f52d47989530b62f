"""The rules of the elementwise ops of one operand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..reference import EPS, FLOAT32_TINY, LEAK, leaky_relu
from .span import (
    ABOVE,
    ALL,
    LARGEST,
    SMALLEST,
    Array,
    Flags,
    Interval,
    Map,
    RangeRule,
    Sizes,
    Span,
    absolute_of,
    build,
    down,
    never,
    up,
)


def rising(f: Callable[[Array], Array]) -> Map:
    """A function that nowhere falls."""
    return lambda lo, hi, gap, zero: (f(lo), f(hi))


def even(f: Callable[[Array], Array]) -> Map:
    """A function of abs(x) that nowhere falls in it."""

    def on(lo: Array, hi: Array, gap: Array, zero: Flags) -> Interval:
        low, high = absolute_of(lo, hi)
        return f(np.where(zero, low, np.maximum(low, gap))), f(high)

    return on


def log_of_size(lo: Array, hi: Array, gap: Array, zero: Flags) -> Interval:
    """abslog: ln |x|, and 0 at 0."""
    low, high = absolute_of(lo, hi)
    zero = zero & (low == 0)
    least, most = np.log(np.maximum(low, gap)), np.log(np.maximum(high, gap))
    only = high == 0
    low, high = np.where(zero, np.minimum(least, 0.0), least), np.where(zero, np.maximum(most, 0.0), most)
    return np.where(only, 0.0, low), np.where(only, 0.0, high)


def sigmoid(lo: Array, hi: Array, gap: Array, zero: Flags) -> Interval:
    """1/(1 + exp(-x)): all its rounding that counts is that of exp."""
    return 1 / (1 + up(np.exp(-lo))), 1 / (1 + down(np.exp(-hi)))


def reciprocal(lo: Array, hi: Array, gap: Array, zero: Flags) -> Interval:
    """inv: 1/(x + eps), with its pole at -eps."""
    pole, clear = (lo <= -EPS) & (hi >= -EPS), gap > EPS
    below, above = np.where(clear, 1.0 / (EPS - gap), -np.inf), np.where(clear, 1.0 / (EPS + gap), np.inf)
    above = np.where(zero, 1.0 / EPS, above)
    return np.where(pole, below, 1.0 / (hi + EPS)), np.where(pole, np.where(clear, above, np.inf), 1.0 / (lo + EPS))


def mapped(f: Map, *, convex: bool = False, concave: bool = False, exact: bool = False) -> RangeRule:
    """The rule of an elementwise op. A convex or concave ``f`` bounds its mean by Jensen's inequality."""

    def rule(args: tuple[Span, ...], sizes: Sizes) -> Span:
        x = args[0]
        rows = f(x.lo, x.hi, x.gap, x.zero)
        mean = None
        if convex or concave:
            low, high = f(x.mean[0], x.mean[1], x.gap, np.ones_like(x.zero))
            free = np.full_like(low, np.inf)
            mean = (low, free) if convex else (-free, high)
        return build(rows, never(x), sizes.elements, mean, exact=exact)

    return rule


def odd(f: Callable[[Array], Array], *, exact: bool = False) -> RangeRule:
    """The rule of an elementwise op that nowhere falls, with f(-x) = -f(x): it keeps a gap around 0."""

    def rule(args: tuple[Span, ...], sizes: Sizes) -> Span:
        x = args[0]
        return build((f(x.lo), f(x.hi)), never(x), sizes.elements, gap=(f(x.gap), x.zero), exact=exact)

    return rule


def rectified(f: Callable[[Array], Array], *, identity: bool) -> RangeRule:
    """The rule of f(max(x, 0)): f is the identity, or concave and rises from f(0) = 0. The gap above 0 stays."""

    def rule(args: tuple[Span, ...], sizes: Sizes) -> Span:
        x = args[0]
        if identity:  # max(x, 0) = (|x| + x)/2
            mean = (x.mean_abs[0] + x.mean[0]) / 2, (x.mean_abs[1] + x.mean[1]) / 2
        else:
            mean = np.full_like(x.mean[0], -np.inf), f(np.maximum(x.mean_abs[1] + x.mean[1], 0.0) / 2)
        zero = x.zero | (x.low < 0)
        rows = f(np.maximum(x.lo, 0.0)), f(np.maximum(x.hi, 0.0))
        return build(rows, never(x), sizes.elements, mean, gap=(f(x.gap), zero), exact=True)

    return rule


def inverted(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """inv: 1/(x + eps) of numbers up to a size is no smaller than its reciprocal."""
    x = args[0]
    size = np.maximum(np.abs(x.low), np.abs(x.high))
    rows = reciprocal(x.lo, x.hi, x.gap, x.zero)
    low, high = x.mean + EPS
    mean = np.where(x.low >= 0, 1.0 / high, -np.inf), np.where(x.high < -EPS, 1.0 / low, np.inf)  # Jensen
    return build(rows, never(x), sizes.elements, mean, gap=(1.0 / (size + EPS), np.isinf(size)))


def log_size(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """abslog: ln |x|, and 0 at 0; where no element is 0 its mean is at most the ln of the mean size."""
    x = args[0]
    most = np.where(x.zero, np.inf, np.log(np.maximum(x.mean_abs[1], FLOAT32_TINY)))
    rows = log_of_size(x.lo, x.hi, x.gap, x.zero)
    return build(rows, never(x), sizes.elements, (np.full_like(most, -np.inf), most))


def logarithm(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """log: NaN where an element is negative."""
    x = args[0]
    lo, hi, most = (np.log(np.maximum(v, 0.0) + EPS) for v in (x.lo, x.hi, x.mean[1]))
    return build((lo, hi), np.asarray(x.least < 0), sizes.elements, (np.full_like(most, -np.inf), most))


def negated(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """-x."""
    x = args[0]
    order = [ALL, LARGEST, SMALLEST, *range(ABOVE, len(x.lo))][: len(x.lo)]
    rows = -x.hi[order], -x.lo[order]
    size = x.mean_abs[0], x.mean_abs[1]
    mean = -x.mean[1], -x.mean[0]
    return build(rows, never(x), sizes.elements, mean, (x.std[0], x.std[1]), size, (x.gap, x.zero), exact=True)


def same(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """identity."""
    return args[0]


def absolute(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """abs(x): its mean is known."""
    x = args[0]
    size = x.mean_abs[0], x.mean_abs[1]
    return build(absolute_of(x.lo, x.hi), never(x), sizes.elements, size, None, size, (x.gap, x.zero), exact=True)


def squared(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """x^2: its mean follows from mean and deviation."""
    x = args[0]
    rows = even(np.square)(x.lo, x.hi, x.gap, x.zero)
    return build(rows, never(x), sizes.elements, mean_square(x, sizes), gap=(x.gap**2, x.zero), exact=True)


def mean_square(x: Span, sizes: Sizes) -> Interval:
    n = sizes.elements
    low, high = absolute_of(x.mean[0], x.mean[1])
    share = np.where(np.isinf(n), 1.0, (n - 1) / np.where(np.isinf(n), 1.0, n))
    with np.errstate(invalid="ignore"):
        return x.std[0] ** 2 * share[0] + low**2, x.std[1] ** 2 * share[1] + high**2


def leaking(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """leaky_relu: rises, and no size falls by more than its slope."""
    x = args[0]
    rows = leaky_relu(x.lo), leaky_relu(x.hi)
    return build(rows, never(x), sizes.elements, gap=(LEAK * x.gap, x.zero), exact=True)


_MISH = -1.1924312, -0.3088433  # where mish is smallest, and a little less than its value there


def mishes(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """mish: falls, from 0, to its smallest value, then rises; NaN at -inf."""
    x = args[0]

    def f(v: Array) -> Array:
        return np.where(v == -np.inf, 0.0, v * np.tanh(np.maximum(v, 0.0) + np.log1p(np.exp(-np.abs(v)))))

    low, high = f(x.lo), f(x.hi)
    least = np.where((x.lo < _MISH[0]) & (x.hi > _MISH[0]), _MISH[1], np.minimum(low, high))
    return build((least, np.maximum(low, high)), x.least == -np.inf, sizes.elements)


def fourth_power(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """x^4: the square of the square."""
    return squared((squared(args, sizes),), sizes)
