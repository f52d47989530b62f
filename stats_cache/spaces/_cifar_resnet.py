"""The CIFAR ResNet (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ._cnn import Unit
from .cifar_resnet import WIDTHS


class ResNet(nn.Module):
    """``[batch, channels, side, side] -> [batch, classes]``. ``blocks``: residual blocks of every stage."""

    def __init__(self, blocks: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        before = WIDTHS[0]
        units = [Unit(channels, before, 3)]
        self.widens = []
        for width, count in zip(WIDTHS, blocks, strict=True):
            for _ in range(count):
                stride = 1 if width == before else 2
                units += [Unit(before, width, 3, stride), Unit(width, width, 3)]
                self.widens.append(width != before)
                if width != before:
                    units.append(Unit(before, width, 1, stride))
                before = width
        self.units = nn.ModuleList(units)
        self.head = nn.Linear(before, classes)
        for unit in units:
            nn.init.kaiming_normal_(unit.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, channels, side, side] -> [batch, classes]``."""
        units = iter(self.units)
        x = F.relu(next(units)(images))
        for widens in self.widens:
            first, second = next(units), next(units)
            inner = second(F.relu(first(x)))
            x = F.relu(inner + (next(units)(x) if widens else x))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]
