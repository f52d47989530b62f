"""Images and labels that are made from a seed (loads torch)."""

from __future__ import annotations

import torch
from torch import Tensor

from .source import CacheError


def noise(batch: int, channels: int, resolution: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standard normal images ``[batch, channels, resolution, resolution]``, uniform labels ``[batch]``, seeded."""
    generator = torch.Generator().manual_seed(seed)
    try:
        images = torch.randn(batch, channels, resolution, resolution, generator=generator, dtype=torch.float32)
    except RuntimeError as error:  # what torch raises when there is not that much memory
        pixels = batch * channels * resolution**2
        raise CacheError(
            f"no memory for a batch of {batch} images ({4 * pixels / 1e9:.0f} GB); choose fewer"
        ) from error
    return images, torch.randint(classes, (batch,), generator=generator)


def ones(batch: int, channels: int, resolution: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images ``[batch, channels, resolution, resolution]`` whose every pixel is 1, uniform labels ``[batch]``,
    seeded."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.ones(1, channels, resolution, resolution).repeat(batch, 1, 1, 1)
    return images, torch.randint(classes, (batch,), generator=generator)
