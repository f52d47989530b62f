"""PiT, pooling-based Vision Transformers (Heo et al. 2021), in the space of ViT-Bench-101 (Auto-Prox, Wei et al. 2024).

Overlapping 16 x 16 patches, 8 pixels apart, give 27 x 27 tokens; between the three stages a depthwise 3 x 3 convolution
of stride 2 halves the sides (27 -> 14 -> 7) and a linear map widens the cls token.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from .base import BLOCK_SITES, Arch, Size, Space, SpaceError
from .genes import exactly, listed, whole

if TYPE_CHECKING:
    import numpy as np

    from ._pit import PiTViT

GENES = ("base_dim", "mlp_ratio", "depth", "num_heads")
WIDTHS = (16, 24, 32, 40)
RATIOS = (2, 4, 6, 8)
DEPTHS = tuple((a, b, c) for a in (1, 2, 3) for b in (4, 6, 8) for c in (2, 4, 6) if 12 <= a + b + c <= 14)
HEADS = tuple((a, b, c) for a in (2, 4, 8) for b in (2, 4, 8) for c in (2, 4, 8) if a <= b <= c)
PATCH = 16
STRIDE = 8
STAGES = 3


class PiT(Space):
    """Genes: ``base_dim`` (dimensions per head), ``mlp_ratio`` (one), ``depth`` and ``num_heads`` (one per stage).

    A stage is ``base_dim * num_heads`` wide. ``sample`` draws the published values (10 triples of depths with 12 to 14
    layers, 10 triples of heads; 1600 networks). ``check`` allows what can be built: base_dim from 4 to 128, a whole
    ratio from 1 to 8, 1 to 16 layers per stage, 1 to 16 heads per stage, each a multiple of the stage before.
    """

    name: ClassVar[str] = "pit"
    classes: ClassVar[int] = 100
    resolution: ClassVar[int] = 224
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = BLOCK_SITES

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

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture of the published space, every gene uniform."""
        return {
            "base_dim": int(rng.choice(WIDTHS)),
            "mlp_ratio": int(rng.choice(RATIOS)),
            "depth": list(DEPTHS[int(rng.integers(len(DEPTHS)))]),
            "num_heads": list(HEADS[int(rng.integers(len(HEADS)))]),
        }

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth, mean width, by formula. Raises SpaceError for a wrong one."""
        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        widths = [arch["base_dim"] * heads for heads in arch["num_heads"]]
        side = (self.resolution - PATCH) // STRIDE + 1
        pixels = self.channels * PATCH**2
        first, last = widths[0], widths[-1]
        params = (pixels + 1) * first + side * side * first + first + 2 * last + (last + 1) * classes
        flops = side * side * pixels * first + last * classes
        for stage, (d, depth) in enumerate(zip(widths, arch["depth"], strict=True)):
            if stage:
                before, side = widths[stage - 1], (side + 1) // 2
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
        """The untrained network, ``[batch, 3, 224, 224] -> [batch, classes]``, initialised from ``seed`` alone.

        As in the code published with Auto-Prox: torch's default for linear maps and convolutions, LayerNorms 1 and 0,
        position and cls tokens from a truncated normal of deviation 0.02. Raises SpaceError for a wrong architecture.
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
            )
