"""What a family of networks must offer: genes, sizes without building, and the network itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...grammar.errors import ProxforgeError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Arch = Mapping[str, Any]
"""An architecture as plain JSON values: gene name -> value."""


BLOCK_SITES: Mapping[str, str] = {
    "qkv": "blocks.*.attn.qkv",
    "proj": "blocks.*.attn.proj",
    "fc1": "blocks.*.mlp.fc1",
    "hidden": "blocks.*.mlp.act",
    "fc2": "blocks.*.mlp.fc2",
}
"""Where the statistics of a network of `_vit.Block` lie: site -> pattern of module names."""


class SpaceError(ProxforgeError):
    """An architecture that is not of the space, or a space that is not known."""

    def __init__(self, message: str) -> None:
        super().__init__("space", message)


@dataclass(frozen=True)
class Size:
    """The shape-only facts of one network, counted without building it.

    ``params``: number of learnable parameters, classifier head included.
    ``flops``: multiply-accumulates of one forward pass of one image (linear layers, attention products, convolutions).
    ``depth``: number of transformer layers. ``width``: mean embedding width over the layers.
    """

    params: int
    flops: int
    depth: int
    width: float


class Space(ABC):
    """A family of networks. Importing and sizing a space loads no torch; ``build`` does."""

    name: ClassVar[str]
    classes: ClassVar[int]
    """Number of classes of the head, unless said otherwise."""
    resolution: ClassVar[int]
    """Side of the square input image in pixels."""
    channels: ClassVar[int]
    sites: ClassVar[Mapping[str, str]]
    """Site name -> pattern of module names (``*`` matches one dotted part), one match per layer, in layer order."""

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
