"""One sweep: the machine over all jobs, on all threads, and what the jobs leave joined to what the layers have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomics import NEXT
from .emit import LOWEST, PAD
from .layout import WIDEST, Ints, Layout
from .machine import compiled
from .memory import Arrays, What
from .passes import Sweep, Total
from .rules import COLUMNWISE
from .threads import Threads

Array = NDArray[np.float64]
Numbers = NDArray[Any]
"""In the format of the tiles."""

SMALL_WORK = 1 << 20
"""Elements times instructions that are not worth a second thread."""
LARGE_WORK = 1 << 22
"""So much, a quarter of a millisecond, a thread may take at once: what it waits for the others at the end is little."""
SHARES = 16
"""Parts of the work for each thread at least: an uneven part then costs little."""
BATCH = 256
"""Shares, some 50 milliseconds, after which a thread looks whether the user wants to stop."""


@dataclass(frozen=True)
class Left:
    """What a sweep leaves behind: ``rows``, the row of each total in a table ``totals`` ``[S, T]``; by Matrix, for all
    columns of all layers in a row, the largest element and the sum of exp(element - largest) (NaN where that has no
    value), and the sums of columns and of rows."""

    rows: dict[Total, int]
    totals: Array
    columns: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    column_sums: dict[int, Array] = field(default_factory=dict)
    row_sums: dict[int, Array] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[What, Arrays]]:
        """All of it, each under its own name."""
        for what, row in self.rows.items():
            yield what, (self.totals[row],)
        for x, pair in self.columns.items():
            yield ("columns", (x,)), pair
        for table, found in (("column_sums", self.column_sums), ("row_sums", self.row_sums)):
            for x, values in found.items():
                yield (table, (x,)), (values,)


def sweep_over(
    sweep: Sweep,
    where: Layout,
    addresses: Ints,
    scalars: Array,
    joined: Array,
    columns: Mapping[int, tuple[Array, Array]],
    number: type[np.floating[Any]],
    threads: Threads,
) -> Left:
    """Runs a sweep. ``addresses``: ``[segments of the sweep, T]``. ``scalars``: ``[rows of the plan, T]``. ``joined``:
    where its totals go, ``[S, T]``. ``columns``: of the Matrices that it takes softmax of, see `Left`. ``number``:
    float64 or float32."""
    capacity = WIDEST * (8 // np.dtype(number).itemsize) + PAD
    totals = np.repeat(sweep.first_totals[None], len(where.jobs), axis=0)
    shape = len(sweep.columns), where.new_columns
    new, sums = threads.table("new", shape, number, LOWEST), threads.table("sums", shape, number, 0.0)
    largest, factors = _factors(sweep, int(where.old_columns[-1]) + PAD, columns, number, threads)
    column_sums = threads.table("column_sums", (len(sweep.column_sums), where.new_columns), np.float64, 0.0)
    row_sums = threads.table("row_sums", (len(sweep.row_sums), where.new_rows), np.float64, 0.0)
    double = number is np.float64
    run = compiled("run", double)

    bounds = shares(where, len(sweep.code), threads.count, bool(sweep.columns or sweep.column_sums))
    counters = np.zeros((-(-(len(bounds) - 1) // BATCH), 2), np.int64)
    counters[:, NEXT] = BATCH * np.arange(len(counters))
    tables = (
        capacity, addresses, scalars, totals, new.ravel(), sums.ravel(), new.shape[1], largest.ravel(),
        factors.ravel(), largest.shape[1], column_sums.ravel(), row_sums.ravel(), where.new_rows,
    )  # fmt: skip

    def work(bell: Ints) -> None:
        scratch = threads.scratch(sweep.registers * capacity, number)
        for i, counter in enumerate(counters):
            end = min((i + 1) * BATCH, len(bounds) - 1)
            run(bell, counter, end, bounds, where.jobs, sweep.code, scratch, *tables)

    threads.together(work, min(threads.count, len(bounds) - 1), counters)
    compiled("join")(where.jobs, sweep.kinds, totals, joined)
    left = Left(sweep.totals, joined)
    if sweep.columns:
        left.columns.update(_joined_columns(sweep, where, new, sums))
    for x, row in sweep.column_sums.items():
        ends = int(where.old_columns[-1])
        left.column_sums[x] = _gathered(where.column_places, column_sums[row], ends + 1)[:ends]
    for x, row in sweep.row_sums.items():
        left.row_sums[x] = _gathered(where.row_places, row_sums[row], int(where.old_rows[-1]))
    return left


def _gathered(places: Ints, values: Array, size: int) -> Array:
    """The values added up at their places, one after the other."""
    sums = np.zeros(size)
    np.add.at(sums, places, values)
    return sums


def _factors(
    sweep: Sweep,
    room: int,
    columns: Mapping[int, tuple[Array, Array]],
    number: type[np.floating[Any]],
    threads: Threads,
) -> tuple[Numbers, Numbers]:
    """What the softmaxes of the sweep need of every column: its largest element and its factor."""
    largest, factors = (threads.table(n, (len(sweep.factors), room), number, 0.0) for n in ("largest", "factors"))
    for (name, x), row in sweep.factors.items():
        high, total = columns[x]
        largest[row, : len(high)] = high
        factors[row, : len(high)] = COLUMNWISE[name][1](total)
    return largest, factors


def _joined_columns(sweep: Sweep, where: Layout, new: Numbers, sums: Numbers) -> dict[int, tuple[Array, Array]]:
    found = {}
    for x, row in sweep.columns.items():
        largest, total = (np.full((1, int(where.old_columns[-1])), first) for first in (LOWEST, 0.0))
        compiled("join_columns", new.dtype == np.float64)(where.column_jobs, new[row : row + 1], largest, False)
        joined = _moderate if row in sweep.moderate else _shifted
        joined(where, new[row : row + 1], sums[row : row + 1], largest, total)
        total[np.isinf(largest) | (total == 0)] = np.nan  # inf - inf: an element is inf, or all are -inf
        found[x] = largest[0], total[0]
    return found


def _moderate(where: Layout, new: Numbers, sums: Numbers, largest: Array, total: Array) -> None:
    compiled("join_columns", sums.dtype == np.float64)(where.column_jobs, sums, total, True)
    total *= np.exp(-largest)
    if (where.rows == 1).any():  # exp(x) exp(-x) is not always 1
        single = np.repeat(where.rows == 1, where.columns)
        total[:, single] = total[:, single] * 0.0 + 1.0


def _shifted(where: Layout, new: Numbers, sums: Numbers, largest: Array, total: Array) -> None:
    apart = np.append(largest, 0.0)[where.column_places]  # behind a job stands anything
    np.exp(np.subtract(new, apart, out=apart[None]), out=apart[None])
    apart *= sums[0]
    compiled("join_columns")(where.column_jobs, apart[None], total, True)


def shares(where: Layout, instructions: int, threads: int, grouped: bool) -> Ints:
    """Where ranges of jobs of about the same work begin, and the end of the last; one is not worth a second thread.
    ``grouped``: no group is divided."""
    total = int(where.elements[-1])
    if threads == 1 or total * instructions < SMALL_WORK:
        return np.array([0, len(where.jobs)])
    units = where.groups if grouped else np.arange(len(where.jobs) + 1)
    before = where.before[units]
    count = min(len(units) - 1, max(threads * SHARES, total * instructions // LARGE_WORK))
    starts = np.searchsorted((before[:-1] + before[1:]) / 2, total * np.arange(count) / count)
    found = units[np.append(starts, len(units) - 1)]
    return np.asarray(found[np.append(True, found[1:] != found[:-1])])
