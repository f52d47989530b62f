"""The CIFAR ResNets of DisWOT (Dong et al., CVPR 2023): 64 ResNets (He et al. 2016) with 1, 3, 5 or 7 blocks a stage.

A 3 x 3 convolution to 16 channels; three stages of residual blocks, 16, 32 and 64 channels wide, of two 3 x 3
convolutions each; the mean over all positions, a linear head. Where the width changes, the shortcut is a 1 x 1
convolution of stride 2 with BatchNorm, as in the networks of knowledge distillation (Tian et al. 2020): (3, 3, 3) is
their resnet20.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .base import CONVOLUTION_SITES, Arch, Shapes, Size, SpaceError
from .convolutions import Convolution, convolution_shapes
from .genes import exactly, listed, whole
from .grid import Gene, Grid, GridSpace

if TYPE_CHECKING:
    from ._cifar_resnet import ResNet

WIDTHS = (16, 32, 64)


class CifarResNet(GridSpace):
    """Gene: ``blocks``, the number of blocks of the three stages; 135 stands for [1, 3, 5], as in DisWOT's files.

    ``check`` allows 1 to 32 in each.
    """

    name: ClassVar[str] = "cifar-resnet"
    classes: ClassVar[int] = 100
    resolution = 32
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = CONVOLUTION_SITES
    batch_statistics: ClassVar[bool] = True
    grid: ClassVar[Grid] = Grid({"blocks": Gene((1, 3, 5, 7), "stage", len(WIDTHS))})

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming what is wrong."""
        given = exactly(self.name, arch, ("blocks",))["blocks"]
        digits = list(map(int, str(given))) if isinstance(given, int | str) and str(given).isdecimal() else given
        blocks = listed("blocks", digits, len(WIDTHS), "stage")
        return {"blocks": [whole(f"blocks[{i}]", count, 1, 32) for i, count in enumerate(blocks)]}

    def check_resolution(self, resolution: int) -> None:
        """Raises SpaceError unless the side is a multiple of 4, from 8 to 256."""
        if resolution % 4 or not 8 <= resolution <= 256:
            raise SpaceError(f"networks of {self.name} see images of 8, 12, .. 256 pixels; given: {resolution}")

    def convolutions(self, arch: Arch) -> Iterator[Convolution]:
        """The convolutions in forward order, of an architecture in normal form."""
        side, before = self.resolution, WIDTHS[0]
        yield Convolution(self.channels, before, 3, side)
        for width, blocks in zip(WIDTHS, arch["blocks"], strict=True):
            side //= 1 if width == before else 2
            for _ in range(blocks):
                yield Convolution(before, width, 3, side)
                yield Convolution(width, width, 3, side)
                if width != before:
                    yield Convolution(before, width, 1, side)
                before = width

    def shapes(self, arch: Arch, batch: int) -> Shapes:
        """(rows, cols) of every segment for ``batch`` images."""
        return convolution_shapes(list(self.convolutions(self.check(arch))), batch)

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, number and mean width of the convolutions, by formula."""
        layers = list(self.convolutions(self.check(arch)))
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        params = sum(c.params for c in layers) + (WIDTHS[-1] + 1) * classes
        flops = sum(c.flops for c in layers) + WIDTHS[-1] * classes
        return Size(params, flops, len(layers), sum(c.out for c in layers) / len(layers))

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> ResNet:
        """The untrained network, ``[batch, 3, side, side] -> [batch, classes]``, initialised from ``seed`` alone.

        Kernels are normal with variance 2 / fan out (He et al. 2015), BatchNorms 1 and 0, the head torch's default.
        """
        from ._cifar_resnet import ResNet
        from ._vit import seeded

        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        with seeded(seed):
            return ResNet(arch["blocks"], self.channels, classes)
