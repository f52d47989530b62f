"""The network of the AutoFormerSub space (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._vit import EPS, Bare, Block, init_linear


class AutoFormerSubViT(nn.Module):
    """``[batch, 3, side, side] -> [batch, classes]``, pre-norm; the mean of the patch tokens goes to the head.

    ``heads`` and ``hidden`` (m) hold one number per layer; the tokens of a layer are cls + (side / patch)².
    """

    def __init__(
        self, width: int, heads: Sequence[int], hidden: Sequence[int], side: int, patch: int, classes: int
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.pos = nn.Parameter(torch.empty(1, 1 + (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, h, m, linear=Bare) for h, m in zip(heads, hidden, strict=True))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = Bare(width, classes)
        for token in (self.cls, self.pos):
            nn.init.trunc_normal_(token, std=0.02)
        init_linear(self)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, side, side] -> [batch, classes]``."""
        patches = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 1:].mean(1))  # type: ignore[no-any-return]
