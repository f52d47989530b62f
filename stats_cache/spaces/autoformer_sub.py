"""AutoFormerSub, the space of the AutoFormers in ViT-Bench-101: columnar ViTs with heads and MLP ratio per layer.

The published genes are those of AutoFormer-Ti (Chen et al. 2021), as Auto-Prox (Wei et al. 2024) builds them: plain
multi-head attention over the whole width, so that a head has ``hidden_dim / num_heads`` dimensions and the number of
heads does not change the number of parameters; no relative positions; the mean of the patch tokens goes to the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .base import BLOCK_SITES, Arch, Size, Space, SpaceError
from .genes import exactly, listed, number, whole

if TYPE_CHECKING:
    import numpy as np

    from ._autoformer_sub import AutoFormerSubViT

GENES = ("hidden_dim", "mlp_ratio", "depth", "num_heads")
WIDTHS = (192, 216, 240)
DEPTHS = (12, 13, 14)
RATIOS = (3.5, 4.0)
HEADS = (3, 4)
PATCH = 16


class AutoFormerSub(Space):
    """Genes: ``hidden_dim`` (d), ``depth`` (L), ``mlp_ratio`` and ``num_heads`` (one for each of the L layers).

    ``sample`` draws the published values. ``check`` allows what can be built: d from 16 to 640, L from 1 to 24, ratios
    from 0.5 to 8, heads from 1 to 16 that divide d.
    """

    name: ClassVar[str] = "autoformer-sub"
    classes: ClassVar[int] = 100
    resolution: ClassVar[int] = 224
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = BLOCK_SITES

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming the gene that is wrong."""
        arch = exactly(self.name, arch, GENES)
        width = whole("hidden_dim", arch["hidden_dim"], 16, 640)
        depth = whole("depth", arch["depth"], 1, 24)
        ratios = listed("mlp_ratio", arch["mlp_ratio"], depth, "layer")
        heads = listed("num_heads", arch["num_heads"], depth, "layer")
        ratios = [number(f"mlp_ratio[{i}]", ratio, 0.5, 8) for i, ratio in enumerate(ratios)]
        heads = [whole(f"num_heads[{i}]", head, 1, 16) for i, head in enumerate(heads)]
        for i, head in enumerate(heads):
            if width % head:
                raise SpaceError(f"gene 'num_heads[{i}]' is {head}; allowed: divisors of hidden_dim, which is {width}")
        return {"hidden_dim": width, "mlp_ratio": ratios, "depth": depth, "num_heads": heads}

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture of the published space, every gene uniform."""
        depth = int(rng.choice(DEPTHS))
        return {
            "hidden_dim": int(rng.choice(WIDTHS)),
            "mlp_ratio": rng.choice(RATIOS, depth).tolist(),
            "depth": depth,
            "num_heads": rng.choice(HEADS, depth).tolist(),
        }

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth and width, by formula. Raises SpaceError for a wrong one."""
        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        d = arch["hidden_dim"]
        pixels = self.channels * PATCH**2
        patches = (self.resolution // PATCH) ** 2
        tokens = patches + 1  # the cls token
        params = (pixels + 1) * d + d + tokens * d + 2 * d + (d + 1) * classes
        flops = patches * pixels * d + d * classes
        for m in hidden_widths(arch):
            params += 4 * d * d + 4 * d + 2 * d * m + m + d + 4 * d  # qkv and proj, fc1 and fc2, two LayerNorms
            flops += tokens * (4 * d * d + 2 * d * m) + 2 * tokens * tokens * d
        return Size(params=params, flops=flops, depth=arch["depth"], width=float(d))

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> AutoFormerSubViT:
        """The untrained network, ``[batch, 3, 224, 224] -> [batch, classes]``, initialised from ``seed`` alone.

        As published: linear weights and the position and cls tokens are drawn from a truncated normal of deviation
        0.02, biases are 0, LayerNorms 1 and 0; the patch convolution keeps torch's default. Raises SpaceError for a
        wrong architecture.
        """
        from ._autoformer_sub import AutoFormerSubViT
        from ._vit import seeded

        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        with seeded(seed):
            return AutoFormerSubViT(
                arch["hidden_dim"], arch["num_heads"], hidden_widths(arch), self.resolution, PATCH, classes
            )


def hidden_widths(arch: Arch) -> list[int]:
    """Width m of the MLP in every layer, of an architecture in normal form."""
    return [int(arch["hidden_dim"] * ratio) for ratio in arch["mlp_ratio"]]
