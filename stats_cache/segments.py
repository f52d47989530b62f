"""Tensors of a network as segments: two-dimensional, float32 (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .source import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Weights, or gradients by them, one above the other: ``[out, in]``."""
    flat = [part.flatten(1) for part in parts]
    if len({part.shape[1] for part in flat}) > 1:
        widths = ", ".join(str(list(part.shape)) for part in flat)
        raise CacheError(f"weights that are joined have different widths: {widths}; name modules with one input")
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def rows(site: str, output: Tensor, limit: int | None, seed: int) -> Tensor:
    """An output, or the gradient by it, as ``[positions * batch, features]``, with at most ``limit`` rows, drawn from
    the seed.

    Of a convolution (site ``act``) the features are the channels, axis 1; else they are the last axis.
    """
    flat = (output.movedim(1, -1) if site == "act" else output).flatten(0, -2)
    if limit is None or limit >= len(flat):
        return flat
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(flat), generator=generator)[:limit].sort().values
    return flat[chosen.to(flat.device)]


def array(tensor: Tensor) -> NDArray[np.float32]:
    """As the store wants it: float32, contiguous."""
    made: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return made
