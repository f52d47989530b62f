"""How well scores rank networks: one number per program and target. Undefined is NaN, never a number.

Each measure takes scores ``[P, A]``, already `settled`, targets ``[T, A]`` (NaN = not measured) and the networks' own
facts ``{name: [A]}``, and gives ``[P, T]``; larger is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .correlation import kendall_many, spearman

Array = NDArray[np.float64]
Measure = Callable[[Array, Array, Mapping[str, Array]], Array]


def kendall(scores: Array, targets: Array, facts: Mapping[str, Array]) -> Array:
    """tau-b."""
    return kendall_many(scores, targets)


def partial(scores: Array, targets: Array, facts: Mapping[str, Array]) -> Array:
    """tau-b given #params (Kendall 1942): what a program knows beyond size. NaN where nothing is left to know."""
    taus = np.empty((len(scores), len(targets)))
    for i, target in enumerate(targets):
        measured = ~np.isnan(target)
        x, y, z = scores[:, measured], target[measured], facts["params"][measured]
        xy, xz, yz = kendall_many(x, y), kendall_many(x, z), kendall_many(y[None], z)[0]
        rest = (1.0 - xz * xz) * (1.0 - yz * yz)
        taus[:, i] = np.where(rest > 0, (xy - xz * yz) / np.sqrt(np.where(rest > 0, rest, 1.0)), np.nan)
    return np.asarray(np.clip(taus, -1.0, 1.0))


def rho(scores: Array, targets: Array, facts: Mapping[str, Array]) -> Array:
    """Spearman's rank correlation."""
    found = [[spearman(row, target) for target in targets] for row in scores]
    return np.array([[np.nan if v is None else v for v in row] for row in found]).reshape(len(scores), len(targets))


def top(share: float) -> Measure:
    """Precision among the best: of the ``share`` of networks with the largest scores, how many are among as many best.

    Where ties go over the border it is the expectation over the ways to break them. NaN where all scores are equal.
    """

    def precision(scores: Array, targets: Array, facts: Mapping[str, Array]) -> Array:
        found = np.empty((len(scores), len(targets)))
        for i, target in enumerate(targets):
            measured = ~np.isnan(target)
            x, y = scores[:, measured], target[measured]
            count = max(1, round(share * y.size))
            found[:, i] = _chances(x, count) @ _chances(y[None], count)[0] / count
            found[np.ptp(x, axis=1) == 0, i] = np.nan
        return found

    return precision


def _chances(values: Array, count: int) -> Array:
    """The chance of each of ``values [P, A]`` to be among the ``count`` largest of its row, ties broken at random."""
    border = np.sort(values, axis=1)[:, -count, None]
    above, tied = values > border, values == border
    left = count - above.sum(axis=1, keepdims=True)
    return np.asarray(above + tied * (left / tied.sum(axis=1, keepdims=True)))
