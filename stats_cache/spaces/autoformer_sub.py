"""AutoFormerSub, the space of the AutoFormers in ViT-Bench-101: columnar ViTs with heads and MLP ratio per layer.

The published genes are those of AutoFormer-Ti (Chen et al. 2021), as Auto-Prox (Wei et al. 2024) builds them: plain
multi-head attention over the whole width, so that a head has ``hidden_dim / num_heads`` dimensions and the number of
heads does not change the number of parameters; no relative positions; the mean of the patch tokens goes to the head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .base import Arch, SpaceError
from .columnar import PATCH, Columnar, columnar_grid, hidden_widths
from .genes import whole
from .grid import Grid

if TYPE_CHECKING:
    from ._autoformer_sub import AutoFormerSubViT


class AutoFormerSub(Columnar):
    """See `Columnar`; heads divide ``hidden_dim``."""

    name: ClassVar[str] = "autoformer-sub"
    classes: ClassVar[int] = 100
    grid: ClassVar[Grid] = columnar_grid((192, 216, 240), (3.5, 4.0), (12, 13, 14), (3, 4))

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming the gene that is wrong."""
        checked = super().check(arch)
        width = checked["hidden_dim"]
        for i, head in enumerate(checked["num_heads"]):
            if width % head:
                raise SpaceError(f"gene 'num_heads[{i}]' is {head}; allowed: divisors of hidden_dim, which is {width}")
        return checked

    def attention_width(self, arch: Arch, layer: int) -> int:
        """The embedding width."""
        return int(arch["hidden_dim"])

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> AutoFormerSubViT:
        """The untrained network, ``[batch, 3, side, side] -> [batch, classes]``, initialised from ``seed`` alone.

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
