"""The networks of the AutoFormer spaces (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._vit import Bare, Mlp, init_linear
from .autoformer import FARTHEST, HEAD, TABLE

EPS = 1e-5
"""Added to the variance by every LayerNorm: torch's default, as published."""


def relative_places(side: int) -> Tensor:
    """The rows of a table that describe how token j lies to token i: int64 ``[2, n, n]``, n = 1 + side².

    The first half of a table is vertical, the second horizontal; place 0 of each is for pairs with the cls token, then
    come the distances (of j minus i) from -FARTHEST to FARTHEST.
    """
    at = torch.arange(side * side)
    places = torch.zeros(2, 1 + side * side, 1 + side * side, dtype=torch.int64)
    for half, coordinate in enumerate((at // side, at % side)):
        distance = (coordinate[None, :] - coordinate[:, None]).clamp(-FARTHEST, FARTHEST)
        places[half, 1:, 1:] = distance + FARTHEST + 1
        places[half] += half * (TABLE // 2)
    return places


class RelativeAttention(nn.Module):
    """Attention with relative positions of keys and values: ``[batch, n, d] -> [batch, n, d]``, heads of 64.

    As in AutoFormer's code: a = softmax((q·k + q·r_ij) / 8), out_i = Σ_j a_ij (v_j + s_ij), where r_ij and s_ij are
    each the sum of a vertical and a horizontal embedding. q·r is looked up among the products of q with the 60 rows of
    the table, and the second sum is taken over those rows: the same numbers without a tensor ``[n, n, 64]``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Bare(dim, 3 * HEAD * heads)
        self.proj = Bare(HEAD * heads, dim)
        self.key_positions = nn.Parameter(torch.empty(TABLE, HEAD))
        self.value_positions = nn.Parameter(torch.empty(TABLE, HEAD))
        for table in (self.key_positions, self.value_positions):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """``[batch, n, d] -> [batch, n, d]``; ``places``: those of `relative_places`."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, HEAD)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        vertical, horizontal = (p.expand(batch, self.heads, -1, -1) for p in places)
        near = query @ self.key_positions.t()
        scores = query @ key.transpose(2, 3) + near.gather(3, vertical) + near.gather(3, horizontal)
        weights = (scores * HEAD**-0.5).softmax(-1)
        by_place = torch.zeros_like(near).scatter_add(3, vertical, weights).scatter_add(3, horizontal, weights)
        out = weights @ value + by_place @ self.value_positions
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, HEAD * self.heads))  # type: ignore[no-any-return]


class RelativeBlock(nn.Module):
    """One layer, pre-norm: ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``. ``hidden`` is m, the MLP's width."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = RelativeAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, hidden, linear=Bare)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """``[batch, n, d] -> [batch, n, d]``."""
        x = x + self.attn(self.norm1(x), places)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class AutoFormerViT(nn.Module):
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
        self.blocks = nn.ModuleList(RelativeBlock(width, h, m) for h, m in zip(heads, hidden, strict=True))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = Bare(width, classes)
        self.register_buffer("places", relative_places(side // patch), persistent=False)
        for token in (self.cls, self.pos):
            nn.init.trunc_normal_(token, std=0.02)
        init_linear(self)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, side, side] -> [batch, classes]``."""
        patches = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1) + self.pos
        for block in self.blocks:
            x = block(x, self.places)
        return self.head(self.norm(x)[:, 1:].mean(1))  # type: ignore[no-any-return]
