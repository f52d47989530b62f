"""What a backend reads: any cache of statistics with this interface."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..grammar.types import NETWORK_FACTS


class SizeFacts(Protocol):
    """The network's own facts (`grammar.types.NETWORK_FACTS`)."""

    @property
    def params(self) -> int: ...
    @property
    def flops(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def width(self) -> float: ...


class NetworkEntry(Protocol):
    """One network of a source."""

    @property
    def layers(self) -> int: ...
    @property
    def size(self) -> SizeFacts: ...


class Source(Protocol):
    """Statistics of networks: ``read(network, statistic, layer)`` is a float32 array ``[rows, cols]``."""

    @property
    def networks(self) -> Sequence[NetworkEntry]: ...
    @property
    def statistics(self) -> Set[str]: ...
    def shape(self, network: int, statistic: str, layer: int) -> tuple[int, int]: ...
    def read(self, network: int, statistic: str, layer: int) -> NDArray[np.float32]: ...


def fact_table(source: Source, networks: Sequence[int]) -> NDArray[np.float64]:
    """The networks' own facts, float64 ``[fact, network]`` in the order of `NETWORK_FACTS`."""
    return np.array([[getattr(source.networks[i].size, name) for i in networks] for name in NETWORK_FACTS], np.float64)
