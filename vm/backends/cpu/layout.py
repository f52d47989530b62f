"""Where the elements of a group of layers lie: shapes, tiles, jobs, addresses.

A tile is some whole rows of a segment, or part of one row where rows are long. The tiles and jobs of a segment depend
on its shape alone, so that the order of every sum does, and no value depends on what is computed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .emit import PAD

Ints = NDArray[np.int64]

LAYER, ROW, ROW_END, COLUMN, WIDTH, COLUMNS, TILE_ROWS, NEW_COLUMNS, OLD_COLUMNS, NEW_ROWS = range(10)
"""The numbers of a job: place of its layer in the group, its rows, first column and width, columns of the segment, rows
of a tile, and where its part of the tables of columns and rows begins. Some jobs have their part of the tables of
columns in common, see `Layout.groups`."""

WIDEST = 1536
"""Elements of a tile at most, as far as float64 goes; twice as many of float32."""
TYPICAL = 1024
JOBS, JOB, LARGE_JOB = 16, 1 << 13, 1 << 15
"""A segment is so many jobs, of elements within these bounds: so many that threads share a small segment evenly even
where one is slower, so few that joining what they leave is nothing."""
TOGETHER = 4
"""So many jobs have one table of columns: clearing and joining more of them would take its time."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Matrices of one type in a group of T layers.

    ``rows``, ``columns``: int64 ``[T]``. ``jobs``: int64 ``[J, 10]``, see `machine`, those of a layer in a row.
    ``elements``, ``old_columns``, ``old_rows``: where each layer begins ``[T + 1]`` in a table of elements, of columns,
    of rows. ``new_columns``, ``new_rows``: the sizes of the tables by job. ``groups``: the first job of each group that
    has one part of the tables of columns, and the end of the last ``[G + 1]``: one thread takes all of a group.
    """

    rows: Ints
    columns: Ints
    jobs: Ints
    elements: Ints
    old_columns: Ints
    old_rows: Ints
    new_columns: int
    new_rows: int
    groups: Ints

    @cached_property
    def column_jobs(self) -> Ints:
        """The first job of each group, ``[G, 10]``."""
        return self.jobs[self.groups[:-1]]

    @cached_property
    def column_places(self) -> Ints:
        """For every entry of a table of columns by job its place in the table by layer; of the room behind a group the
        place after the last."""
        first, wide, old = (self.column_jobs[:, field] for field in (NEW_COLUMNS, WIDTH, OLD_COLUMNS))
        room = np.diff(np.append(first, self.new_columns))
        within = np.arange(self.new_columns) - np.repeat(first, room)
        return np.where(within < np.repeat(wide, room), within + np.repeat(old, room), int(self.old_columns[-1]))

    @cached_property
    def row_places(self) -> Ints:
        """For every entry of a table of rows by job its place in the table by layer."""
        return np.concatenate([self.old_rows[j[LAYER]] + np.arange(j[ROW], j[ROW_END]) for j in self.jobs])

    @cached_property
    def before(self) -> Ints:
        """How many elements lie before each job, and in all, ``[J + 1]``."""
        return _starts((self.jobs[:, ROW_END] - self.jobs[:, ROW]) * self.jobs[:, WIDTH])

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """Elements of each layer, ``[T]``."""
        return (self.rows * self.columns).astype(np.float64)


def layout(rows: Ints, columns: Ints, scale: int) -> Layout:
    """The layout of layers with these shapes. ``scale``: how many times larger than in float64 a tile may be."""
    blocks = -(-columns // (WIDEST * scale))
    width = -(-columns // blocks)
    tile_rows = np.maximum(1, np.round(TYPICAL * scale / width).astype(np.int64))
    tile_rows = np.minimum(tile_rows, np.maximum(1, WIDEST * scale // width))
    job = np.clip(rows * columns // JOBS, JOB, LARGE_JOB)
    tiles, most = -(-rows // tile_rows), np.maximum(1, job // (width * tile_rows))
    strips = -(-tiles // most)
    each = blocks * strips
    layer = np.repeat(np.arange(len(rows)), each)
    index = np.arange(len(layer)) - np.repeat(np.cumsum(each) - each, each)
    block, strip = index // strips[layer], index % strips[layer]
    first, last = (i * tiles[layer] // strips[layer] for i in (strip, strip + 1))  # jobs differ by one tile at most
    first_row, first_column = first * tile_rows[layer], block * width[layer]
    last_row = np.minimum(last * tile_rows[layer], rows[layer])
    wide = np.minimum(width[layer], columns[layer] - first_column)
    begins = strip % TOGETHER == 0
    groups = np.append(np.flatnonzero(begins), len(layer))
    old_columns, old_rows = _starts(columns), _starts(rows)
    new_columns = _starts(wide[begins] + PAD)  # a vector may run over the end
    new_rows = _starts(last_row - first_row)
    jobs = np.stack(
        [
            layer,
            first_row,
            last_row,
            first_column,
            wide,
            columns[layer],
            tile_rows[layer],
            new_columns[np.cumsum(begins) - 1],
            old_columns[layer] + first_column,
            new_rows[:-1],
        ],
        axis=1,
    )
    return Layout(
        rows,
        columns,
        np.ascontiguousarray(jobs, np.int64),
        _starts(rows * columns),
        old_columns,
        old_rows,
        int(new_columns[-1]),
        int(new_rows[-1]),
        groups,
    )


def _starts(sizes: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))
