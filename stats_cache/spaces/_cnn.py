"""The convolution unit that the CNN spaces are made of (loads torch: import it inside ``build``).

All units of a network stand in one list ``units``, in forward order: the sites are ``units.*.conv``.
"""

from __future__ import annotations

from torch import Tensor, nn


class Unit(nn.Module):
    """A ReLU (or none), a convolution without bias, a BatchNorm (or none): ``[b, c, h, w] -> [b, out, h', w']``.

    Padding keeps the sides but for the stride.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, *, relu: bool = False, norm: bool = True
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[b, c, h, w] -> [b, out, h', w']``."""
        return self.norm(self.conv(self.relu(x)))  # type: ignore[no-any-return]
