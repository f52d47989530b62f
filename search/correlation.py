"""Rank correlations with exact ties, of one score or of a whole population, with bootstrap intervals.

tau-b (Kendall 1945): over the pairs of networks, (concordant - discordant) / sqrt(pairs untied in x * untied in y).
What is not defined (all values tied, fewer than two of them) is None, or NaN in an array of results; it is never a
number. A NaN in y means "not measured": that network is left out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DIGITS = 40
"""Binary digits (twelve decimal ones) in which two scores must differ to be ranked apart, see `settled`."""
_BLOCK = 1 << 20
"""Pairs of networks that are compared at once."""


def settled(scores: Array) -> Array:
    """The scores to twelve significant digits: what the rounding of the computation left apart becomes a tie.

    A function of the shapes such as ``mean(softmax(x))`` ties networks of one shape in exact arithmetic; without this
    their order would be that of the last bits, and would differ between backends.
    """
    mantissa, exponent = np.frexp(scores)
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**DIGITS), exponent - DIGITS))


def kendall_many(x: ArrayLike, y: ArrayLike) -> Array:
    """tau-b of every row of ``x [P, A]`` with ``y``: of one target ``[A]`` float64 ``[P]``, of T ``[T, A]`` ``[P, T]``.

    NaN where it is undefined: a row with a value that is not finite, or ties everywhere in the row or in the target.
    A network without a value in a target (NaN) is left out for that target.
    """
    rows, targets = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if rows.ndim != 2 or targets.ndim not in (1, 2) or rows.shape[1] != targets.shape[-1]:
        raise ValueError(f"expected x [P, A] and y [A] or [T, A], got {rows.shape} and {targets.shape}")
    if targets.ndim == 1:
        return kendall_many(rows, targets[None])[:, 0]
    measured = ~np.isnan(targets)
    agree = np.zeros((len(rows), len(targets)))
    x_untied, y_untied = np.zeros_like(agree), np.zeros(len(targets))
    count = rows.shape[1]
    step = max(1, _BLOCK // max(1, (len(rows) + len(targets)) * count))
    for block in (slice(start, start + step) for start in range(0, count, step)):
        x_sign = _signs(rows[:, block, None], rows[:, None]).reshape(len(rows), -1)
        y_sign = _signs(targets[:, block, None], targets[:, None]).reshape(len(targets), -1)  # 0 beside a NaN
        agree += x_sign @ y_sign.T
        y_untied += _squares(y_sign)
        if measured.all():
            x_untied += _squares(x_sign)[:, None]
        else:
            both = measured[:, block, None] & measured[:, None]
            x_untied += np.abs(x_sign) @ both.reshape(len(targets), -1).T.astype(np.float32)
    untied = x_untied * y_untied
    untied[(~np.isfinite(rows)).astype(np.float64) @ measured.T > 0] = 0.0
    taus = np.full(agree.shape, np.nan)
    np.divide(agree, np.sqrt(untied), out=taus, where=untied > 0)
    return np.asarray(np.clip(taus, -1.0, 1.0))


def kendall(x: ArrayLike, y: ArrayLike) -> float | None:
    """tau-b of ``x [A]`` and ``y [A]``; None where it is undefined. Networks with NaN in ``y`` are left out."""
    return _defined(kendall_many(np.asarray(x, np.float64)[None], y)[0])


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's rho of ``x [A]`` and ``y [A]``: Pearson's r of the ranks, ties by their mean; None if undefined."""
    a, b = _measured(x, y)
    return pearson(_ranks(a), _ranks(b)) if np.isfinite(a).all() else None


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's r of ``x [A]`` and ``y [A]``; None where one is constant or not finite."""
    a, b = _measured(x, y)
    if len(a) < 2 or not np.isfinite(a).all() or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return None
    a, b = _unit(a), _unit(b)
    return float(np.clip(a @ b, -1.0, 1.0))


def partial_kendall(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> float | None:
    """tau of x and y given z, all ``[A]`` (Kendall 1942): (t_xy - t_xz t_yz) / sqrt((1 - t_xz²)(1 - t_yz²)).

    None where one of the three is undefined, or where ``z`` orders the networks as ``x`` or ``y`` does: nothing is
    left. Networks with NaN in ``y`` are left out of all three.
    """
    a, b = _measured(x, y)
    c = np.asarray(z, np.float64)[~np.isnan(np.asarray(y, np.float64))]
    xy, xz, yz = kendall(a, b), kendall(a, c), kendall(b, c)
    if xy is None or xz is None or yz is None:
        return None
    rest = (1.0 - xz * xz) * (1.0 - yz * yz)
    return float((xy - xz * yz) / np.sqrt(rest)) if rest > 0 else None


def kendall_interval(
    x: ArrayLike, y: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """The bootstrap interval (percentile) of tau-b: ``resamples`` times A networks are drawn with replacement.

    None where tau is undefined. Resamples with ties everywhere have no tau and are left out. The same seed draws the
    same networks for every ``x``, so that intervals of one target can be compared. Networks with NaN in ``y`` are left
    out.
    """
    a, b = _measured(x, y)
    if kendall(a, b) is None:
        return None
    counts = _resampled(len(a), resamples, seed)
    x_sign, y_sign = (_signs(v[:, None], v[None]).astype(np.float64) for v in (a, b))
    agree = _quadratic(counts, x_sign * y_sign)
    untied = _quadratic(counts, np.abs(x_sign)) * _quadratic(counts, np.abs(y_sign))
    taus = agree[untied > 0] / np.sqrt(untied[untied > 0])
    if not len(taus):
        return None
    low, high = np.quantile(taus, ((1 - level) / 2, (1 + level) / 2))
    return float(np.clip(low, -1.0, 1.0)), float(np.clip(high, -1.0, 1.0))


@lru_cache(maxsize=16)
def _resampled(n: int, resamples: int, seed: int) -> Array:
    """How often each of n networks is in each resample, ``[B, n]``."""
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    drawn += np.arange(resamples)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    counts.flags.writeable = False
    return counts


def _quadratic(counts: Array, pairs: Array) -> Array:
    """w' S w for every row w of ``counts [B, n]``: each pair as often as the resample holds it."""
    return np.asarray(np.einsum("bn,bn->b", counts @ pairs, counts))


def _signs(a: Array, b: Array) -> NDArray[np.float32]:
    """sign(a - b) by comparison: exact for every pair of numbers, no overflow."""
    return np.subtract(a > b, a < b, dtype=np.float32)


def _squares(signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """How many of each row are not 0; exact, as a block is smaller than float32's 2^24."""
    return np.asarray(np.einsum("ij,ij->i", signs, signs))


def _measured(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected x [A] and y [A], got {a.shape} and {b.shape}")
    keep = ~np.isnan(b)
    return a[keep], b[keep]


def _ranks(x: Array) -> Array:
    """Ranks from 1, ties by their mean rank."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def _unit(x: Array) -> Array:
    """Centred, of length 1."""
    centred = x - x.mean()
    centred = centred / np.abs(centred).max()
    return np.asarray(centred / np.sqrt(centred @ centred))


def _defined(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
