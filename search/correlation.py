"""Rank correlations with exact ties, of one score or of a whole population, with bootstrap intervals.

tau-b (Kendall 1945): over the pairs of networks, (concordant - discordant) / sqrt(pairs untied in x * untied in y).
What is not defined (all values tied, fewer than two of them) is None, or NaN in an array of results; it is never a
number. A NaN in y means "not measured": that network is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .pairs import counted

Array = NDArray[np.float64]

DIGITS = 40
"""Binary digits (twelve decimal ones) in which two scores must differ to be ranked apart, see `settled`."""
MANY = 2500
"""Networks beyond which sorting is faster than comparing all pairs."""


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
    if rows.shape[1] > MANY:
        return _by_scipy(rows, targets)
    measured = ~np.isnan(targets)
    agree, x_untied = counted(rows, targets)
    y_untied = counted(targets, targets)[1].diagonal()
    untied = x_untied * y_untied
    untied[(~np.isfinite(rows)).astype(np.float64) @ measured.T > 0] = 0.0
    taus = np.full(agree.shape, np.nan)
    np.divide(agree, np.sqrt(untied), out=taus, where=untied > 0)
    return np.asarray(np.clip(taus, -1.0, 1.0))


def _by_scipy(rows: Array, targets: Array) -> Array:
    """The same by sorting, which takes less than comparing all pairs of very many networks."""
    from scipy import stats

    taus = np.full((len(rows), len(targets)), np.nan)
    for t, y in enumerate(targets):
        measured = np.flatnonzero(~np.isnan(y))
        for p, x in enumerate(rows[:, measured]):
            if np.isfinite(x).all() and len(x) > 1 and np.ptp(x) > 0 and np.ptp(y[measured]) > 0:
                taus[p, t] = stats.kendalltau(x, y[measured], method="asymptotic").statistic
    return taus


def spearman_many(x: ArrayLike, y: ArrayLike) -> Array:
    """Spearman's rho of every row of ``x [P, A]`` with ``y [T, A]``, float64 ``[P, T]``; NaN where it is undefined, as
    for `kendall_many`."""
    return _product_moment(x, y, _ranks_many)


def pearson_many(x: ArrayLike, y: ArrayLike) -> Array:
    """Pearson's r of every row of ``x [P, A]`` with ``y [T, A]``, float64 ``[P, T]``; NaN where it is undefined."""
    return _product_moment(x, y, lambda values: values)


def _product_moment(x: ArrayLike, y: ArrayLike, prepared: Callable[[Array], Array]) -> Array:
    rows, targets = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if rows.ndim != 2 or targets.ndim != 2 or rows.shape[1] != targets.shape[1]:
        raise ValueError(f"expected x [P, A] and y [T, A], got {rows.shape} and {targets.shape}")
    found = np.full((len(rows), len(targets)), np.nan)
    alike: dict[bytes, list[int]] = {}  # targets that are measured on the same networks
    for t, y_row in enumerate(targets):
        alike.setdefault(np.isnan(y_row).tobytes(), []).append(t)
    for chosen in alike.values():
        measured = np.flatnonzero(~np.isnan(np.asarray(targets[chosen[0]])))
        if len(measured) > 1:
            a, b = (_units(prepared(_finite(values[:, measured]))) for values in (rows, targets[chosen]))
            found[:, chosen] = np.clip(a @ b.T, -1.0, 1.0)
    return found


def _finite(rows: Array) -> Array:
    """A row with a number that is not finite as zeros: it has no correlation."""
    return np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)


def _units(rows: Array) -> Array:
    """Every row centred, of length 1; NaN where all values are equal."""
    flat = np.ptp(rows, axis=1) == 0
    centred = rows - rows.mean(axis=1, keepdims=True)
    largest = np.abs(centred).max(axis=1, keepdims=True)
    centred = centred / np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    return np.where(flat[:, None], np.nan, centred / np.where(flat, 1.0, length)[:, None])


def _ranks_many(rows: Array) -> Array:
    """Ranks from 1 in every row, ties by their mean rank."""
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    new = np.ones(rows.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    last = np.ones(rows.shape, np.bool_)
    last[:, :-1] = new[:, 1:]
    place = np.arange(rows.shape[1])
    begin = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    end = np.minimum.accumulate(np.where(last, place, rows.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, (begin + end) / 2 + 1.0, axis=1)
    return ranks


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
