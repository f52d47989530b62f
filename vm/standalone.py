"""Ops that are more than one torch expression. Exported files get a copy of those they use, so each needs torch alone.

A Matrix is a float64 tensor ``[r, c]``, a Scalar or Score a 0-d one; of a reduction over layers the operand is
``[layers]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-9
FLOAT32_MAX = torch.finfo(torch.float32).max
FLOAT32_TINY = torch.finfo(torch.float32).tiny


def in_range(x: Tensor) -> Tensor:
    """float32's range: beyond its largest number inf, below its smallest normal number 0."""
    x = torch.where(x.abs() > FLOAT32_MAX, x.sign() * torch.inf, x)
    return torch.where(x.abs() < FLOAT32_TINY, 0.0, x)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def std(x: Tensor) -> Tensor:
    if x.numel() > 1 and bool(x.min() == x.max()):
        return x.min() * 0.0
    return torch.sqrt(((x - x.mean()) ** 2).sum() / (x.numel() - 1))


def normalize(x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred * 0.0 if bool(x.min() == x.max()) else centred / std(x)


def normalized_sum(x: Tensor) -> Tensor:
    return x if x.dim() == 0 else x.sum() / (x.numel() + EPS)


def matmul(x: Tensor, y: Tensor) -> Tensor:
    return x * y if x.dim() == 0 else x @ y


def gram(x: Tensor) -> Tensor:
    return x * x if x.dim() == 0 else x @ x.T / x.numel()


def singular_values(x: Tensor) -> Tensor:
    """NaN or inf alone where the matrix has one."""
    largest = x.abs().max()
    return torch.linalg.svdvals(x) if bool(largest.isfinite()) else largest[None]


def nuclear_norm(x: Tensor) -> Tensor:
    return x.abs() if x.dim() == 0 else singular_values(x).sum()


def slogdet(x: Tensor) -> Tensor:
    """ln det(x x^T/c + EPS mean(x^2) I) by the singular values; of those that a row lacks the square is 0."""
    if x.dim() == 0:
        return torch.log(x * x * (1.0 + EPS))
    squares = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    found = singular_values(x)
    squares[: len(found)] = found * found / x.shape[1]
    return torch.log(squares + EPS * (x * x).mean()).sum()
