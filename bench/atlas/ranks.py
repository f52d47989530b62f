"""From the values of layers to rank correlations: scores, statuses, and tau-b as whole numbers, compiled.

tau-b is a quotient of counts of pairs, so it is kept as these: ``agree`` (concordant less discordant pairs) and
``untied`` (pairs that differ in the score); the pairs that differ in the target are the same for every program. The
comparisons of one network with all others are a few words of bits, and a count of pairs is a count of bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from ...grammar.reference import FLOAT32_MAX, FLOAT32_TINY
from ...search.correlation import DIGITS
from ...vm.jit import kept
from ...vm.result import SAME
from .branches import Joins
from .doubt import APART, BLUR, CANCELS, LOST, REAL, SETTLED, SMALLEST, close, open_to
from .order import Order

Array = NDArray[np.float64]

OK, NONFINITE, CONSTANT, LEFT_OUT = range(4)
"""Why a join has ranks on a part of the networks, or has none."""
STATUSES = ("ok", "nonfinite", "constant", "left out")
PLUS, MINUS, TIMES, _, DIVIDE = range(5)


@dataclass(frozen=True, eq=False)
class Ranks:
    """Of R joins, with each of the L layer reductions, on each of P parts: ``status`` uint8 ``[R, L, P]``, ``agree``
    ``[R, L, P, targets]``, ``untied`` ``[R, L, P, masks]``. ``scores`` float64 ``[R, L, A]``: empty if not wanted."""

    status: NDArray[np.uint8]
    agree: NDArray[Any]
    untied: NDArray[Any]
    scores: Array

    @staticmethod
    def room(rows: int, layers: int, order: Order, keep: bool) -> Ranks:
        """Room for so many."""
        parts, count = order.member.shape
        number = np.int16 if count * (count - 1) // 2 < 1 << 15 else np.int32
        return Ranks(
            np.zeros((rows, layers, parts), np.uint8),
            np.zeros((rows, layers, parts, order.above.shape[1]), number),
            np.zeros((rows, layers, parts, order.measured.shape[1]), number),
            np.empty((rows if keep else 0, layers, count)),
        )


def rank_joins(
    joins: Joins, values: Array, largest: Array, counted: Array, matrix: NDArray[np.bool_], starts: Any, order: Order,
    keep: bool,
) -> tuple[Ranks, NDArray[np.bool_]]:  # fmt: skip
    """Joins by + - * / whose value in a layer follows from those of the branches, see `values.Values`.

    ``counted``: see `values.counted`. ``starts``: where the layers of each network begin, and their number,
    ``[A + 1]``. Also: of which joins a status, a rank or a score may be another than the algebra has, see
    `doubt`; nothing is known of those.
    """
    made = Ranks.room(len(joins), 2, order, keep)
    doubtful = np.zeros(len(joins), np.bool_)
    _compiled("joins", joins.dtype, made.agree.dtype)(
        joins, values, largest, counted, matrix, starts, order.member, order.above, order.below, order.measured,
        made.status, made.agree, made.untied, made.scores, doubtful,
    )  # fmt: skip
    return made, doubtful


def rank_sums(sums: Array, highest: Array, total: Array, starts: Any, order: Order, keep: bool) -> Ranks:
    """Joins of which the sum over the layers of each network is known, ``[A, R]``, and of the absolute values the
    largest and the sum."""
    made = Ranks.room(sums.shape[1], 2, order, keep)
    _compiled("sums", None, made.agree.dtype)(
        sums, highest, total, starts, order.member, order.above, order.below, order.measured, made.status, made.agree,
        made.untied, made.scores,
    )  # fmt: skip
    return made


def rank_scores(scores: Array, order: Order) -> Ranks:
    """Of scores ``[R, L, A]``; whether they differ by more than rounding is not for this to say."""
    made = Ranks.room(len(scores), scores.shape[1], order, True)
    made.scores[:] = scores
    one = np.arange(scores.shape[2] + 1)
    for k in range(scores.shape[1]):
        values = np.ascontiguousarray(scores[:, k].T)
        found = rank_sums(values, np.abs(values), np.abs(values), one, order, False)
        for name in ("status", "agree", "untied"):
            getattr(made, name)[:, k] = getattr(found, name)[:, 1]
    return made


def _bits_of(context: Any, word: Any) -> Any:
    """How many bits of a word are set."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), emit


_bits: Any = intrinsic(_bits_of)


_LOCK = Lock()
_LOW_BITS = np.int64((1 << (53 - DIGITS)) - 1)
_HALF = np.int64(1 << (52 - DIGITS))
_SHIFT = np.int64(53 - DIGITS)


@numba.njit(nogil=True, error_model="numpy")
def _ranged(x: float) -> float:
    if abs(x) > FLOAT32_MAX:
        return np.inf if x > 0 else -np.inf
    return 0.0 if abs(x) < FLOAT32_TINY else x


@numba.njit(nogil=True, error_model="numpy")
def _rank(score: Any, scale: Any, member: Any, above: Any, below: Any, measured: Any, status: Any, agree: Any,
          untied: Any, settled: Any, bits: Any) -> None:  # fmt: skip
    parts, count = member.shape
    targets, masks, words = above.shape[1], measured.shape[1], len(bits) // count
    some = False
    for p in range(parts):
        low, high, size = np.inf, -np.inf, 0.0
        finite = True
        for i in range(count):
            if member[p, i]:
                x = score[i]
                finite &= abs(x) < np.inf
                low, high, size = min(low, x), max(high, x), max(size, scale[i])
        if not finite:
            status[p] = NONFINITE
        elif high - low <= SAME * size:
            status[p] = CONSTANT
        else:
            status[p] = OK
            some = True
    if not some:
        return
    number = settled.view(np.int64)
    settled[:count] = score
    settled[count:] = np.inf
    for i in range(count):  # to twelve digits, half to even, as `search.correlation.settled`
        u = number[i]
        number[i] = (u + (_HALF - np.int64(1)) + ((u >> _SHIFT) & np.int64(1))) & ~_LOW_BITS
    for i in range(count):
        x = settled[i]
        for w in range(words):
            word = np.uint64(0)
            for j in range(64):
                word |= np.uint64(x > settled[64 * w + j]) << np.uint64(j)
            bits[i * words + w] = word
    size_of_bits = count * words
    for p in range(parts):
        if status[p] != OK:
            continue
        for t in range(targets):
            over, under = above[p, t], below[p, t]
            total = 0
            for w in range(size_of_bits):
                total += _bits(bits[w] & over[w]) - _bits(bits[w] & under[w])
            agree[p, t] = total
        for k in range(masks):
            both = measured[p, k]
            total = 0
            for w in range(size_of_bits):
                total += _bits(bits[w] & both[w])
            untied[p, k] = total


def _make_joins(fingerprint: str) -> Callable[..., None]:
    def joins(rows: Any, values: Any, largest: Any, counted: Any, matrix: Any, starts: Any, member: Any, above: Any,
              below: Any, measured: Any, status: Any, agree: Any, untied: Any, scores: Any,
              doubtful: Any) -> None:  # fmt: skip
        fingerprint  # noqa: B018 - a part of the key under which numba caches this function
        count = len(starts) - 1
        score, scale = np.empty((2, count)), np.empty((2, count))
        settled, bits = np.empty(-(-count // 64) * 64), np.empty(above.shape[2], np.uint64)
        over, lost, blur = np.empty(count, np.bool_), np.empty(count), np.empty(count)
        for r in range(len(rows)):
            op, x, y = rows[r, 0], rows[r, 1], rows[r, 2]
            of_matrices = matrix[x] or matrix[y]
            scaled = op in (TIMES, DIVIDE)
            apart = not scaled and not of_matrices
            doubt, unclear = False, False
            for n in range(count):
                total, top, size = 0.0, 0.0, 0.0
                over[n], lost[n], blur[n] = False, 0.0, 0.0
                for i in range(starts[n], starts[n + 1]):
                    a, b = values[x, i], values[y, i]
                    v = _ranged(a + b if op == PLUS else a - b if op == MINUS else a * b if op == TIMES else a / b)
                    if of_matrices and abs(a) < np.inf and abs(b) < np.inf:
                        first = largest[x, i] if matrix[x] else abs(a)
                        second = largest[y, i] if matrix[y] else abs(b)
                        reach = first * second if op == TIMES else first / second if scaled else first + second
                        over[n] |= reach > FLOAT32_MAX
                        if scaled and reach < FLOAT32_TINY:
                            v = 0.0  # as every element is
                        elif scaled and a != 0.0 and b != 0.0 and abs(v) < SMALLEST:
                            lost[n] += LOST
                        elif not scaled and abs(v) < CANCELS * (abs(a) + abs(b)):
                            least = BLUR * (abs(a) + abs(b))
                            parts = min(counted[x if matrix[x] else y, i], counted[y if matrix[y] else x, i])
                            whole = np.round(v * parts) / parts if parts > 0.0 else np.inf
                            if abs(v - whole) <= least:
                                v = whole  # elements are counted, of 1 less a matrix too
                            elif abs(v) > REAL * (abs(a) + abs(b)):
                                blur[n] += least
                    one = abs(a) + abs(b) if apart else abs(v)
                    total += v
                    top = max(top, one)
                    size += one
                score[0, n] = _ranged(total / (starts[n + 1] - starts[n]))
                score[1, n] = _ranged(total)
                scale[0, n] = max(top, abs(score[0, n]))
                scale[1, n] = max(size, abs(score[1, n]))
                doubt |= over[n] or lost[n] > 0.0
                unclear |= blur[n] > 0.0
            if doubt:
                doubt = open_to(over, score[1], member) or close(score[1], lost, starts, APART, True)
            if unclear and not doubt:
                doubt = close(score[1], blur, starts, SETTLED, False)
            doubtful[r] = doubt
            if not doubt:
                for k in range(2):
                    _rank(score[k], scale[k], member, above, below, measured, status[r, k], agree[r, k], untied[r, k],
                          settled, bits)  # fmt: skip
            if len(scores):
                scores[r] = score

    return joins


def _make_sums(fingerprint: str) -> Callable[..., None]:
    def sums(total: Any, highest: Any, size: Any, starts: Any, member: Any, above: Any, below: Any, measured: Any,
             status: Any, agree: Any, untied: Any, scores: Any) -> None:  # fmt: skip
        fingerprint  # noqa: B018 - a part of the key under which numba caches this function
        count = len(starts) - 1
        score, scale = np.empty((2, count)), np.empty((2, count))
        settled, bits = np.empty(-(-count // 64) * 64), np.empty(above.shape[2], np.uint64)
        for r in range(total.shape[1]):
            for n in range(count):
                score[0, n] = _ranged(total[n, r] / (starts[n + 1] - starts[n]))
                score[1, n] = _ranged(total[n, r])
                scale[0, n] = max(highest[n, r], abs(score[0, n]))
                scale[1, n] = max(size[n, r], abs(score[1, n]))
            for k in range(2):
                _rank(score[k], scale[k], member, above, below, measured, status[r, k], agree[r, k], untied[r, k],
                      settled, bits)  # fmt: skip
            if len(scores):
                scores[r] = score

    return sums


def _compiled(name: str, joins: Any, counts: Any) -> Any:
    """``joins`` or ``sums``, for joins and counts of pairs of these dtypes; compiled by one thread."""
    with _LOCK:
        return _made(name, joins, counts)


@cache
def _made(name: str, joins: Any, counts: Any) -> Any:
    real, bits = types.float64, types.uint64
    order = (types.boolean[:, ::1], bits[:, :, ::1], bits[:, :, ::1], bits[:, :, ::1])
    pairs = from_dtype(counts)[:, :, :, ::1]
    made = (types.uint8[:, :, ::1], pairs, pairs, real[:, :, ::1])
    starts, table = _given(types.int64, 1), _given(real, 2)
    if name == "sums":
        return kept(_make_sums(_fingerprint()), (table, table, table, starts, *order, *made))
    given = (_given(from_dtype(joins), 2), table, table, table, _given(types.boolean, 1), starts)
    return kept(_make_joins(_fingerprint()), (*given, *order, *made, types.boolean[::1]))


def _given(number: Any, axes: int) -> Any:
    return types.Array(number, axes, "C", readonly=True)  # arrays that can be written to are taken, too


def _fingerprint() -> str:
    """Of everything that is compiled in: numba's own check of a cached function sees this file alone."""
    digest = hashlib.blake2b(repr((FLOAT32_MAX, FLOAT32_TINY, DIGITS, SAME)).encode(), digest_size=16)
    digest.update(Path(__file__).with_name("doubt.py").read_bytes())
    return digest.hexdigest()
