"""The rules of the ops that keep the shape but need all elements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..reference import EPS
from .span import (
    ALL,
    LARGEST,
    ROUNDING,
    SMALLEST,
    Array,
    Flags,
    Interval,
    Sizes,
    Span,
    build,
    infinite,
    settled,
    within,
    zeros,
)


def normalized(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """(x - mean)/std: mean 0, std 1, no element beyond (n - 1)/sqrt(n); all 0 where x is constant."""
    x, n = args[0], sizes.elements
    if sizes.scalar[0]:
        return _number(x, 0.0, infinite(x))
    slack = np.maximum(np.abs(x.low), np.abs(x.high)) * ROUNDING
    varied = x.most - x.least > slack * 1e3
    constant = x.low == x.high
    above, below = x.lo - x.mean[1], x.hi - x.mean[0]
    most = np.sqrt(n[1])
    lo = np.clip(above / np.where(above > 0, x.std[1], x.std[0]), -most, most)
    hi = np.clip(below / np.where(below > 0, x.std[0], x.std[1]), -most, most)
    lo, hi = np.where(np.isnan(lo), -most, lo), np.where(np.isnan(hi), most, hi)
    lo = np.where(varied, lo, np.minimum(lo, 0.0))
    hi = np.where(varied, hi, np.maximum(hi, 0.0))
    single = (n[1] == 1) | constant
    lo, hi = np.where(single, 0.0, lo), np.where(single, 0.0, hi)
    error = np.where(varied, slack / x.std[0], most) + 1e-12
    error = np.where(single, 0.0, settled(error, np.inf))
    apart = np.where(varied, 1.0 / most - error, 0.0)
    hi[SMALLEST] = np.where(apart > 0, np.minimum(hi[SMALLEST], -apart), hi[SMALLEST])
    lo[LARGEST] = np.where(apart > 0, np.maximum(lo[LARGEST], apart), lo[LARGEST])
    std = np.where(varied, 1.0, 0.0), np.where(single, 0.0, 1.0)
    squares = np.where(varied, 1.0 - 1.0 / n[0], 0.0)
    largest = np.maximum(np.abs(lo[ALL]), np.abs(hi[ALL]))
    size = squares / largest, np.ones_like(squares)  # mean |x| >= mean x^2 / max |x|
    return build((lo, hi), infinite(x), n, (-error, error), std, size)


def ranged(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """(x - min)/(max - min + eps): falls with min and with max, from 0 to almost 1."""
    x = args[0]
    if sizes.scalar[0]:
        return _number(x, 0.0, infinite(x))

    def scaled(lo: Array, hi: Array) -> Interval:
        low = (lo - x.least) / (x.high - x.least + EPS)
        above = hi - x.low
        high = above / (np.maximum(x.most, hi) - x.low + EPS)
        return np.clip(settled(low, 0.0), 0.0, 1.0), np.clip(settled(high, 1.0), 0.0, 1.0)

    lo, hi = scaled(x.lo, x.hi)
    lo[ALL], lo[SMALLEST], hi[SMALLEST] = 0.0, 0.0, 0.0
    spread = np.maximum(x.most - x.least, 0.0)
    width = x.high - x.low
    least, most = spread / (spread + EPS), width / (width + EPS)
    lo[LARGEST] = settled(least, 0.0)
    hi[LARGEST] = hi[ALL] = settled(most, 1.0)
    mean = scaled(x.mean[0], x.mean[1])
    std = x.std[0] / (width + EPS), x.std[1] / (spread + EPS)
    same = (sizes.elements[1] == 1) | (x.low == x.high)
    lo, hi = np.where(same, 0.0, lo), np.where(same, 0.0, hi)
    return build((lo, hi), infinite(x), sizes.elements, mean, std)


def softmaxed(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """softmax along the rows: an element is 1/(1 + sum of exp(x_j - x_i) over the others), their mean 1/r."""
    x, r = args[0], sizes.rows[0]
    if sizes.scalar[0]:
        return _number(x, 1.0, infinite(x))
    lo, hi = _log_share(x, r)
    mean = 1.0 / r[1] + zeros(x), 1.0 / r[0] + zeros(x)
    return build((np.exp(lo), np.exp(hi)), _up_infinite(x), sizes.elements, mean)


def log_softmaxed(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """ln of softmax. A column's ln sum exp lies between its mean, and its largest element, + ln r."""
    x, r = args[0], sizes.rows[0]
    if sizes.scalar[0]:
        return _number(x, 0.0, infinite(x))
    one = r[1] == 1
    mean = np.where(one, 0.0, x.mean[0] - x.high - np.log(r[1])), -np.log(r[0]) + zeros(x)
    lo, hi = _log_share(x, r)
    lo, hi = np.where(one, lo, lo - 1e-14), np.where(one, hi, np.minimum(hi + 1e-14, 0.0))  # ln(1 + tiny) is 0
    return build((lo, hi), _up_infinite(x), sizes.elements, mean)


def _log_share(x: Span, r: Array) -> Interval:
    """Bounds of ln softmax of every row of x, of columns with r rows."""
    with np.errstate(invalid="ignore", divide="ignore"):
        others = np.log(np.maximum(r - 1, 0.0))
        far, near = x.high - x.lo, x.low - x.hi
        far, near = settled(far, np.inf), settled(near, -np.inf)
        lo, hi = -np.logaddexp(0.0, others[1] + far), -np.logaddexp(0.0, others[0] + near)
        one = r[1] == 1  # others is -inf then, and far may be +inf
        return np.where(one, 0.0, lo), np.where(one | np.isnan(hi), 0.0, hi)


def _number(x: Span, value: float, nan: Flags) -> Span:
    """The value of every Scalar that is not infinite."""
    found = zeros(x) + value
    return replace(within(found, found), nan=nan)


def _up_infinite(x: Span) -> Flags:
    return np.asarray(x.most == np.inf)
