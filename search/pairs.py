"""Pairs of networks, counted for every program and target: the part of tau-b that takes time. Compiled by numba on
first use, then cached on the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..vm.jit import kept

Array = NDArray[np.float64]


def counted(x: Array, y: Array) -> tuple[Array, Array]:
    """Over the pairs of networks that are measured in a target: concordant less discordant ones, and those that are
    untied in x, both ``[P, T]``, of ``x [P, A]`` and ``y [T, A]``. Whole numbers, exact below 2^53."""
    agree, untied = np.zeros((2, len(x), len(y)))
    measured = np.ascontiguousarray(~np.isnan(y), np.float64)
    _compiled()(np.ascontiguousarray(x), np.ascontiguousarray(y), measured, agree, untied)
    return agree, untied


def _count(x: Array, y: Array, measured: Array, agree: Array, untied: Array) -> None:
    for p in range(x.shape[0]):
        for t in range(y.shape[0]):
            total = 0.0
            apart = 0.0
            for i in range(x.shape[1]):
                if measured[t, i] == 0.0:
                    continue
                a, b = x[p, i], y[t, i]
                for j in range(i):
                    first = (1.0 if a > x[p, j] else 0.0) - (1.0 if a < x[p, j] else 0.0)
                    second = (1.0 if b > y[t, j] else 0.0) - (1.0 if b < y[t, j] else 0.0)  # 0 beside a NaN
                    total += first * second
                    apart += abs(first) * measured[t, j]
            agree[p, t] = total
            untied[p, t] = apart


@cache
def _compiled() -> Callable[[Array, Array, Array, Array, Array], None]:
    import numba

    table: Any = numba.types.float64[:, ::1]
    given: Any = numba.types.Array(numba.types.float64, 2, "C", readonly=True)  # any is taken
    signature = (given, given, table, table, table)
    return kept(_count, signature, fastmath={"reassoc"})  # whole numbers add up to the same in any order
