"""The toy network (loads torch)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v)


class Block(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.attn = Attention(d)
        self.fc1 = nn.Linear(d, 2 * d)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(2 * d, d)
        self.drop = nn.Dropout(0.5, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.drop(self.fc2(self.act(self.fc1(x))))


class ToyViT(nn.Module):
    """``[batch, 2, 8, 8] -> [batch, classes]``: four tokens; buffers negative, of whole numbers, not in the state."""

    def __init__(self, d: int, depth: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(2, d, 4, 4)
        self.blocks = nn.ModuleList(Block(d) for _ in range(depth))
        self.norm = nn.BatchNorm1d(d)
        self.head = nn.Linear(d, classes)
        self.register_buffer("shift", -torch.rand(d))
        self.register_buffer("free", -torch.ones(d), persistent=False)
        self.register_buffer("order", torch.arange(4))
        for name in ("running_mean", "running_var"):
            getattr(self.norm, name).copy_(torch.rand(d) + 0.5)
        self.norm.running_mean.neg_()

    def embed(self, images: Tensor) -> Tensor:
        return self.patch(images).flatten(2).transpose(1, 2)[:, self.order] + self.shift - 0.1 * self.free

    def pooled(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x.mean(1)))

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.pooled(x)


def separately(model: ToyViT, images: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
    """The hidden activations and the loss, written out once more, for the tests to differentiate."""
    x, hidden = model.embed(images), []
    for block in model.blocks:
        x = x + block.attn(block.norm(x))
        hidden.append(F.gelu(F.linear(x, block.fc1.weight, block.fc1.bias)))
        x = x + F.linear(hidden[-1], block.fc2.weight, block.fc2.bias)
    chances = torch.log_softmax(model.pooled(x), -1)
    return hidden, -chances[torch.arange(len(labels)), labels].mean()
