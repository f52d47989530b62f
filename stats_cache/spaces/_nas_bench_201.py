"""The network of NAS-Bench-201 (loads torch)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._cnn import Unit
from .nas_bench_201 import CELLS, EDGES, KERNELS, WIDTHS

_POOL = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class CellNetwork(nn.Module):
    """``[batch, channels, side, side] -> [batch, classes]``. ``cell``: the operations of its edges."""

    def __init__(self, cell: Sequence[str], channels: int, classes: int) -> None:
        super().__init__()
        self.cell = tuple(cell)
        units = [Unit(channels, WIDTHS[0], 3)]
        for stage, width in enumerate(WIDTHS):
            if stage:
                before = WIDTHS[stage - 1]
                units.append(Unit(before, width, 3, 2, relu=True))
                units.append(Unit(width, width, 3, relu=True))
                units.append(Unit(before, width, 1, norm=False))
            for _ in range(CELLS):
                units += [Unit(width, width, KERNELS[op], relu=True) for op in cell if op in KERNELS]
        self.units = nn.ModuleList(units)
        self.norm = nn.BatchNorm2d(WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, channels, side, side] -> [batch, classes]``."""
        units = iter(self.units)
        x = next(units)(images)
        for stage in range(len(WIDTHS)):
            if stage:
                narrow, wide, short = next(units), next(units), next(units)
                x = wide(narrow(x)) + short(F.avg_pool2d(x, 2))
            for _ in range(CELLS):
                nodes = [x, *(torch.zeros_like(x) for _ in range(EDGES[-1][0]))]
                for (to, source), operation in zip(EDGES, self.cell, strict=True):
                    if operation in KERNELS:
                        nodes[to] = nodes[to] + next(units)(nodes[source])
                    elif operation != "none":
                        nodes[to] = nodes[to] + (_POOL(nodes[source]) if operation == "avg_pool_3x3" else nodes[source])
                x = nodes[-1]
        return self.head(F.relu(self.norm(x)).mean((2, 3)))  # type: ignore[no-any-return]
