"""Spans of many values, one after another in a few growing arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .span import Span

ROOM = 1 << 12
"""Values times contexts for which there is room at first. Memory of the system is cleared when it is first touched, in
pieces that can be large: much room would cost a single formula more than the rest of its analysis."""


class Table:
    """``rows``: of every span, ``contexts``: C."""

    def __init__(self, rows: int, contexts: int) -> None:
        size = 1 + ROOM // max(contexts, 8)
        self._lo, self._hi = np.empty((rows, size, contexts)), np.empty((rows, size, contexts))
        self._moments = np.empty((7, size, contexts))
        self._flags = np.empty((2, size, contexts), np.bool_)
        self._count = 0

    def clear(self) -> None:
        """Forgets everything."""
        self._count = 0

    def append(self, span: Span) -> int:
        """The place of the first of the span's values."""
        first, end = self._count, self._count + span.nan.shape[0]
        if end > self._lo.shape[1]:
            size = max(end, 2 * self._lo.shape[1])
            self._lo, self._hi, self._moments = (_grown(a, size) for a in (self._lo, self._hi, self._moments))
            self._flags = _grown(self._flags, size)
        self._lo[:, first:end], self._hi[:, first:end] = span.lo, span.hi
        for i, part in enumerate((*span.mean, *span.std, *span.mean_abs, span.gap)):
            self._moments[i, first:end] = part
        self._flags[0, first:end], self._flags[1, first:end] = span.zero, span.nan
        self._count = end
        return first

    def read(self, places: NDArray[np.intp]) -> Span:
        """The span of the values at these places."""
        m, flags = self._moments[:, places], self._flags[:, places]
        return Span(self._lo[:, places], self._hi[:, places], m[:2], m[2:4], m[4:6], m[6], flags[0], flags[1])


class Rows:
    """``values`` ``[fields, count]``: whole numbers of many values, one after another."""

    def __init__(self, fields: int) -> None:
        self._all = np.empty((fields, 1024), np.intp)
        self._count = 0

    @property
    def values(self) -> NDArray[np.intp]:
        """What was appended."""
        return self._all[:, : self._count]

    def append(self, values: NDArray[np.intp]) -> None:
        """More of them, ``[fields, more]``."""
        end = self._count + values.shape[1]
        if end > self._all.shape[1]:
            grown = np.empty((self._all.shape[0], max(end, 2 * self._all.shape[1])), np.intp)
            grown[:, : self._count] = self._all[:, : self._count]
            self._all = grown
        self._all[:, self._count : end] = values
        self._count = end


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.empty((array.shape[0], size, array.shape[2]), array.dtype)
    grown[:, : array.shape[1]] = array
    return grown
