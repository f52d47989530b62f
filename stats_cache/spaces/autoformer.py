"""AutoFormer (Chen et al. 2021, "AutoFormer: Searching Transformers for Visual Recognition"), tiny, small and base.

Columnar ViTs whose attention has heads of 64 dimensions whatever the embedding width, so that the number of heads
changes the parameters, and relative positions in two dimensions for keys and values (Wu et al. 2021): for each, a table
of 30 vertical and one of 30 horizontal embeddings (the cls token, and distances -14 .. 14). The search spaces are those
of the AutoFormer paper, Table 1, with the heads of TF-TAS (Zhou et al. 2022) for the base space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Arch, Size
from .columnar import PATCH, Columnar, columnar_grid, hidden_widths
from .genes import whole
from .grid import Grid

if TYPE_CHECKING:
    from ._autoformer import AutoFormerViT

HEAD = 64
"""Dimensions of a head."""
FARTHEST = 14
"""Distances between patches are clipped to this many."""
TABLE = 2 * (2 * FARTHEST + 2)
"""Embeddings of relative positions: vertical and horizontal, each of the cls token and of every distance."""


class AutoFormer(Columnar):
    """See `Columnar`; a layer of h heads has an attention width of 64 h."""

    classes: ClassVar[int] = 1000

    def attention_width(self, arch: Arch, layer: int) -> int:
        """64 dimensions for each head."""
        return HEAD * int(arch["num_heads"][layer])

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """By formula. Of the relative positions only the products with the tables count as multiply-accumulates."""
        plain = super().size(arch, classes)
        arch = self.check(arch)
        relative = sum(2 * self.tokens * TABLE * HEAD * heads for heads in arch["num_heads"])
        params = plain.params + arch["depth"] * 2 * TABLE * HEAD
        return Size(params, plain.flops + relative, plain.depth, plain.width)

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> AutoFormerViT:
        """The untrained network, ``[batch, 3, side, side] -> [batch, classes]``, initialised from ``seed`` alone.

        As published: linear weights, the tables of relative positions and the position and cls tokens are drawn from a
        truncated normal of deviation 0.02, biases are 0, LayerNorms 1 and 0; the patch convolution has torch's default.
        The network stands alone, it is not cut out of a supernet. Raises SpaceError for a wrong architecture.
        """
        from ._autoformer import AutoFormerViT
        from ._vit import seeded

        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        with seeded(seed):
            return AutoFormerViT(
                arch["hidden_dim"], arch["num_heads"], hidden_widths(arch), self.resolution, PATCH, classes
            )


class AutoFormerT(AutoFormer):
    """Tiny: 5.4 to 10.5 million parameters."""

    name: ClassVar[str] = "autoformer-t"
    grid: ClassVar[Grid] = columnar_grid((192, 216, 240), (3.5, 4.0), (12, 13, 14), (3, 4))


class AutoFormerS(AutoFormer):
    """Small: 13 to 35 million parameters."""

    name: ClassVar[str] = "autoformer-s"
    grid: ClassVar[Grid] = columnar_grid((320, 384, 448), (3.0, 3.5, 4.0), (12, 13, 14), (5, 6, 7))


class AutoFormerB(AutoFormer):
    """Base: 42 to 77 million parameters. Heads 9 and 10, as TF-TAS searches; AutoFormer retrains with 8 too."""

    name: ClassVar[str] = "autoformer-b"
    grid: ClassVar[Grid] = columnar_grid((528, 576, 624), (3.0, 3.5, 4.0), (14, 15, 16), (9, 10))
