"""The segments of a source as addresses: what the machine reads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....grammar.errors import ProxforgeError
from ....grammar.reference import in_range
from ....grammar.types import STATISTICS
from ....stats_cache.addresses import room
from ....stats_cache.source import SegmentFacts, Source
from ..values import Axes
from .emit import ABSOLUTES, DEVIATIONS, MAX, MEAN, MIN, SQUARES, SUM
from .layout import Ints, Layout, layout
from .memory import Arrays
from .threads import Threads

Array = NDArray[np.float64]

RESIDENT = 1 << 29
"""Bytes of segments that are kept as copies; where the address space is limited, at most `SHARE` of what is left."""
SHARE = 0.25
SMALLEST = 1e-28
"""An element below float32's range is 0. In a mean of at least this size such elements are nothing beside the rest."""
MAPPED = 256
"""So many networks are read where they lie; each keeps a file open, so the segments of more are copied. So are those of
caches that keep 16 bits of a number."""


@dataclass(frozen=True, eq=False)
class Held:
    """Segments in memory. ``addresses``: int64 ``[T]``. ``arrays``: what lies there; ``bytes``: of copies."""

    addresses: Ints
    arrays: list[NDArray[np.float32]]
    bytes: int


class Segments:
    """All layers of the chosen networks, one after the other: the places 0 to T - 1. ``scale``: how many times larger
    than in float64 a tile may be. ``threads``: to read them, which where they are checked takes its time."""

    def __init__(self, source: Source, networks: Sequence[int], scale: int, threads: Threads) -> None:
        self.places = [(n, layer) for n in networks for layer in range(source.networks[n].layers)]
        self._source = source
        self._scale = scale
        self._threads = threads
        self._many = len(networks) > MAPPED
        self._bounds: dict[str, float] = {}
        self._copied: dict[str, int] = {}
        self._totals: dict[str, Mapping[int, Array]] = {}
        self._axes: dict[str, Ints] = {}
        self._layouts: dict[tuple[Axes, int, int], Layout] = {}
        self._held: OrderedDict[tuple[str, int, int], Held] = OrderedDict()

    def bounds(self, statistics: Sequence[str]) -> list[float]:
        """The largest absolute value of an element of each statistic, in all networks of the source; inf where one is
        not finite. ProxforgeError where the sizes of an axis do not agree."""
        for name in statistics:
            if name not in self._bounds:
                self._learn(name)
                facts = self._source.facts(name)
                known = facts.low is not None and facts.high is not None and not facts.nonfinite
                self._bounds[name] = max(abs(facts.low or 0.0), abs(facts.high or 0.0)) if known else np.inf
        return [self._bounds[name] for name in statistics]

    def _learn(self, statistic: str) -> None:
        """The sizes of the axes at every place."""
        shapes = np.array([self._source.shape(n, statistic, layer) for n, layer in self.places], np.int64)
        type_ = STATISTICS[statistic].type
        for axis, found in zip((type_.rows, type_.cols), shapes.T.copy(), strict=True):
            known = self._axes.setdefault(axis, found)
            if not np.array_equal(known, found):
                network, layer = self.places[int(np.argmax(known != found))]
                message = f"the axis '{axis}' of {statistic} has another size than elsewhere in layer {layer}"
                raise ProxforgeError("cache", f"{message} of network {network}; collect the statistics again")

    def layout(self, axes: Axes, start: int, stop: int) -> Layout:
        """Where the elements of Matrices of a type lie, from place ``start`` to ``stop``."""
        key = (axes, start, stop)
        if key not in self._layouts:
            rows, columns = (self._axes[axis][start:stop] for axis in axes)
            self._layouts[key] = layout(rows, columns, self._scale)
        return self._layouts[key]

    def segment(self, statistic: str, place: int) -> NDArray[np.float32]:
        """One segment, ``[rows, cols]``."""
        network, layer = self.places[place]
        return self._source.read(network, statistic, layer)

    def totals(self, statistic: str) -> Mapping[int, Array]:
        """The totals of a statistic at all places, ``[T]``, by kind, from the facts of its segments, added up
        in float64 when it was collected. None of them where an element is not finite, or where so much is below
        float32's range that reading it as 0 would make a difference, in any network of the source: no digit depends on
        which of them were chosen."""
        if statistic not in self._totals:
            every = [self._source.segments(n, statistic) for n in range(len(self._source.networks))]
            known = all(f.mean_abs is not None and not 0 < f.mean_abs < SMALLEST for facts in every for f in facts)
            self._totals[statistic] = _totals([every[n][layer] for n, layer in self.places]) if known else {}
        return self._totals[statistic]

    def copied(self, statistics: Sequence[str]) -> int:
        """Bytes of the statistics that have to be copied to be read."""
        for name in statistics:
            if name not in self._copied:
                a, b = (self._source.read(self.places[0][0], name, self.places[0][1]) for _ in range(2))
                type_, lying = STATISTICS[name].type, not self._many and np.may_share_memory(a, b)
                self._copied[name] = 0 if lying else 4 * int(self._axes[type_.rows] @ self._axes[type_.cols])
        return sum(self._copied[name] for name in statistics)

    def held(self, statistic: str, start: int, stop: int) -> Held:
        """The segments of a statistic from place ``start`` to ``stop``; while the answer lives, so do they."""
        key = (statistic, start, stop)
        found = self._held.pop(key, None) or self._read(*key)
        self._held[key] = found
        total = sum(h.bytes for h in self._held.values())
        if not total:
            return found
        limit = min(RESIDENT, SHARE * (room() + total))
        while total > limit and len(self._held) > 1:
            total -= self._held.popitem(last=False)[1].bytes
        return found

    def _read(self, statistic: str, start: int, stop: int) -> Held:
        places = range(start, stop)
        if not self.copied([statistic]):
            arrays = [np.empty(0, np.float32)] * len(places)

            def look(place: int) -> None:
                arrays[place - start] = np.ascontiguousarray(self.segment(statistic, place))

            self._threads.each(look, places)
            return Held(np.array([a.ctypes.data for a in arrays], np.int64), arrays, 0)
        type_ = STATISTICS[statistic].type
        sizes = (self._axes[type_.rows] * self._axes[type_.cols])[start:stop]
        ends = np.cumsum(sizes)
        packed = np.empty(int(ends[-1]), np.float32)

        def copy(place: int) -> None:
            end, size = int(ends[place - start]), int(sizes[place - start])
            packed[end - size : end] = self.segment(statistic, place).ravel()

        self._threads.each(copy, places)
        return Held(packed.ctypes.data + 4 * (ends - sizes), [packed], packed.nbytes)


def _totals(facts: Sequence[SegmentFacts]) -> Mapping[int, Array]:
    columns = [(f.rows * f.cols, f.low, f.high, f.mean, f.std or 0.0, f.mean_abs) for f in facts]  # no std: one element
    count, low, high, mean, std, size = np.array(columns, np.float64).T
    deviations = std * std * (count - 1)
    return {
        SUM: mean * count,
        ABSOLUTES: size * count,
        SQUARES: deviations + mean * mean * count,
        MIN: in_range(low),
        MAX: in_range(high),
        MEAN: mean,
        DEVIATIONS: deviations,
    }


@dataclass(frozen=True)
class Part:
    """The places from ``start`` to ``stop``, as a program sees them. ``statistics``: its table; ``bounds``: of the
    absolute values of their elements."""

    segments: Segments
    statistics: Sequence[str]
    bounds: list[float]
    start: int
    stop: int

    @property
    def layers(self) -> int:
        """How many places."""
        return self.stop - self.start

    def layout(self, axes: Axes) -> Layout:
        """See `Segments.layout`."""
        return self.segments.layout(axes, self.start, self.stop)

    def cut(self, table: int | str, axes: Axes, arrays: Arrays) -> Arrays:
        """Of what is known of all places, the part: totals by place, tables of columns and rows by column and row."""
        places = self.segments.layout(axes, 0, len(self.segments.places))
        starts = {"columns": places.old_columns, "column_sums": places.old_columns, "row_sums": places.old_rows}
        at = starts[table] if isinstance(table, str) else np.arange(len(places.rows) + 1)
        return tuple(a[at[self.start] : at[self.stop]] for a in arrays)

    def held(self, statistic: int) -> Held:
        """See `Segments.held`, of an entry of the program's table."""
        return self.segments.held(self.statistics[statistic], self.start, self.stop)

    def segment(self, statistic: int, place: int) -> NDArray[np.float32]:
        """See `Segments.segment`, of an entry of the program's table and a place of the part."""
        return self.segments.segment(self.statistics[statistic], self.start + place)
