"""The pre-norm block that every Vision Transformer space is made of (loads torch: import it inside ``build``).

In a network whose layers are ``blocks.0 .. blocks.L-1`` the sites are ``blocks.*.attn.qkv``, ``blocks.*.attn.proj``,
``blocks.*.mlp.fc1``, ``blocks.*.mlp.fc2`` and, for the hidden activation, ``blocks.*.mlp.act`` (its output).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import SpaceError

EPS = 1e-6
"""Added to the variance by every LayerNorm."""


class Bare(nn.Linear):
    """A linear map whose weights `init_linear` sets: torch's own would be drawn and thrown away."""

    def reset_parameters(self) -> None:
        """Nothing: the weights are whatever the memory holds."""


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2): ``[batch, n, d] -> [batch, n, d]``.

    ``dim`` is d; ``q`` the width of the queries, keys and values together over all heads, d unless said otherwise.
    Every linear map has a bias. Raises SpaceError when the heads do not divide q.
    """

    def __init__(
        self, dim: int, heads: int, q: int | None = None, *, linear: Callable[[int, int], nn.Linear] = nn.Linear
    ) -> None:
        super().__init__()
        self.q = dim if q is None else q
        self.heads = heads
        if heads < 1 or self.q % heads:
            raise SpaceError(f"an attention of width {self.q} cannot have {heads} heads: choose a divisor of {self.q}")
        self.qkv = linear(dim, 3 * self.q)
        self.proj = linear(self.q, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, n, d] -> [batch, n, d]``."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, self.q // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, self.q))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """``fc2(GELU(fc1(x)))``: ``[batch, n, d] -> [batch, n, d]`` over ``hidden`` (m) features."""

    def __init__(self, dim: int, hidden: int, *, linear: Callable[[int, int], nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.fc1 = linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, n, d] -> [batch, n, d]``."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer, pre-norm: ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``. ``hidden`` is m, the MLP's width.

    ``linear``: the class of the linear maps, see `Bare`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        q: int | None = None,
        *,
        linear: Callable[[int, int], nn.Linear] = nn.Linear,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, heads, q, linear=linear)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, hidden, linear=linear)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, n, d] -> [batch, n, d]``."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


def init_linear(network: nn.Module, std: float = 0.02) -> None:
    """Initialise as ViTs are: every Linear ~ truncated normal (0, std²), bias 0; LayerNorm 1 and 0. In module order.

    The published cut is at -2 and 2, a hundred deviations away: what is drawn is a normal.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, random numbers on the CPU come from ``seed``; afterwards the global random state is what it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
