"""Where two matrices meet: the means of ``a * b`` and ``a @ b`` of all pairs of branches, layer by layer.

The mean of ``a * b`` is an inner product, so those of all pairs are one Gram matrix: the branches are the rows of a
tall matrix, built tile by tile, times its transpose. The mean of ``a @ b`` needs the sums of the columns of a and of
the rows of b. The arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.ops import OPS
from ...grammar.reference import EPS, in_range
from ...grammar.types import STATISTICS
from ...stats_cache.source import Source
from .branches import Branches

Array = NDArray[np.float64]

TILE = 8192
"""Elements of a tile, in whole rows."""
AFFINE = ("identity", "min_max", "normalize")
"""Outer ops that are s x + t of what the inner op gives: they share a row of the tall matrix."""
CENTRED = 16.0
"""Rows whose mean is so many times their deviation are kept without it: what cancels would be their digits."""


@dataclass(frozen=True)
class Chain:
    """A branch that is a matrix. ``local``: its number among those of its statistic."""

    local: int
    inner: str
    outer: str


def chains_of(branches: Branches) -> tuple[Chain, ...]:
    """The matrices of one statistic, without negations, each by the genotype that shares most."""
    found = []
    for local, genes in enumerate(branches.genes):
        if branches.matrix[local] and branches.base[local] == local:
            inner, outer = max(genes, key=lambda g: AFFINE.index(g[1]) if g[1] in AFFINE else -1)
            found.append(Chain(local, inner, outer))
    return tuple(found)


class Means:
    """Of one layer: mean(a * b) over the matrices of some statistics of one type, and their sums of columns and rows.

    ``factor``, ``shift``, ``row`` ``[M]``: matrix i is ``factor`` times row ``row`` of the tall matrix plus ``shift``;
    NaN where it is not finite. ``means`` ``[K]``: of the rows, ``gram`` ``[K, K]``. ``columns``: ``[K, cols]``,
    ``rows``: ``[K, rows]``, sums, of each statistic.
    """

    def __init__(self, count: int) -> None:
        self.factor = np.full(count, np.nan)
        self.shift = np.full(count, np.nan)
        self.row = np.zeros(count, np.intp)
        self.means = np.empty(0)
        self.gram = np.empty((0, 0))
        self.columns: list[Array] = []
        self.rows: list[Array] = []
        self.first: list[int] = []
        self.shape = (0, 0)

    def products(self) -> Array:
        """mean(a * b) of all pairs, ``[M, M]``."""
        f, s, rho = self.factor, self.shift, self.means[self.row]
        inner = self.gram[np.ix_(self.row, self.row)] / (self.shape[0] * self.shape[1])
        found = f[:, None] * inner * f[None]
        if s.any():
            found += (f * rho)[:, None] * s[None] + s[:, None] * (f * rho + s)[None]
        return np.asarray(found)

    def sums(self, which: int, side: int, chosen: slice) -> Array:
        """Sums of the columns (side 0) or rows (side 1) of the matrices of a statistic, ``[M', ..]``."""
        table = (self.columns if side == 0 else self.rows)[which]
        at = np.maximum(self.row[chosen] - self.first[which], 0)  # any row where the matrix is not finite
        length = self.shape[side]  # of a column, or of a row: the elements that the shift is added to
        return np.asarray(self.factor[chosen, None] * table[at] + length * self.shift[chosen, None])


@dataclass(frozen=True)
class Inner:
    """What is known of the result of an inner op in one layer: `values.MOMENTS`, and of each column the largest element
    and the sum of exp(element - largest)."""

    mean: float
    std: float
    low: float
    high: float
    largest: Array
    total: Array


def _inner(moments: Array, largest: Array, total: Array) -> Inner:
    mean, std, low, high = moments.tolist()
    return Inner(mean, std, low, high, largest, total)


class Tall:
    """Builds the tall matrix of one layer of some statistics of one type.

    ``moments``: (statistic, inner op) -> mean, std, min, max. ``finite``: for each statistic, by `Chain.local`.
    ``columns``, ``rows``: whether these sums are needed.
    """

    def __init__(self, chains: tuple[Chain, ...], columns: bool, rows: bool) -> None:
        self._chains = chains
        self._columns, self._rows = columns, rows
        self._outer: dict[str, list[tuple[int, str]]] = {}
        for i, chain in enumerate(chains):
            self._outer.setdefault(chain.inner, []).append((i, chain.outer))
        self._buffer = np.empty((0, 0))

    def means(
        self,
        source: Source,
        place: tuple[int, int],
        statistics: tuple[str, ...],
        moments: dict[tuple[str, str], Array],
        finite: list[NDArray[np.bool_]],
    ) -> Means:
        """The means of a layer. ``place``: network and layer."""
        count = len(self._chains)
        segments = [source.read(place[0], name, place[1]) for name in statistics]
        found = Means(count * len(statistics))
        found.shape = segments[0].shape[0], segments[0].shape[1]
        plans = []
        rows = 0
        for k, (name, segment) in enumerate(zip(statistics, segments, strict=True)):
            inner = self._inner(segment, name, moments, finite[k])
            found.first.append(rows)
            plan, rows = self._plan(found, k * count, rows, inner, finite[k])
            plans.append((segment, inner, plan))
        ends = [*found.first[1:], rows]
        found.gram = np.zeros((rows, rows))
        height, width = found.shape
        step = max(1, TILE // width)
        if self._buffer.shape[0] < rows or self._buffer.shape[1] < step * width:
            self._buffer = np.empty((rows, step * width))
        for first, end in zip(found.first, ends, strict=True):
            found.columns.append(np.zeros((end - first, width)))
            found.rows.append(np.empty((end - first, height)))
        totals = np.zeros(rows)
        for start in range(0, height, step):
            stop = min(start + step, height)
            tall = self._buffer[:rows, : (stop - start) * width]
            for segment, inner, plan in plans:
                _fill(tall, in_range(segment[start:stop].astype(np.float64)), inner, plan)
            found.gram += tall @ tall.T
            totals += tall.sum(axis=1)
            for k, (first, end) in enumerate(zip(found.first, ends, strict=True)):
                part = tall[first:end].reshape(end - first, stop - start, width)
                if self._columns:
                    found.columns[k] += part.sum(axis=1)
                if self._rows:
                    found.rows[k][:, start:stop] = part.sum(axis=2)
        found.means = totals / (height * width)
        return found

    def _inner(
        self, segment: NDArray[np.float32], name: str, moments: dict[tuple[str, str], Array], finite: NDArray[np.bool_]
    ) -> dict[str, Inner]:
        """What has to be known of the inner results before their outer ops can be computed tile by tile."""
        none = np.empty(0)
        live = {op: [b for i, b in outer if finite[self._chains[i].local]] for op, outer in self._outer.items()}
        wanted = [op for op, outer in live.items() if outer]
        by_column = [op for op in wanted if any(b in COLUMNWISE for b in live[op])]
        if "identity" not in by_column and any(op in COLUMNWISE for op in wanted):
            by_column.insert(0, "identity")
        by_column.sort(key=lambda op: op != "identity")
        columns: dict[str, tuple[Array, Array]] = {}
        whole = _inner(moments[name, "identity"], none, none)
        for op in by_column:
            columns[op] = _column_statistics(segment, op, whole, columns.get("identity", (none, none)))
        return {op: _inner(moments[name, op], *columns.get(op, (none, none))) for op in ("identity", *wanted)}

    def _plan(
        self, found: Means, at: int, rows: int, inner: dict[str, Inner], finite: NDArray[np.bool_]
    ) -> tuple[list[_Task], int]:
        """The rows of one statistic in the tall matrix, and how its matrices follow from them."""
        plan = []
        for op, outer in self._outer.items():
            live = [(i, b) for i, b in outer if finite[self._chains[i].local]]
            if not live:
                continue
            known = inner[op]
            centred = any(b in AFFINE for _, b in live) and abs(known.mean) > CENTRED * known.std
            task = _Task(op, [])
            for b in dict.fromkeys("identity" if b in AFFINE else b for _, b in live):
                task.outer.append((b, rows, known.mean if centred and b == "identity" else 0.0))
                for i, own in live:
                    if own == b or (b == "identity" and own in AFFINE):
                        factor, shift = _affine(own, known) if own in AFFINE else (1.0, 0.0)
                        mean = known.mean if centred and b == "identity" else 0.0
                        found.row[at + i] = rows
                        found.factor[at + i] = factor
                        found.shift[at + i] = shift + factor * mean if own != "normalize" or not centred else 0.0
                rows += 1
            plan.append(task)
        return plan, rows


@dataclass(frozen=True)
class _Task:
    """An inner op; its outer ops, the row of each, and what is taken from every element there."""

    inner: str
    outer: list[tuple[str, int, float]]


def _affine(op: str, known: Inner) -> tuple[float, float]:
    """(s, t) of s x + t."""
    if op == "normalize":
        scale = 0.0 if known.low == known.high or not known.std > 0 else 1.0 / known.std
        return scale, -known.mean * scale
    if op == "min_max":
        scale = 1.0 / (known.high - known.low + EPS)
        return scale, -known.low * scale
    return 1.0, 0.0


COLUMNWISE = ("softmax", "log_softmax")


def _fill(tall: Array, x: Array, inner: dict[str, Inner], plan: list[_Task]) -> None:
    """The rows of one statistic for a tile ``[r, c]``."""
    with np.errstate(all="ignore"):
        for task in plan:
            y = in_range(_applied(task.inner, x, inner.get("identity")))
            for op, row, centre in task.outer:
                value = _applied(op, y, inner[task.inner])
                if centre:
                    value = value - centre
                elif op in _SHRINKING:
                    value = in_range(value)
                tall[row] = value.ravel()


_SHRINKING = ("square", "exp", "sigmoid", "softmax", "pow4")
"""Outer ops whose result can be out of float32's range where the branch is finite."""


def _applied(op: str, x: Array, known: Inner | None) -> Array:
    """An op on a tile; ``known``: of the whole operand."""
    if op in COLUMNWISE:
        assert known is not None
        shifted = x - known.largest
        return np.exp(shifted) / known.total if op == "softmax" else shifted - np.log(known.total)
    if op in ("normalize", "min_max"):
        assert known is not None
        scale = _affine(op, known)[0]
        return (x - (known.mean if op == "normalize" else known.low)) * scale if scale else x * 0.0
    return np.asarray(OPS[op].reference(x))


def _column_statistics(
    segment: NDArray[np.float32], op: str, whole: Inner | None, columns: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Of every column of an inner op's result the largest element, and the sum of exp(element - largest)."""
    height, width = segment.shape
    if whole is not None and op in COLUMNWISE:
        whole = Inner(whole.mean, whole.std, whole.low, whole.high, *columns)
    step = max(1, TILE // width)
    largest, total = np.full(width, -np.inf), np.zeros(width)
    with np.errstate(all="ignore"):
        for start in range(0, height, step):
            x = in_range(segment[start : start + step].astype(np.float64))
            y = in_range(_applied(op, x, whole))
            now = np.maximum(largest, y.max(axis=0))
            total = total * np.exp(largest - now) + np.exp(y - now).sum(axis=0)
            largest = now
    return largest, total


def groups_of(statistics: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The statistics of one type together."""
    groups: dict[Any, list[str]] = {}
    for name in statistics:
        groups.setdefault(STATISTICS[name].type, []).append(name)
    return [tuple(names) for names in groups.values()]
