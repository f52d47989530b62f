"""PiT, pooling-based Vision Transformers (Heo et al. 2021), in two published search spaces.

``pit``: that of ViT-Bench-101 (Auto-Prox, Wei et al. 2024). ``pit-t``, ``pit-xs``, ``pit-s``: those of TF-TAS (Zhou et
al. 2022), where all combinations of depths are allowed and the weights begin as TF-TAS's code sets them.

Overlapping 16 x 16 patches, 8 pixels apart, give 27 x 27 tokens; between the three stages a depthwise 3 x 3 convolution
of stride 2 halves the sides (27 -> 14 -> 7) and a linear map widens the cls token.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, ClassVar

from .base import BLOCK_SITES, Arch, Shapes, Size, SpaceError, block_shapes
from .genes import exactly, listed, whole
from .grid import Gene, Grid, GridSpace

if TYPE_CHECKING:
    from ._pit import PiTViT

GENES = ("base_dim", "mlp_ratio", "depth", "num_heads")
PATCH = 16
STRIDE = 8
STAGES = 3
_DEPTHS = tuple(product((1, 2, 3), (4, 6, 8), (2, 4, 6)))
_DEPTHS_12_TO_14 = tuple(depths for depths in _DEPTHS if 12 <= sum(depths) <= 14)


def _grid(widths: tuple[int, ...], heads: tuple[int, ...], depths: tuple[tuple[int, ...], ...] = _DEPTHS) -> Grid:
    """The published values; the heads do not fall from stage to stage."""
    triples = tuple(triple for triple in product(heads, repeat=STAGES) if list(triple) == sorted(triple))
    return Grid(
        {
            "base_dim": Gene(widths),
            "mlp_ratio": Gene((2, 4, 6, 8)),
            "depth": Gene(depths, "stage"),
            "num_heads": Gene(triples, "stage"),
        }
    )


class PiT(GridSpace):
    """Genes: ``base_dim`` (dimensions per head), ``mlp_ratio`` (one), ``depth`` and ``num_heads`` (one per stage).

    A stage is ``base_dim * num_heads`` wide. Published: 10 triples of depths with 12 to 14 layers, 10 triples of heads;
    1600 networks. ``check`` allows what can be built: base_dim from 4 to 128, a whole ratio from 1 to 8, 1 to 16 layers
    per stage, 1 to 16 heads per stage, each a multiple of the stage before.
    """

    name: ClassVar[str] = "pit"
    classes: ClassVar[int] = 100
    resolution = 224
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = BLOCK_SITES
    grid: ClassVar[Grid] = _grid((16, 24, 32, 40), (2, 4, 8), _DEPTHS_12_TO_14)
    normal_weights: ClassVar[bool] = False
    """Linear weights from a truncated normal, convolutions from a standard normal; else torch's default."""

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming the gene that is wrong."""
        arch = exactly(self.name, arch, GENES)
        depths = listed("depth", arch["depth"], STAGES, "stage")
        heads = listed("num_heads", arch["num_heads"], STAGES, "stage")
        depths = [whole(f"depth[{i}]", depth, 1, 16) for i, depth in enumerate(depths)]
        heads = [whole(f"num_heads[{i}]", head, 1, 16) for i, head in enumerate(heads)]
        for i, (before, after) in enumerate(pairwise(heads)):
            if after % before:  # the pooling convolution has one group per channel of the stage before
                raise SpaceError(
                    f"gene 'num_heads[{i + 1}]' is {after}; allowed: multiples of num_heads[{i}], which is {before}"
                )
        return {
            "base_dim": whole("base_dim", arch["base_dim"], 4, 128),
            "mlp_ratio": whole("mlp_ratio", arch["mlp_ratio"], 1, 8),
            "depth": depths,
            "num_heads": heads,
        }

    def check_resolution(self, resolution: int) -> None:
        """Raises SpaceError unless at least 3 x 3 patches fit, 8 pixels apart, and nothing is left over."""
        if resolution % STRIDE or not PATCH + 2 * STRIDE <= resolution <= 1024:
            raise SpaceError(
                f"networks of {self.name} see images of 32, 40, .. 1024 pixels (patches of 16, 8 apart); "
                f"given: {resolution}"
            )

    def _sides(self) -> list[int]:
        """Tokens per side of every stage, the cls token aside."""
        sides = [(self.resolution - PATCH) // STRIDE + 1]
        while len(sides) < STAGES:
            sides.append((sides[-1] + 1) // 2)
        return sides

    def shapes(self, arch: Arch, batch: int) -> Shapes:
        """(rows, cols) of every segment for ``batch`` images."""
        arch = self.check(arch)
        layers = []
        for side, heads, depth in zip(self._sides(), arch["num_heads"], arch["depth"], strict=True):
            d = arch["base_dim"] * heads
            layers += [(side * side + 1, d, d, d * arch["mlp_ratio"])] * depth
        return block_shapes(layers, batch)

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth, mean width, by formula. Raises SpaceError for a wrong one."""
        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        widths = [arch["base_dim"] * heads for heads in arch["num_heads"]]
        sides = self._sides()
        side = sides[0]
        pixels = self.channels * PATCH**2
        first, last = widths[0], widths[-1]
        params = (pixels + 1) * first + side * side * first + first + 2 * last + (last + 1) * classes
        flops = side * side * pixels * first + last * classes
        for stage, (d, depth) in enumerate(zip(widths, arch["depth"], strict=True)):
            if stage:
                before, side = widths[stage - 1], sides[stage]
                params += 9 * d + d + before * d + d
                flops += 9 * d * side * side + before * d
            m, tokens = d * arch["mlp_ratio"], side * side + 1
            # qkv and proj, fc1 and fc2, two LayerNorms
            params += depth * (4 * d * d + 4 * d + 2 * d * m + m + d + 4 * d)
            flops += depth * (tokens * (4 * d * d + 2 * d * m) + 2 * tokens * tokens * d)
        layers = sum(arch["depth"])
        mean = sum(d * depth for d, depth in zip(widths, arch["depth"], strict=True)) / layers
        return Size(params=params, flops=flops, depth=layers, width=mean)

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> PiTViT:
        """The untrained network, ``[batch, 3, side, side] -> [batch, classes]``, initialised from ``seed`` alone.

        As in the code published with Auto-Prox: torch's default for linear maps and convolutions, LayerNorms 1 and 0,
        position and cls tokens from a truncated normal of deviation 0.02. With TF-TAS instead: linear weights from that
        truncated normal too, their biases 0, kernels from a standard normal. Raises SpaceError for a wrong one.
        """
        from ._pit import PiTViT
        from ._vit import seeded

        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        with seeded(seed):
            return PiTViT(
                base=arch["base_dim"],
                heads=arch["num_heads"],
                depths=arch["depth"],
                ratio=arch["mlp_ratio"],
                side=self.resolution,
                patch=PATCH,
                stride=STRIDE,
                classes=classes,
                normal_weights=self.normal_weights,
            )


class PiTT(PiT):
    """Tiny, of TF-TAS: base dimensions 16 to 40, heads 2, 4, 8."""

    name: ClassVar[str] = "pit-t"
    classes: ClassVar[int] = 1000
    grid: ClassVar[Grid] = _grid((16, 24, 32, 40), (2, 4, 8))
    normal_weights: ClassVar[bool] = True


class PiTXS(PiTT):
    """Extra small, of TF-TAS: base dimensions 40 to 64, heads 2, 4, 8."""

    name: ClassVar[str] = "pit-xs"
    grid: ClassVar[Grid] = _grid((40, 48, 56, 64), (2, 4, 8))


class PiTS(PiTT):
    """Small, of TF-TAS: base dimensions 36 to 72, heads 3, 6, 12."""

    name: ClassVar[str] = "pit-s"
    grid: ClassVar[Grid] = _grid((36, 48, 60, 72), (3, 6, 12))
