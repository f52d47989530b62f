"""The facts of segments, in one walk over their elements."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .source import SegmentFacts, witness_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 13
"""Elements that BLAS multiplies at a time: so few that it never shares them out among threads, which rounds anew."""
_CHUNK = 8 * _BLOCK
"""Elements at a time: a chunk and its copies in float64 stay in the cache of a core."""
_SMALL = 1 << 12
"""Segments of fewer elements are walked together: a call of numpy costs more than they do."""
_CANCELLED = 0.1
"""Where less than this share of the squares is left beside the mean, the deviations are summed as such."""
_INFINITY = 0x7F800000
"""The bits of positive infinity: those of every positive finite number, read as an integer, lie below."""
_ONE, _SIGN = np.uint32(1), np.uint32(1 << 31)
_ONES = np.ones(_BLOCK)

Walked = tuple[float, float, int, int, int, float, float, float]
"""Lowest, highest, bits of the smallest positive and of the largest negative element less 1, zeros, sum, squared
deviations from the mean, sum of absolute values."""


def facts_of(segment: NDArray[np.float32]) -> SegmentFacts:
    """The facts of one segment, ``[rows, cols]``, contiguous."""
    return facts_of_all([segment])[0]


def facts_of_all(segments: Sequence[NDArray[np.float32]]) -> list[SegmentFacts]:
    """The facts of contiguous segments; those of one do not depend on the others."""
    flat = [segment.reshape(-1) for segment in segments]
    small = [i for i, x in enumerate(flat) if 0 < x.size < _SMALL]
    walked: dict[int, Walked | None] = {}
    for begin in range(0, len(small), _CHUNK // _SMALL):
        some = small[begin : begin + _CHUNK // _SMALL]
        walked |= dict(zip(some, _walk_together([flat[i] for i in some]), strict=True))
    with np.errstate(invalid="ignore"):  # infinity less infinity, in a segment that has no moments
        walked |= {i: _walk(x) for i, x in enumerate(flat) if x.size >= _SMALL}
    return [_facts(segment.shape, x, walked.get(i)) for i, (segment, x) in enumerate(zip(segments, flat, strict=True))]


def _facts(shape: tuple[int, ...], flat: NDArray[np.float32], walked: Walked | None) -> SegmentFacts:
    rows, cols = shape
    witnesses = tuple(flat[witness_places(flat.size)].tolist())
    if walked is None:
        return _of_what_is_finite(flat, rows, cols, witnesses)
    low, high, above, below, zeros, total, squares, total_abs = walked
    return SegmentFacts(
        rows,
        cols,
        low=low,
        high=high,
        above=_number(above + 1) if above + 1 < _INFINITY else None,
        below=-_number(below + 1) if below + 1 < _INFINITY else None,
        zeros=zeros,
        nonfinite=0,
        mean=total / flat.size,
        std=float((squares / (flat.size - 1)) ** 0.5) if flat.size > 1 else None,
        mean_abs=total_abs / flat.size,
        witnesses=witnesses,
    )


def _walk(flat: NDArray[np.float32]) -> Walked | None:
    """A large segment, chunk by chunk; None where an element is not finite.

    Sums in float64. float32 numbers of one sign are ordered like their bits: as unsigned integers the smallest is the
    smallest positive number and the largest the lowest one, as signed integers the largest is the highest number and
    the smallest the largest negative one, as long as there is no zero, of either sign.
    """
    low, high, zeros, above, below = np.inf, -np.inf, 0, _INFINITY, _INFINITY
    total = squares = total_abs = 0.0
    for begin in range(0, flat.size, _CHUNK):
        part = flat[begin : begin + _CHUNK]
        wide = _kept.chunk[: part.size]
        wide[...] = part
        chunk = float(wide.sum())
        if not np.isfinite(chunk):  # a sum of finite float32 numbers never leaves float64's range
            return None
        total += chunk
        squares += _dot(wide, wide)
        total_abs += _dot(np.abs(wide, out=wide), None)
        least, lowest = int(part.view(np.int32).min()), int(part.view(np.uint32).min())
        if lowest == 0 or least == -(1 << 31):
            zeros += int(np.count_nonzero(part == 0))
            bits = part.view(np.uint32) - _ONE
            above, below = min(above, int(bits.min())), min(below, int((bits - _SIGN).min()))
            low, high = min(low, float(part.min())), max(high, float(part.max()))
        else:
            most, highest = int(part.view(np.int32).max()), int(part.view(np.uint32).max())
            positive, negative = most > 0, least < 0
            above = min(above, lowest - 1 if positive else _INFINITY)
            below = min(below, least + (1 << 31) - 1 if negative else _INFINITY)
            low = min(low, _number(highest if negative else lowest))
            high = max(high, _number((most if positive else least) & 0xFFFFFFFF))
    deviations = squares - total * total / flat.size
    if deviations < _CANCELLED * squares:
        deviations = _deviations(flat, total / flat.size)
    return low, high, above, below, zeros, total, deviations, total_abs


def _deviations(flat: NDArray[np.float32], mean: float) -> float:
    """The sum of the squared deviations from the mean."""
    found = 0.0
    for begin in range(0, flat.size, _CHUNK):
        part = flat[begin : begin + _CHUNK]
        wide = np.subtract(part, mean, out=_kept.chunk[: part.size], dtype=np.float64)
        found += _dot(wide, wide)
    return found


class _Scratch(threading.local):
    """Room for a chunk, kept by each thread: fresh pages would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self.chunk = np.empty(_CHUNK)


_kept = _Scratch()


def _dot(a: NDArray[np.float64], b: NDArray[np.float64] | None) -> float:
    """The sum of a b, or of a, by BLAS in blocks."""
    whole = a.size // _BLOCK * _BLOCK
    blocks = a[:whole].reshape(-1, 1, _BLOCK)
    others = _ONES[:, None] if b is None else b[:whole].reshape(-1, _BLOCK, 1)
    rest = a[whole:].dot(_ONES[: a.size - whole] if b is None else b[whole:])
    return float(np.matmul(blocks, others).sum() + rest)


def _walk_together(parts: Sequence[NDArray[np.float32]]) -> list[Walked | None]:
    """Small segments side by side; the same as `_walk`, element after element."""
    lengths = np.array([part.size for part in parts])
    starts = np.cumsum(lengths) - lengths
    flat = np.concatenate(parts)
    wide, bits = flat.astype(np.float64), flat.view(np.uint32) - _ONE
    with np.errstate(invalid="ignore"):  # infinity less infinity, in a segment that is left out below
        total = np.add.reduceat(wide, starts)
        deviations = wide - np.repeat(total / lengths, lengths)
        columns: list[NDArray[Any]] = [
            np.minimum.reduceat(flat, starts),
            np.maximum.reduceat(flat, starts),
            np.minimum.reduceat(bits, starts),
            np.minimum.reduceat(bits - _SIGN, starts),
            np.add.reduceat((flat == 0).astype(np.int64), starts),
            total,
            np.add.reduceat(deviations * deviations, starts),
            np.add.reduceat(np.abs(wide), starts),
        ]
    finite = np.isfinite(total)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [row if fine else None for row, fine in zip(rows, finite, strict=True)]


def _number(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def _of_what_is_finite(flat: NDArray[np.float32], rows: int, cols: int, witnesses: tuple[float, ...]) -> SegmentFacts:
    """The facts where an element is not finite, or where there is none: no moments."""
    finite = flat[np.isfinite(flat)]
    positive, negative = finite[finite > 0], finite[finite < 0]
    return SegmentFacts(
        rows,
        cols,
        low=float(finite.min()) if finite.size else None,
        high=float(finite.max()) if finite.size else None,
        above=float(positive.min()) if positive.size else None,
        below=float(negative.max()) if negative.size else None,
        zeros=int(np.count_nonzero(finite == 0)),
        nonfinite=flat.size - finite.size,
        mean=None,
        std=None,
        mean_abs=None,
        witnesses=witnesses,
    )
