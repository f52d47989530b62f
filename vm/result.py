"""What a run returns: values, and beside each program a status. A number never stands for a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SAME = 1e-10
"""Scores that differ by less than this, relative to what they were combined from, are the same up to rounding."""


class Status(IntEnum):
    """Why a proxy has a score, or has none."""

    OK = 0
    NAN = 1
    """NaN for at least one network: a logarithm of a negative number, 0/0, inf - inf."""
    INF = 2
    """Infinite for at least one network: overflow of float32's range, or a pole."""
    CONSTANT = 3
    """The same score for every network."""

    @property
    def word(self) -> str:
        """The status in reports and JSON."""
        return self.name.lower()


@dataclass(frozen=True, eq=False)
class Result:
    """Scores of ``P`` proxies on ``A`` networks.

    ``scores``: float64 ``[P, A]``. ``status``: uint8 ``[P]``, values of `Status`; a proxy's scores count only where it
    is `Status.OK`. ``network``: int64 ``[P]``, the first network that made the proxy invalid (0 where none did).
    """

    scores: NDArray[np.float64]
    status: NDArray[np.uint8]
    network: NDArray[np.int64]


def judge(scores: NDArray[np.float64], scales: NDArray[np.float64] | None = None) -> Result:
    """The statuses that follow from the scores ``[P, A]`` and their scales ``[P, A]`` (see `vm.rounding`).

    Without scales nothing is known of how the scores were combined: each is its own scale.
    """
    scales = np.abs(scores) if scales is None else scales
    nan, inf = np.isnan(scores), np.isinf(scores)
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    any_nan, any_inf = np.asarray(nan.any(axis=1)), np.asarray(inf.any(axis=1))
    status = np.where(any_nan, Status.NAN, np.where(any_inf, Status.INF, Status.OK)).astype(np.uint8)
    if scores.shape[1] > 1:
        usable = np.where(finite[:, None], scores, 0.0)
        spread = usable.max(axis=1) - usable.min(axis=1)
        largest = np.where(np.isfinite(scales), scales, 0.0).max(axis=1)
        status[finite & (spread <= SAME * largest)] = Status.CONSTANT
    return Result(scores, status, np.argmax(np.where(any_nan[:, None], nan, inf), axis=1))
