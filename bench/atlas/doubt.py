"""Whether what the algebra loses can change what is said of a join, compiled: most often it cannot.

An element of a product that overflows makes the mean infinite, one that underflows is 0 and not what the algebra has.
The first changes a status only if nothing else is infinite. The second takes less from a mean than the range's
smallest number, and matters only where scores are that small, or that near to each other.

The mean of ``1 - x`` is 1 less the mean of x, which has lost digits where these are nearly equal: the matrix has none
of it. That matters where scores are as near to each other.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ...grammar.reference import FLOAT32_TINY

SMALLEST = 1e-28
"""In a mean of at least this size elements below float32's range are nothing beside the rest: 1e-10 of it."""
LOST = 2 * FLOAT32_TINY
"""In any mean they are not more than this: each of them is smaller, and the mean itself can fall below the range."""
COUNTS = 1e-7
"""What is lost is nothing beside so much of the largest score."""
APART = 1e-11
"""Scores whose order what is lost must not change differ by so much more, relative to the larger one: twelve digits
count."""
CANCELS = 1e-3
"""A sum or difference of two means that is less, relative to these, has lost digits."""
REAL = 1e-11
"""What is less than that is rounding in the matrix, too."""
BLUR = 1e-15
"""What is lost is so much of the two means."""
SETTLED = 2e-12
"""Scores that differ by more, relative to the larger one, are different to twelve digits."""


@numba.njit(nogil=True, error_model="numpy")
def open_to(over: Any, score: Any, member: Any) -> bool:
    """Whether a status hangs on networks that may be infinite, ``over``: no other one of their part is for sure."""
    for p in range(len(member)):
        may, sure = False, False
        for n in range(len(over)):
            if member[p, n]:
                finite = abs(score[n]) < np.inf
                may |= over[n] and finite
                sure |= not finite
        if may and not sure:
            return True
    return False


@numba.njit(nogil=True, error_model="numpy")
def _largest(score: Any, lost: Any) -> tuple[float, float]:
    """Of finite scores."""
    top, most = 0.0, 0.0
    for n in range(len(lost)):
        if abs(score[n]) < np.inf:
            top = max(top, abs(score[n]))
            most = max(most, lost[n])
    return top, most


@numba.njit(nogil=True, error_model="numpy")
def close(score: Any, lost: Any, starts: Any, apart: float, ties: bool) -> bool:
    """Whether two of the sums over the layers ``score`` known but for ``lost``, or of the means over them, are as
    near to each other, or to ``apart`` of their size, ``ties`` included; or what is lost counts beside the
    largest."""
    top, most = _largest(score, lost)
    if most > COUNTS * top:
        return True
    for i in range(len(lost)):
        for j in range(i):
            if lost[i] + lost[j] == 0.0 or not (abs(score[i]) < np.inf and abs(score[j]) < np.inf):
                continue
            m, n = starts[i + 1] - starts[i], starts[j + 1] - starts[j]
            for x, y, less in (
                (score[i], score[j], lost[i] + lost[j]),
                (score[i] / m, score[j] / n, lost[i] / m + lost[j] / n),
            ):
                if (ties or x != y) and abs(x - y) <= less + apart * max(abs(x), abs(y)):
                    return True
    return False
