"""The network of the micro space (loads torch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._vit import EPS, Block

SIDE = 4
"""Tokens per side of the first stage: 8 pixels in patches of 2."""

POSITION_STD = 0.5
"""As large as the embedded patches, so that the average over the tokens does not hide where a stroke was."""


class MicroViT(nn.Module):
    """``[batch, 1, 8, 8] -> [batch, classes]``. ``shapes``: (tokens, d, heads, m) of every layer, in forward order.

    Where the width doubles, ``merge`` joins 2 x 2 neighbouring tokens (4d numbers) into one of width 2d. Tokens are
    averaged before the last LayerNorm.

    Initialised for short training at small width, where the usual deviation of 0.02 starts far too small: linear
    weights Xavier-uniform (Glorot and Bengio 2010), biases 0, positions truncated normal of deviation ``POSITION_STD``.
    """

    def __init__(self, width: int, shapes: list[tuple[int, int, int, int]], classes: int) -> None:
        super().__init__()
        last = shapes[-1][1]
        self.merge_at = next((layer for layer, shape in enumerate(shapes) if shape[1] != width), len(shapes))
        self.embed = nn.Linear(4, width)
        self.pos = nn.Parameter(torch.empty(1, SIDE * SIDE, width))
        self.blocks = nn.ModuleList(Block(d, heads, m) for _, d, heads, m in shapes)
        self.merge = nn.Linear(4 * width, 2 * width) if self.merge_at < len(shapes) else None
        self.norm = nn.LayerNorm(last, eps=EPS)
        self.head = nn.Linear(last, classes)
        nn.init.trunc_normal_(self.pos, std=POSITION_STD, a=-2 * POSITION_STD, b=2 * POSITION_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 1, 8, 8] -> [batch, classes]``."""
        x = self.embed(_join(images.reshape(-1, 8, 8, 1))) + self.pos
        for layer, block in enumerate(self.blocks):
            if self.merge is not None and layer == self.merge_at:
                x = self.merge(_join(x.view(len(x), SIDE, SIDE, -1)))
            x = block(x)
        return self.head(self.norm(x.mean(1)))  # type: ignore[no-any-return]


def _join(x: Tensor) -> Tensor:
    """2 x 2 neighbours side by side: ``[batch, 2h, 2w, c] -> [batch, h * w, 4c]``."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * width // 4, 4 * channels)
