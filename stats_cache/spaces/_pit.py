"""The network of the PiT space (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from ._vit import EPS, Bare, Block, init_linear


class Pool(nn.Module):
    """Between two stages: halves the token grid and widens every token.

    ``before``, ``after``: dimensions of a token, the second a multiple of the first.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride=2, padding=1, groups=before)
        self.fc = nn.Linear(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, 1 + s², before] -> [batch, 1 + ceil(s/2)², after]``, the cls token first."""
        cls, patches = x[:, :1], x[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        grid = self.conv(patches.transpose(1, 2).reshape(len(x), -1, side, side))
        return torch.cat([self.fc(cls), grid.flatten(2).transpose(1, 2)], 1)


class PiTViT(nn.Module):
    """``[batch, 3, side, side] -> [batch, classes]``, pre-norm; the LayerNorm of the cls token goes to the head.

    ``heads`` and ``depths`` hold one number per stage; ``blocks`` are the layers of all stages in forward order.
    ``normal_weights``: as TF-TAS initialises, see `pit.PiT.build`.
    """

    def __init__(
        self,
        base: int,
        heads: Sequence[int],
        depths: Sequence[int],
        ratio: int,
        side: int,
        patch: int,
        stride: int,
        classes: int,
        normal_weights: bool,
    ) -> None:
        super().__init__()
        widths = [base * h for h in heads]
        grid = (side - patch) // stride + 1
        self.patch = nn.Conv2d(3, widths[0], patch, stride)
        self.cls = nn.Parameter(torch.empty(1, 1, widths[0]))
        self.pos = nn.Parameter(torch.empty(1, widths[0], grid, grid))
        stages = zip(widths, heads, depths, strict=True)
        linear = Bare if normal_weights else nn.Linear
        self.blocks = nn.ModuleList(
            Block(d, h, d * ratio, linear=linear) for d, h, depth in stages for _ in range(depth)
        )
        self.pools = nn.ModuleList(Pool(a, b) for a, b in pairwise(widths))
        self.pool_before = list(accumulate(depths[:-1]))
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        self.head = nn.Linear(widths[-1], classes)
        for token in (self.cls, self.pos):
            nn.init.trunc_normal_(token, std=0.02)
        if normal_weights:
            init_linear(self)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, side, side] -> [batch, classes]``."""
        patches = (self.patch(images) + self.pos).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1)
        for layer, block in enumerate(self.blocks):
            if layer in self.pool_before:
                x = self.pools[self.pool_before.index(layer)](x)
            x = block(x)
        return self.head(self.norm(x[:, 0]))  # type: ignore[no-any-return]
