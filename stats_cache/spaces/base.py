"""What a family of networks must offer: genes, sizes without building, and the network itself."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ...grammar.errors import ProxforgeError
from ...grammar.types import STATISTICS

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from .budget import Budget

Arch = Mapping[str, Any]
"""An architecture as plain JSON values: gene name -> value."""

Pattern = str | Sequence[str]
"""A pattern of module names, or several whose weights are joined (separate queries, keys and values)."""


BLOCK_SITES: Mapping[str, str] = {
    "qkv": "blocks.*.attn.qkv",
    "proj": "blocks.*.attn.proj",
    "fc1": "blocks.*.mlp.fc1",
    "hidden": "blocks.*.mlp.act",
    "fc2": "blocks.*.mlp.fc2",
}
"""Where the statistics of a network of `_vit.Block` lie: site -> pattern of module names."""

CONVOLUTION_SITES: Mapping[str, str] = {"conv": "units.*.conv", "act": "units.*.conv"}
"""Where the statistics of a network of `_cnn.Unit` lie: the weights and the outputs of all its convolutions."""

Shapes = Mapping[str, Sequence[tuple[int, int]]]
"""Site -> (rows, cols) of its segments, layer by layer."""


class SpaceError(ProxforgeError):
    """An architecture that is not of the space, or a space that is not known."""

    def __init__(self, message: str) -> None:
        super().__init__("space", message)


@dataclass(frozen=True)
class Size:
    """The shape-only facts of one network, counted without building it.

    ``params``: number of learnable parameters, classifier head included.
    ``flops``: multiply-accumulates of one forward pass of one image (linear layers, attention products, convolutions).
    ``depth``: number of layers: transformer layers, or convolutions.
    ``width``: their mean embedding width; of convolutions, their mean number of output channels.
    """

    params: int
    flops: int
    depth: int
    width: float


class Space(ABC):
    """A family of networks. Importing and sizing a space loads no torch; ``build`` does.

    A space of one's own must define ``check``, ``sample``, ``size`` and ``build``. Without ``genes``, ``count``,
    ``enumerate`` and ``mutate`` it cannot be listed or searched; without ``shapes`` a collection is not sized before.
    """

    name: ClassVar[str]
    classes: ClassVar[int]
    """Number of classes of the head, unless said otherwise."""
    resolution: int
    """Side of the square input image in pixels."""
    channels: ClassVar[int]
    sites: ClassVar[Mapping[str, Pattern]]
    """Site name -> pattern of module names (``*`` matches one dotted part), one match per layer, in layer order."""
    batch_statistics: ClassVar[bool] = False
    """BatchNorm normalises by the batch when gradients and activations are measured, as in training; running averages
    of an untrained network are 0 and 1 and would normalise nothing."""
    idle_modules: ClassVar[bool] = False
    """A module of a site may be without influence on the output; its gradients are 0."""

    def statistics(self) -> tuple[str, ...]:
        """The statistics that its networks have: those of its sites."""
        return tuple(name for name, statistic in STATISTICS.items() if statistic.site in self.sites)

    @abstractmethod
    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form (plain ints, floats, lists). SpaceError names the gene that is wrong."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture, every gene uniform."""

    @abstractmethod
    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth and width, by formula."""

    @abstractmethod
    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> nn.Module:
        """The untrained network, initialised from ``seed`` alone (the global random state is left as it was)."""

    def at(self, resolution: int) -> Self:
        """The same space for images of another side in pixels. Raises SpaceError where that cannot be."""
        self.check_resolution(resolution)
        other = copy.copy(self)
        other.resolution = resolution
        return other

    def check_resolution(self, resolution: int) -> None:
        """Raises SpaceError when no network can be built for images of this side; here: for any but its own."""
        if resolution != self.resolution:
            raise SpaceError(f"the space {self.name} is for images of {self.resolution} pixels; given: {resolution}")

    def genes(self) -> dict[str, Any]:
        """Gene -> ``{"values": [..]}``, the values ``sample`` draws from; ``"per"`` says what a list has one for."""
        raise self._lacks("a list of its genes")

    def count(self) -> int:
        """Number of architectures that ``sample`` can draw."""
        raise self._lacks("a size")

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Every architecture that ``sample`` can draw, once, in a fixed order."""
        raise self._lacks("an enumeration")

    def mutate(self, arch: Arch, rng: np.random.Generator) -> dict[str, Any]:
        """The architecture with one gene (of a list: one of its values) changed to another of its values, uniformly.

        What hangs on the gene follows: a deeper network gets random values for its new layers.
        """
        raise self._lacks("a mutation")

    def shapes(self, arch: Arch, batch: int) -> Shapes | None:
        """(rows, cols) of every segment for ``batch`` images, by formula; None where the space has no formula."""
        return None

    def sample_within(self, rng: np.random.Generator, budget: Budget, classes: int | None = None) -> dict[str, Any]:
        """A random architecture within the budget. Raises SpaceError when none of `TRIES` draws lies within."""
        for _ in range(TRIES):
            arch = self.sample(rng)
            if budget.allows(self.size(arch, classes)):
                return arch
        raise SpaceError(f"none of {TRIES} random networks of {self.name} has {budget}; choose a wider range")

    def mutate_within(
        self, arch: Arch, rng: np.random.Generator, budget: Budget, classes: int | None = None
    ) -> dict[str, Any]:
        """A mutation within the budget. Raises SpaceError when none of `TRIES` lies within."""
        for _ in range(TRIES):
            mutant = self.mutate(arch, rng)
            if budget.allows(self.size(mutant, classes)):
                return mutant
        raise SpaceError(f"none of {TRIES} mutations of a network of {self.name} has {budget}; choose a wider range")

    def _lacks(self, what: str) -> SpaceError:
        return SpaceError(f"the space {self.name} does not define {what}")


TRIES = 20_000
"""Draws before a budget is given up."""


def block_shapes(layers: Sequence[tuple[int, int, int, int]], batch: int) -> Shapes:
    """The shapes of transformer layers, each (tokens, d, q, m), for ``batch`` images."""
    return {
        "qkv": [(3 * q, d) for _, d, q, _ in layers],
        "proj": [(d, q) for _, d, q, _ in layers],
        "fc1": [(m, d) for _, d, _, m in layers],
        "fc2": [(d, m) for _, d, _, m in layers],
        "hidden": [(tokens * batch, m) for tokens, _, _, m in layers],
    }
