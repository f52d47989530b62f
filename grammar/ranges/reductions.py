"""The rules of the reductions of all elements to a Scalar."""

from __future__ import annotations

import numpy as np

from ..reference import EPS, FLOAT32_MAX
from .span import (
    Array,
    Flags,
    Interval,
    Sizes,
    Span,
    absolute_of,
    infinite,
    never,
    scalar_of,
    settled,
    times,
    whole,
)


def mixed(x: Span) -> Flags:
    """Where infinite elements of both signs make the sum NaN."""
    return np.asarray((x.most == np.inf) & (x.least == -np.inf))


def averaged(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """mean."""
    x = args[0]
    return scalar_of((x.mean[0], x.mean[1]), x, mixed(x), exact=whole(x.low, x.high))


def summed(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """sum: n times the mean."""
    x = args[0]
    return scalar_of(times(x.mean[0], x.mean[1], *sizes.elements), x, mixed(x))


def normalized_sum(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """The sum by n + eps; of a Scalar the Scalar."""
    x = args[0]
    return scalar_of(_per_element(x.mean, x, sizes), x, mixed(x))


def summed_absolute(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """l1_norm: the sum of absolute values by n + eps."""
    x = args[0]
    return scalar_of(_per_element(x.mean_abs, x, sizes), x, never(x))


def _per_element(mean: Array, x: Span, sizes: Sizes) -> Interval:
    if sizes.scalar[0]:
        return mean[0], mean[1]
    n = sizes.elements
    share = np.where(np.isinf(n), 1.0, n / (np.where(np.isinf(n), 1.0, n) + EPS))
    return times(mean[0], mean[1], share[0], share[1])


def summed_squares(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """frobenius: sqrt((n - 1) std^2 + n mean^2), and no less than any element."""
    x, n = args[0], sizes.elements
    low, high = absolute_of(x.mean[0], x.mean[1])
    with np.errstate(invalid="ignore", over="ignore"):
        least = np.sqrt(settled((n[0] - 1) * x.std[0] ** 2 + n[0] * low**2, 0.0))
        most = np.sqrt(settled((n[1] - 1) * x.std[1] ** 2, 0.0) + settled(n[1] * high**2, 0.0))
    single = np.where(n[1] == 1, high, most)
    attained = np.maximum(np.maximum(x.most, -x.least), 0.0)
    return scalar_of((np.maximum(least, attained), single), x, never(x))


def spread(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """std: of a single element, or with an infinite one, NaN."""
    x = args[0]
    return scalar_of((x.std[0], x.std[1]), x, infinite(x) | (sizes.elements[1] == 1))


def smallest(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """min."""
    x = args[0]
    return scalar_of((x.low, x.least), x, never(x), exact=True)


def largest(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """max."""
    x = args[0]
    return scalar_of((x.most, x.high), x, never(x), exact=True)


def nuclear(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """The sum of the singular values: between the Frobenius norm and sqrt(rank) times it; inf where x is."""
    norm = summed_squares(args, sizes)
    rank = np.minimum(sizes.rows[0][1], sizes.cols[0][1])
    return scalar_of((norm.low, norm.high * np.sqrt(rank)), args[0], never(args[0]))


def log_determinant(args: tuple[Span, ...], sizes: Sizes) -> Span:
    """ln det(x x^T/c + eps mu), mu the mean of x^2: r logarithms whose mean is at most the ln of the mean of their
    arguments (Jensen), and each at least ln(eps mu)."""
    norm, r, n = summed_squares(args, sizes), sizes.rows[0], sizes.elements
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(np.isfinite(n[1]), np.minimum(norm.low, FLOAT32_MAX) ** 2 / n[1], 0.0)  # a norm may overflow
        least, most = np.log(low * EPS), np.log(norm.high**2 / n[0] * (1.0 + EPS))
    return scalar_of(times(least, most, r[0], r[1]), args[0], never(args[0]))
