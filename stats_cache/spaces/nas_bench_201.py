"""The networks of NAS-Bench-201 (Dong and Yang, ICLR 2020): 15,625 cells for 32 x 32 images.

A 3 x 3 convolution to 16 channels; three stages of five equal cells, 16, 32 and 64 channels wide; between two stages a
residual block of stride 2; BatchNorm, ReLU, the mean over all positions, a linear head. A cell is a graph of four
nodes: node i is the sum over all nodes j < i of one of five operations on j.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .base import CONVOLUTION_SITES, Arch, Shapes, Size, SpaceError
from .convolutions import Convolution, convolution_shapes
from .genes import exactly, listed, short, whole
from .grid import Gene, Grid, GridSpace

if TYPE_CHECKING:
    from ._nas_bench_201 import CellNetwork

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""(to, from), in the order of a cell's text ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
CELLS = 5
WIDTHS = (16, 32, 64)
_NODES = re.compile(r"\|([^+]*)\|")
_EDGE = re.compile(r"(\w+)~(\d)")


class NasBench201(GridSpace):
    """Gene: ``cell``, the operations of its six edges in the order of `EDGES`, or the cell's text."""

    name: ClassVar[str] = "nas-bench-201"
    classes: ClassVar[int] = 10
    resolution = 32
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = CONVOLUTION_SITES
    batch_statistics: ClassVar[bool] = True
    idle_modules: ClassVar[bool] = True  # a node from which no path leads to the last
    grid: ClassVar[Grid] = Grid({"cell": Gene(OPERATIONS, "edge", len(EDGES))})

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form: the list of operations. Raises SpaceError naming what is wrong."""
        cell = exactly(self.name, arch, ("cell",))["cell"]
        operations = parse_cell(cell) if isinstance(cell, str) else listed("cell", cell, len(EDGES), "edge")
        for i, operation in enumerate(operations):
            if operation not in OPERATIONS:
                raise SpaceError(f"gene 'cell[{i}]' is {short(operation)}; allowed: {', '.join(OPERATIONS)}")
        return {"cell": operations}

    def check_resolution(self, resolution: int) -> None:
        """Raises SpaceError unless the side is a multiple of 4, from 8 to 256."""
        if resolution % 4 or not 8 <= resolution <= 256:
            raise SpaceError(f"networks of {self.name} see images of 8, 12, .. 256 pixels; given: {resolution}")

    def convolutions(self, arch: Arch) -> Iterator[Convolution]:
        """The convolutions in forward order, of an architecture in normal form."""
        kernels = [KERNELS[operation] for operation in arch["cell"] if operation in KERNELS]
        side = self.resolution
        yield Convolution(self.channels, WIDTHS[0], 3, side)
        for stage, width in enumerate(WIDTHS):
            if stage:
                side, before = side // 2, WIDTHS[stage - 1]
                yield Convolution(before, width, 3, side)
                yield Convolution(width, width, 3, side)
                yield Convolution(before, width, 1, side, norm=False)
            for _ in range(CELLS):
                for kernel in kernels:
                    yield Convolution(width, width, kernel, side)

    def shapes(self, arch: Arch, batch: int) -> Shapes:
        """(rows, cols) of every segment for ``batch`` images."""
        return convolution_shapes(list(self.convolutions(self.check(arch))), batch)

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, number and mean width of the convolutions, by formula."""
        layers = list(self.convolutions(self.check(arch)))
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        last = WIDTHS[-1]
        params = sum(c.params for c in layers) + 2 * last + (last + 1) * classes
        flops = sum(c.flops for c in layers) + last * classes
        return Size(params, flops, len(layers), sum(c.out for c in layers) / len(layers))

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> CellNetwork:
        """The untrained network, ``[batch, 3, side, side] -> [batch, classes]``, initialised from ``seed`` alone.

        As published: torch's default for convolutions and the head, BatchNorms 1 and 0.
        """
        from ._nas_bench_201 import CellNetwork
        from ._vit import seeded

        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        with seeded(seed):
            return CellNetwork(arch["cell"], self.channels, classes)


def parse_cell(text: str) -> list[str]:
    """The operations of ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` in the order of `EDGES`. Raises SpaceError."""
    nodes = [_NODES.fullmatch(part) for part in text.split("+")]
    edges = [
        (to, int(match[2]), match[1])
        for to, node in enumerate(nodes, 1)
        if node is not None
        for match in map(_EDGE.fullmatch, node[1].split("|"))
        if match is not None
    ]
    if [(to, source) for to, source, _ in edges] != list(EDGES):
        raise SpaceError(f"{short(text)} is no cell; expected a text |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    return [operation for _, _, operation in edges]


def cell_text(cell: list[str]) -> str:
    """The text of a cell in normal form: the reverse of `parse_cell`."""
    nodes: dict[int, str] = {}
    for (to, source), operation in zip(EDGES, cell, strict=True):
        nodes[to] = nodes.get(to, "|") + f"{operation}~{source}|"
    return "+".join(nodes.values())
