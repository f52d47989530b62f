"""Where two matrices meet: the means of ``a * b`` and ``a @ b`` of all pairs of branches, layer by layer.

The mean of ``a * b`` is an inner product, so those of all pairs are one Gram matrix: the branches are the rows of a
tall matrix, built tile by tile, times its transpose. The mean of ``a @ b`` needs the sums of the columns of a and of
the rows of b. The arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.types import STATISTICS
from ...stats_cache.source import Source
from .branches import Branches
from .rows import AFFINE, COLUMNWISE, Key, Known, centre_of, form_of, numbers, shift_of
from .tiles import TILE, Side, Task, plan_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """A branch that is a matrix. ``local``: its number among those of its statistic."""

    local: int
    inner: str
    outer: str


def chains_of(branches: Branches) -> tuple[Chain, ...]:
    """The matrices of one statistic, without negations, each by the genotype that shares most."""
    return tuple(
        Chain(local, *min(genes, key=lambda g: (g[1] != "identity", g[0] != "identity", g[1] not in AFFINE)))
        for local, genes in enumerate(branches.genes)
        if branches.matrix[local] and branches.base[local] == local
    )


@dataclass(frozen=True, eq=False)
class Means:
    """Of one layer: mean(a * b) over the M matrices of some statistics of one type, and their sums of columns and rows.

    Matrix i is ``factor`` times row ``row`` of the tall matrix, plus ``shift``, less ``share`` times the numbers
    ``column`` of ``vectors`` ``[V, c]``, one for each column; all ``[M]``, the factor NaN where it is not finite.
    ``gram``: the means of products of the K rows, the vectors and 1, ``[K + V + 1, K + V + 1]``. ``columns``
    ``[K, c]``, ``rows`` ``[K, r]``: sums of the rows' columns and rows.
    """

    factor: Array
    shift: Array
    share: Array
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    vectors: Array
    gram: Array
    columns: Array
    rows: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrices."""
        return self.rows.shape[1], self.columns.shape[1]

    def products(self) -> Array:
        """mean(a * b) of all pairs, ``[M, M]``."""
        return self._combined(self._combined(self.gram).T)

    def _combined(self, table: Array) -> Array:
        """Of a table ``[K + V + 1, n]`` with a row for each row, each vector and 1 that of each matrix, ``[M, n]``."""
        f, s, g = (v[:, None] for v in (self.factor, self.shift, self.share))
        found = f * table[self.row] + s * table[-1]
        some = np.flatnonzero(self.share)
        found[some] -= g[some] * table[len(self.columns) + self.column[some]]
        return np.asarray(found)

    def sums(self, side: int, chosen: slice) -> Array:
        """Sums of the columns (side 0) or rows (side 1) of some matrices, ``[M', ..]``."""
        height, width = self.shape
        if side == 0:
            table = np.concatenate((self.columns, height * self.vectors, np.full((1, width), float(height))))
        else:
            numbers = np.broadcast_to(self.vectors.sum(axis=1)[:, None], (len(self.vectors), height))
            table = np.concatenate((self.rows, numbers, np.full((1, height), float(width))))
        return self._combined(table)[chosen]


class Tall:
    """Builds the tall matrix of one layer of some statistics of one type. ``rows``: whether their sums are needed."""

    def __init__(self, chains: tuple[Chain, ...], rows: bool) -> None:
        self._chains, self._rows = chains, rows
        self._inner = tuple(dict.fromkeys(chain.inner for chain in chains))
        self._buffer = np.empty((0, 0))

    def means(
        self,
        source: Source,
        place: tuple[int, int],
        statistics: tuple[str, ...],
        moments: Mapping[tuple[str, str], Array],
        finite: Sequence[NDArray[np.bool_]],
    ) -> Means:
        """The means of a layer. ``place``: network and layer. ``moments``: (statistic, inner op) -> `values.MOMENTS`;
        ``finite``: for each statistic, by `Chain.local`."""
        count = len(self._chains) * len(statistics)
        made = _Forms.room(count)
        sides, plans, firsts = [], [], [0]
        step = 1
        for k, name in enumerate(statistics):
            segment = source.read(place[0], name, place[1])
            step = max(1, TILE // segment.shape[1])
            known = {op: Known(*moments[name, op].tolist()) for op in dict.fromkeys(("identity", *self._inner))}
            side = Side(segment, known)
            side.look(self._columnwise(finite[k]), step)
            rows, centres = self._place(made, k, side, finite[k], firsts[-1])
            sides.append(side)
            plans.append(plan_of(rows, centres))
            firsts.append(firsts[-1] + len(rows))
        gram, columns, row_sums = self._gram(sides, plans, firsts[-1], step)
        return made.means(gram, columns, row_sums)

    def _columnwise(self, finite: NDArray[np.bool_]) -> list[str]:
        """The inner ops whose columns have to be known."""
        live = [chain for chain in self._chains if finite[chain.local]]
        found = dict.fromkeys(chain.inner for chain in live if chain.outer in COLUMNWISE)
        if any(chain.inner in COLUMNWISE for chain in live):
            found["identity"] = None
        return list(found)

    def _place(
        self, made: _Forms, k: int, side: Side, finite: NDArray[np.bool_], first: int
    ) -> tuple[dict[Key, int], dict[Key, float]]:
        """The rows of one statistic in the tall matrix, and what is taken from them; how its matrices follow from them
        is entered into ``made``."""
        rows: dict[Key, int] = {}
        centres: dict[Key, float] = {}
        vectors: dict[str, int] = {}
        for i, chain in enumerate(self._chains, k * len(self._chains)):
            if not finite[chain.local]:
                continue
            form = form_of(chain.inner, chain.outer, side.known, side.tiny)
            made.factor[i], made.shift[i], made.share[i] = form.factor, shift_of(form, side.known), form.share
            if form.row is not None:
                made.row[i] = rows.setdefault(form.row, first + len(rows))
                centres[form.row] = centre_of(form.row, side.known)
            if form.columns is not None:
                if form.columns not in vectors:
                    vectors[form.columns] = len(made.vectors)
                    op, less = numbers(form.columns, side.known)
                    made.vectors.append(side.columns[op].log(less))
                made.column[i] = vectors[form.columns]
        return rows, centres

    def _gram(
        self, sides: Sequence[Side], plans: Sequence[tuple[Task, ...]], rows: int, step: int
    ) -> tuple[Array, Array, Array]:
        """Inner products of the rows, and the sums of their columns and rows."""
        height, width = sides[0].segment.shape
        gram, columns, row_sums = np.zeros((rows, rows)), np.zeros((rows, width)), np.zeros((rows, height))
        if self._buffer.shape[0] < rows or self._buffer.shape[1] < step * width:
            self._buffer = np.empty((rows, step * width))
        start = 0
        for parts in zip(*(side.tiles(step) for side in sides), strict=True):
            size = parts[0].shape[0]
            tall = self._buffer[:rows, : size * width]
            for side, part, plan in zip(sides, parts, plans, strict=True):
                side.fill(tall, part, plan)
            gram += tall @ tall.T
            elements = tall.reshape(rows, size, width)
            columns += elements.sum(axis=1)
            if self._rows:
                row_sums[:, start : start + size] = elements.sum(axis=2)
            start += size
        return gram, columns, row_sums


@dataclass(frozen=True, eq=False)
class _Forms:
    """What `Means` says of the matrices."""

    factor: Array
    shift: Array
    share: Array
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    vectors: list[Array]

    @staticmethod
    def room(count: int) -> _Forms:
        zeros = np.zeros((2, count))
        places = np.zeros((2, count), np.intp)
        return _Forms(np.full(count, np.nan), zeros[0], zeros[1], places[0], places[1], [])

    def means(self, gram: Array, columns: Array, rows: Array) -> Means:
        """``gram``, ``columns``, ``rows``: sums over the rows of the tall matrix."""
        height, width = rows.shape[1], columns.shape[1]
        vectors = np.array(self.vectors).reshape(-1, width)
        count, every = len(gram), len(gram) + len(vectors) + 1
        found = np.empty((every, every))
        found[:count, :count] = gram / (height * width)
        found[:count, count:-1] = columns @ vectors.T / (height * width)
        found[:count, -1] = columns.sum(axis=1) / (height * width)
        found[count:-1, count:-1] = vectors @ vectors.T / width
        found[count:-1, -1] = vectors.sum(axis=1) / width
        found[-1, -1] = 1.0
        found[count:, :count] = found[:count, count:].T
        found[-1, count:-1] = found[count:-1, -1]
        return Means(self.factor, self.shift, self.share, self.row, self.column, vectors, found, columns, rows)


def groups_of(statistics: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The statistics of one type together."""
    groups: dict[Any, list[str]] = {}
    for name in statistics:
        groups.setdefault(STATISTICS[name].type, []).append(name)
    return [tuple(names) for names in groups.values()]
