"""Convolutions by formula: what the CNN spaces count with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Shapes


@dataclass(frozen=True)
class Convolution:
    """A square convolution without bias. ``side``: of its output in pixels. ``norm``: followed by a BatchNorm."""

    channels: int
    out: int
    kernel: int
    side: int
    norm: bool = True

    @property
    def params(self) -> int:
        """The kernel's, and two per channel of the BatchNorm."""
        return self.out * self.channels * self.kernel**2 + 2 * self.out * self.norm

    @property
    def flops(self) -> int:
        """Multiply-accumulates of one image."""
        return self.out * self.channels * self.kernel**2 * self.side**2


def convolution_shapes(convolutions: Sequence[Convolution], batch: int) -> Shapes:
    """The shapes of ``conv`` and ``act`` for ``batch`` images."""
    return {
        "conv": [(c.out, c.channels * c.kernel**2) for c in convolutions],
        "act": [(batch * c.side**2, c.out) for c in convolutions],
    }
