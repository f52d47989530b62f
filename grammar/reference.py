"""The living definition of every op: numpy, float64, whole segments, obvious.

A Matrix operand is an array ``[r, c]``, a Scalar a 0-d array. The caller brings results into float32's range
(`in_range`), so these functions state the mathematics alone. None changes its operands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPS = 1e-9
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)
LEAK = 0.01
"""The slope of leaky_relu below 0: torch's default."""


def in_range(x: Array) -> Array:
    """float32's range: beyond its largest number inf, below its smallest normal number +0 (there is no -0)."""
    size = np.abs(x)
    return np.where(size > FLOAT32_MAX, np.copysign(np.inf, x), np.where(size < FLOAT32_TINY, 0.0, x))


def log(x: Array) -> Array:
    return np.log(np.where(x < 0, np.nan, x) + EPS)


def abslog(x: Array) -> Array:
    return np.where(x == 0, 0.0, np.log(np.abs(np.where(x == 0, 1.0, x))))


def sqrt(x: Array) -> Array:
    return np.sqrt(np.maximum(x, 0.0))


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # in (0, 1]: no overflow on either side
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def inv(x: Array) -> Array:
    return 1.0 / (x + EPS)


def softmax(x: Array) -> Array:
    if x.ndim == 0:
        return np.asarray(np.exp(x - x))
    e = np.exp(x - x.max(axis=0))
    return np.asarray(e / e.sum(axis=0))


def log_softmax(x: Array) -> Array:
    if x.ndim == 0:
        return np.asarray(x - x)
    shifted = x - x.max(axis=0)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=0)))


def _constant(x: Array) -> bool:
    """Whether all elements are one number."""
    return bool(np.all(x == x.flat[0]))


def normalize(x: Array) -> Array:
    centred = x - x.mean()
    if x.size == 1 or _constant(x):
        return np.asarray(centred * 0.0)  # NaN and inf stay NaN
    return np.asarray(centred / x.std(ddof=1))


def min_max(x: Array) -> Array:
    return np.asarray((x - x.min()) / (x.max() - x.min() + EPS))


def frobenius(x: Array) -> Array:
    return np.asarray(np.sqrt(np.sum(x * x)))


def normalized_sum(x: Array) -> Array:
    return x if x.ndim == 0 else np.asarray(x.sum() / (x.size + EPS))


def l1_norm(x: Array) -> Array:
    return normalized_sum(np.abs(x))


def std(x: Array) -> Array:
    """Unbiased; of one element NaN, of equal ones 0, whatever rounding makes of their mean."""
    if x.size < 2:
        return np.asarray(np.nan)
    return np.asarray(x.flat[0] * 0.0 if _constant(x) else x.std(ddof=1))


def matmul(a: Array, b: Array) -> Array:
    return np.asarray(a * b if a.ndim == b.ndim == 0 else a @ b)


def mish(x: Array) -> Array:
    softplus = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return np.asarray(x * np.tanh(softplus))


def leaky_relu(x: Array) -> Array:
    return np.where(x < 0, LEAK * x, x)


def pow4(x: Array) -> Array:
    return np.square(np.square(x))


def heaviside(x: Array) -> Array:
    return np.heaviside(x, 0.0)


def gram(x: Array) -> Array:
    return np.asarray(x * x if x.ndim == 0 else x @ x.T / x.size)


def _singular(x: Array) -> Array:
    """The singular values; NaN or inf alone where the matrix has one."""
    if np.isfinite(x).all():
        return np.asarray(np.linalg.svd(x, compute_uv=False))
    return np.asarray([np.abs(x).max()])


def nuclear_norm(x: Array) -> Array:
    """The sum of the singular values; of a Scalar its absolute value."""
    return np.asarray(np.abs(x) if x.ndim == 0 else _singular(x).sum())


def slogdet(x: Array) -> Array:
    """ln det(x x^T/c + eps mu I), mu the mean of x^2, by the singular values: the determinant overflows and cancels.

    The eps is relative, or gradients would drown in it; so slogdet(k x) is slogdet(x) + 2 r ln k.
    """
    if x.ndim == 0:
        return np.asarray(np.log(x * x * (1.0 + EPS)))
    squares = np.zeros(len(x))
    found = _singular(x)
    squares[: len(found)] = found * found / x.shape[1]
    return np.asarray(np.log(squares + EPS * np.mean(x * x)).sum())


def dot(a: Array, b: Array) -> Array:
    return np.asarray(np.sum(a * b))
