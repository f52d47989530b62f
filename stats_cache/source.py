"""What a reader of statistics sees: the networks, the segments, and the reading interface that every cache has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from ..grammar.errors import ProxforgeError, nearest
from ..grammar.types import STATISTICS
from .spaces.base import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CacheError(ProxforgeError):
    """A cache, a recipe or a collection that is wrong. The message names the file and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("cache", message)


@dataclass(frozen=True)
class Network:
    """One untrained network. ``arch``: its genes. ``layers``: number of segments of every statistic."""

    index: int
    arch: Mapping[str, Any]
    size: Size
    layers: int


@dataclass(frozen=True)
class StatFacts:
    """What is known of all elements of a statistic, exactly.

    ``low`` and ``high`` are the extremes of the finite elements (None when there is none); ``nonfinite`` counts NaN and
    infinite elements, ``zeros`` those that are 0, ``elements`` all.
    """

    low: float | None
    high: float | None
    zeros: int
    nonfinite: int
    elements: int

    @staticmethod
    def joined(parts: Iterable[StatFacts]) -> StatFacts:
        """The facts of several segments or networks taken together."""
        parts = tuple(parts)
        return StatFacts(
            low=min((p.low for p in parts if p.low is not None), default=None),
            high=max((p.high for p in parts if p.high is not None), default=None),
            zeros=sum(p.zeros for p in parts),
            nonfinite=sum(p.nonfinite for p in parts),
            elements=sum(p.elements for p in parts),
        )


WITNESSES = 8
"""Elements of a segment that its facts quote."""


@dataclass(frozen=True)
class SegmentFacts:
    """What is known of one segment ``[rows, cols]`` without reading it again.

    ``low``, ``high``, ``zeros``, ``nonfinite``: as in `StatFacts`. ``above``: the smallest positive finite element,
    ``below``: the largest negative one, None where there is none. ``mean``, ``std`` (unbiased) and ``mean_abs``, of
    absolute values: float64, None where an element is not finite (``std`` also of a single element). ``witnesses``: the
    elements at `witness_places`, the same places in every segment of one shape.
    """

    rows: int
    cols: int
    low: float | None
    high: float | None
    above: float | None
    below: float | None
    zeros: int
    nonfinite: int
    mean: float | None
    std: float | None
    mean_abs: float | None
    witnesses: tuple[float, ...]

    @property
    def range(self) -> StatFacts:
        """The facts that can be joined with those of other segments."""
        return StatFacts(self.low, self.high, self.zeros, self.nonfinite, self.rows * self.cols)

    def to_json(self) -> list[Any]:
        """The fields in order; a witness that is not finite is null."""
        finite = [w if math.isfinite(w) else None for w in self.witnesses]
        return [*(getattr(self, field.name) for field in fields(self)[:-1]), finite]

    @staticmethod
    def from_json(values: Sequence[Any]) -> SegmentFacts:
        """The reverse of ``to_json``."""
        *known, witnesses = values
        names = (field.name for field in fields(SegmentFacts))
        return SegmentFacts(
            **dict(zip(names, known, strict=False)),
            witnesses=tuple(math.nan if w is None else w for w in witnesses),
        )


def witness_places(size: int) -> list[int]:
    """The places of the witnesses among the elements, row by row: spread evenly by the golden ratio."""
    return [int((k * 0.6180339887498949) % 1.0 * size) for k in range(1, WITNESSES + 1)] if size else []


class Source(Protocol):
    """The reading interface. ``Cache`` (on disk) and ``MemoryCache`` have it."""

    @property
    def key(self) -> str:
        """Equal keys: equal tensors."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks, in order."""

    @property
    def statistics(self) -> frozenset[str]:
        """The statistics that every network has."""

    def shape(self, net: int, stat: str, layer: int) -> tuple[int, int]:
        """(rows, cols) of a segment."""

    def read(self, net: int, stat: str, layer: int) -> NDArray[np.float32]:
        """A segment, ``[rows, cols]``, read-only."""

    def facts(self, stat: str, net: int | None = None) -> StatFacts:
        """What is known of a statistic, of all networks or of one."""

    def segments(self, net: int, stat: str) -> tuple[SegmentFacts, ...]:
        """What is known of the segments of one network, layer by layer."""


def check_statistics(names: Iterable[str]) -> tuple[str, ...]:
    """The names, sorted and each once. Raises CacheError for an unknown one, with the nearest known name."""
    unique = sorted(set(names))
    for name in unique:
        if name not in STATISTICS:
            raise CacheError(
                f"unknown statistic {name[:80]!r}{nearest(name, STATISTICS)} (known: {', '.join(STATISTICS)})"
            )
    return tuple(unique)
