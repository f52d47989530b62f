"""What a reader of statistics sees: the networks, the segments, and the reading interface that every cache has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


def facts_of(segment: NDArray[np.float32]) -> StatFacts:
    """The facts of one segment, ``[rows, cols]``."""
    import numpy as np

    if not segment.size:
        return StatFacts(None, None, 0, 0, 0)
    low, high, nonfinite = segment.min(), segment.max(), 0
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere makes both NaN
        finite = segment[np.isfinite(segment)]
        nonfinite = segment.size - finite.size
        if not finite.size:
            return StatFacts(None, None, 0, nonfinite, segment.size)
        low, high = finite.min(), finite.max()
    zeros = segment.size - int(np.count_nonzero(segment))
    return StatFacts(float(low), float(high), zeros, nonfinite, segment.size)


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


def check_statistics(names: Iterable[str]) -> tuple[str, ...]:
    """The names, sorted and each once. Raises CacheError for an unknown one, with the nearest known name."""
    unique = sorted(set(names))
    for name in unique:
        if name not in STATISTICS:
            raise CacheError(
                f"unknown statistic {name[:80]!r}{nearest(name, STATISTICS)} (known: {', '.join(STATISTICS)})"
            )
    return tuple(unique)
