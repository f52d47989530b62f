"""Statistics in memory, behind the reading interface of a cache: for tests, and for tensors of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .facts import facts_of_all
from .source import CacheError, Network, SegmentFacts, StatFacts
from .spaces.base import Size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Segments = Mapping[str, "Sequence[ArrayLike]"]
"""Statistic -> its segments, one per layer, each ``[rows, cols]``."""


class MemoryCache:
    """The networks' segments in memory, as copies in float32 that nobody can write to.

    ``segments``: one mapping per network, all with the same statistics. ``sizes`` (if not given: the layers, and zeros)
    and ``archs`` (if not given: empty), one per network. Raises CacheError when segments do not line up.
    """

    def __init__(
        self,
        segments: Sequence[Segments],
        sizes: Sequence[Size] | None = None,
        archs: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if not segments or not all(segments):
            raise CacheError("a cache needs at least one network, and every network at least one statistic")
        self._segments = [{name: [_frozen(name, s) for s in found] for name, found in net.items()} for net in segments]
        self.statistics = frozenset(self._segments[0])
        depths = []
        for i, net in enumerate(self._segments):
            lengths = {name: len(found) for name, found in net.items()}
            if net.keys() != self.statistics or len(set(lengths.values())) > 1 or 0 in lengths.values():
                raise CacheError(
                    f"network {i} has the layers {lengths}; expected as many of each statistic of network 0"
                )
            depths.append(next(iter(lengths.values())))
        sizes = [Size(0, 0, depth, 0.0) for depth in depths] if sizes is None else sizes
        archs = [{} for _ in depths] if archs is None else archs
        if not len(sizes) == len(archs) == len(depths):
            raise CacheError(f"{len(depths)} networks, {len(sizes)} sizes, {len(archs)} archs; expected one of each")
        self.networks = tuple(Network(i, *facts) for i, facts in enumerate(zip(archs, sizes, depths, strict=True)))
        self.key = self._content_key()
        self._known: dict[tuple[int, str], tuple[SegmentFacts, ...]] = {}

    def _content_key(self) -> str:
        digest = hashlib.blake2b(digest_size=10)
        for net in self._segments:
            for name, found in sorted(net.items()):
                for segment in found:
                    digest.update(f"{name}{segment.shape}".encode())
                    digest.update(segment.data)
        digest.update(repr(self.networks).encode())
        return digest.hexdigest()

    def shape(self, net: int, stat: str, layer: int) -> tuple[int, int]:
        """(rows, cols) of a segment."""
        rows, cols = self.read(net, stat, layer).shape
        return rows, cols

    def read(self, net: int, stat: str, layer: int) -> NDArray[np.float32]:
        """A segment, ``[rows, cols]``, read-only. Raises CacheError for what there is not."""
        segments = self._of(net, stat)
        if not 0 <= layer < len(segments):
            raise CacheError(f"network {net} has the layers 0 to {len(segments) - 1}; layer {layer} was asked for")
        return segments[layer]

    def facts(self, stat: str, net: int | None = None) -> StatFacts:
        """Range, zeros and non-finite elements of a statistic, of all networks or of one."""
        nets = range(len(self.networks)) if net is None else (net,)
        return StatFacts.joined(s.range for i in nets for s in self.segments(i, stat))

    def segments(self, net: int, stat: str) -> tuple[SegmentFacts, ...]:
        """What is known of the segments of one network, layer by layer."""
        if (net, stat) not in self._known:
            self._known[net, stat] = tuple(facts_of_all(self._of(net, stat)))
        return self._known[net, stat]

    def _of(self, net: int, stat: str) -> list[NDArray[np.float32]]:
        if not 0 <= net < len(self.networks) or stat not in self.statistics:
            raise CacheError(
                f"no statistic {stat!r} of network {net}: there are {len(self.networks)} networks with "
                f"{', '.join(sorted(self.statistics))}"
            )
        return self._segments[net][stat]


def _frozen(name: str, values: ArrayLike) -> NDArray[np.float32]:
    array = np.array(values, np.float32, order="C")
    if array.ndim != 2:
        raise CacheError(f"a segment of {name!r} has the shape {array.shape}; expected [rows, cols]")
    array.flags.writeable = False
    return array
