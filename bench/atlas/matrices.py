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
from llvmlite import binding
from numpy.typing import NDArray

from ...grammar.types import STATISTICS
from ...stats_cache.source import Source
from ...vm.backends.cpu.gram import BLOCK
from ...vm.backends.cpu.machine import compiled
from ...vm.backends.cpu.threads import Threads, aligned
from .branches import Branches, Unaries
from .rows import AFFINE, COLUMNWISE, Key, Known, centre_of, form_of, numbers, one_sided, shift_of
from .tiles import Rows, Side, Task, plan_of, result

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """A branch that is a matrix. ``local``: its number among those of its statistic. ``before``: the ops that come
    before the inner one, where branches have more than two."""

    local: int
    before: Unaries
    inner: str
    outer: str


def chains_of(branches: Branches) -> tuple[Chain, ...]:
    """The matrices of one statistic, without negations, each by the genotype that shares most."""

    def rank(ops: Unaries) -> tuple[object, ...]:
        *before, inner, outer = ops
        return before.count("identity") < len(before), outer != "identity", inner != "identity", outer not in AFFINE

    chosen = (
        (local, min(genes, key=rank))
        for local, genes in enumerate(branches.genes)
        if branches.matrix[local] and branches.base[local] == local
    )
    return tuple(Chain(local, tuple(before), inner, outer) for local, (*before, inner, outer) in chosen)


@dataclass(frozen=True, eq=False)
class Means:
    """Of one layer: mean(a * b) over the M matrices of some statistics of one type, and their sums of columns and rows.

    Matrix i is ``factor`` times row ``row`` of the tall matrix, plus ``shift``, less ``share`` times the numbers
    ``column`` of ``vectors`` ``[V, c]``, one for each column; all ``[M]``, the factor NaN where it is not finite.
    ``gram``: the means of products of the K rows, the vectors and 1, ``[K + V + 1, K + V + 1]``. ``columns``
    ``[K, c]``, ``rows`` ``[K, r]``: sums of the rows' columns and rows. ``sided``: bool ``[K]``, rows without elements
    on both sides of 0, or without being known to have them.
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
    sided: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrices."""
        return self.rows.shape[1], self.columns.shape[1]

    def products(self) -> Array:
        """mean(a * b) of all pairs, ``[M, M]``."""
        return self._combined(self._combined(self.gram).T)

    def terms(self) -> Array:
        """What `products` are made of: the sums of the absolute values of all that is added up, or bounds of these."""
        roots = np.sqrt(np.maximum(np.diagonal(self.gram), 0.0))
        sided = np.concatenate((self.sided, np.zeros(len(self.vectors), np.bool_), [True]))
        table = np.where(sided[:, None] & sided, np.abs(self.gram), roots[:, None] * roots)
        return self._combined(self._combined(table, True).T, True)

    def _combined(self, table: Array, terms: bool = False) -> Array:
        """Of a table ``[K + V + 1, n]`` with a row for each row, each vector and 1 that of each matrix, ``[M, n]``;
        ``terms``: with the absolute values of what is added."""
        f, s, g = ((np.abs(v) if terms else v)[:, None] for v in (self.factor, self.shift, self.share))
        found = f * table[self.row] + s * table[-1]
        some = np.flatnonzero(self.share)
        part = g[some] * table[len(self.columns) + self.column[some]]
        found[some] += part if terms else -part
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

    def sums_of_terms(self, side: int, chosen: slice) -> Array:
        """What `sums` are made of: the sums of the absolute values of all that is added up, or estimates of these."""
        count, length = self.shape if side == 0 else self.shape[::-1]
        roots = np.sqrt(np.maximum(np.diagonal(self.gram), 0.0))[: len(self.columns), None]
        sums = np.where(self.sided[:, None], np.abs(self.columns if side == 0 else self.rows), count * roots)
        numbers = np.abs(self.vectors)
        all_of_them = np.broadcast_to(numbers.sum(axis=1)[:, None], (len(numbers), length))
        table = (sums, count * numbers if side == 0 else all_of_them, np.full((1, length), float(count)))
        return self._combined(np.concatenate(table), True)[chosen]


PART = 1 << 15
"""Elements of a part of the tall matrix, in whole rows of its matrices."""


ROUND, APART = 8, 16
"""Rows begin at a multiple of a vector, and no number of pages from each other."""


class Gram:
    """Adds up inner products of the rows of a table, part by part."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self._sums = np.zeros((len(table), len(table)))
        self._own = bool(binding.get_host_cpu_features().get("avx512f"))

    def add(self, elements: int) -> None:
        """Those of so many elements of each row."""
        if not self._own:
            part = self._table[:, :elements]
            self._sums += part @ part.T
            return
        end = -(-elements // ROUND) * ROUND
        self._table[:, elements:end] = 0.0
        rows, stride = self._table.shape
        compiled("gram")(self._table.ravel(), rows, end, stride, self._sums.ravel())

    def found(self) -> Array:
        """All of them."""
        upper = np.triu(self._sums)
        return np.asarray(upper + np.triu(upper, 1).T)


class Tall:
    """Builds the tall matrix of one layer of some statistics of one type."""

    def __init__(self, chains: tuple[Chain, ...]) -> None:
        self._count = len(chains)
        self._threads = Threads(1)
        self._sides: dict[Unaries, list[tuple[int, Chain]]] = {}
        for i, chain in enumerate(chains):
            self._sides.setdefault(chain.before, []).append((i, chain))
        self._memory = np.empty(0)

    def means(
        self,
        source: Source,
        place: tuple[int, int],
        statistics: tuple[str, ...],
        moments: Mapping[tuple[str, ...], Array],
        finite: Sequence[NDArray[np.bool_]],
    ) -> Means:
        """The means of a layer. ``place``: network and layer. ``moments``: (statistic, inner ops) -> `values.MOMENTS`;
        ``finite``: for each statistic, by `Chain.local`."""
        made = _Forms.room(self._count * len(statistics))
        shape = source.shape(place[0], statistics[0], place[1])
        sides, plans = [], []
        for k, name in enumerate(statistics):
            segment = source.read(place[0], name, place[1])
            for before, chains in self._sides.items():
                live = [(k * self._count + i, chain) for i, chain in chains if finite[k][chain.local]]
                if live:
                    ops = dict.fromkeys(("identity", "abs", *(chain.inner for _, chain in chains)))
                    found = {op: moments[name, *before, op] for op in ops if (name, *before, op) in moments}
                    side = Side(result(segment, before), {op: Known(*m.tolist()) for op, m in found.items()})
                    side.look(_columnwise([chain for _, chain in live]), self._threads)
                    sides.append(side)
                    plans.append(plan_of(*_placed(made, live, side)))
        return made.means(*self._gram(shape, sides, plans, len(made.sided)))

    def _gram(
        self, shape: tuple[int, int], sides: Sequence[Side], plans: Sequence[tuple[Task, ...]], rows: int
    ) -> tuple[Array, Array, Array]:
        """Inner products of the rows, and the sums of their columns and rows."""
        height, width = shape
        step = max(1, PART // width)
        table = self._room(rows, step * width)
        gram, columns, row_sums = Gram(table), np.zeros((rows, width)), np.zeros((rows, height))
        made = Rows(sides, plans, self._threads)
        for start in range(0, height if rows else 0, step):
            stop = min(start + step, height)
            found, row_sums[:, start:stop] = made.fill(table[:rows], start, stop)
            columns += found
            gram.add((stop - start) * width)
        return gram.found()[:rows, :rows], columns, row_sums

    def _room(self, rows: int, elements: int) -> Array:
        """Memory for so many rows, or some more that are 0, of so many elements and some more."""
        height, width = -(-rows // BLOCK) * BLOCK, -(-elements // ROUND) * ROUND + APART
        if self._memory.size < height * width:
            self._memory = aligned(height * width, np.float64)
        table = self._memory[: height * width].reshape(height, width)
        table[rows:] = 0.0
        return table


def _columnwise(live: Sequence[Chain]) -> list[str]:
    """The inner ops whose columns have to be known."""
    found = dict.fromkeys(chain.inner for chain in live if chain.outer in COLUMNWISE)
    if any(chain.inner in COLUMNWISE for chain in live):
        found["identity"] = None
    return list(found)


def _placed(made: _Forms, live: Sequence[tuple[int, Chain]], side: Side) -> tuple[dict[Key, int], dict[Key, float]]:
    """The rows of one side in the tall matrix, and what is taken from them; how its matrices, the ``live`` ones by
    number, follow from them is entered into ``made``."""
    rows: dict[Key, int] = {}
    centres: dict[Key, float] = {}
    vectors: dict[str, int] = {}
    for i, chain in live:
        form = form_of(chain.inner, chain.outer, side.known, side.tiny)
        made.factor[i], made.shift[i], made.share[i] = form.factor, shift_of(form, side.known), form.share
        if form.row is not None:
            if form.row not in rows:
                rows[form.row] = len(made.sided)
                centres[form.row] = centre_of(form.row, side.known)
                made.sided.append(one_sided(form.row, side.known))
            made.row[i] = rows[form.row]
        if form.columns is not None:
            if form.columns not in vectors:
                vectors[form.columns] = len(made.vectors)
                op, less = numbers(form.columns, side.known)
                made.vectors.append(side.columns[op].log(less))
            made.column[i] = vectors[form.columns]
    return rows, centres


@dataclass(frozen=True, eq=False)
class _Forms:
    """What `Means` says of the matrices; ``sided``: of each row."""

    factor: Array
    shift: Array
    share: Array
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    vectors: list[Array]
    sided: list[bool]

    @staticmethod
    def room(count: int) -> _Forms:
        zeros = np.zeros((2, count))
        places = np.zeros((2, count), np.intp)
        return _Forms(np.full(count, np.nan), zeros[0], zeros[1], places[0], places[1], [], [])

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
        sided = np.array(self.sided, np.bool_)
        return Means(self.factor, self.shift, self.share, self.row, self.column, vectors, found, columns, rows, sided)


def groups_of(statistics: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The statistics of one type together."""
    groups: dict[Any, list[str]] = {}
    for name in statistics:
        groups.setdefault(STATISTICS[name].type, []).append(name)
    return [tuple(names) for names in groups.values()]
