"""What the AutoFormer spaces have in common: one width from first to last layer, heads and MLP ratio per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import BLOCK_SITES, Arch, Shapes, Size, SpaceError, block_shapes
from .genes import exactly, listed, number, whole
from .grid import Gene, Grid, GridSpace

GENES = ("hidden_dim", "mlp_ratio", "depth", "num_heads")
PATCH = 16


def columnar_grid(
    widths: tuple[int, ...], ratios: tuple[float, ...], depths: tuple[int, ...], heads: tuple[int, ...]
) -> Grid:
    """The published values of a space."""
    return Grid(
        {
            "hidden_dim": Gene(widths),
            "mlp_ratio": Gene(ratios, "layer", "depth"),
            "depth": Gene(depths),
            "num_heads": Gene(heads, "layer", "depth"),
        }
    )


class Columnar(GridSpace):
    """Genes: ``hidden_dim`` (d), ``depth`` (L), ``mlp_ratio`` and ``num_heads`` (one for each of the L layers).

    ``check`` allows what can be built: d from 16 to 1024, L from 1 to 24, ratios from 0.5 to 8, heads from 1 to 16.
    """

    resolution = 224
    channels: ClassVar[int] = 3
    sites: ClassVar[Mapping[str, str]] = BLOCK_SITES

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming the gene that is wrong."""
        arch = exactly(self.name, arch, GENES)
        width = whole("hidden_dim", arch["hidden_dim"], 16, 1024)
        depth = whole("depth", arch["depth"], 1, 24)
        ratios = listed("mlp_ratio", arch["mlp_ratio"], depth, "layer")
        heads = listed("num_heads", arch["num_heads"], depth, "layer")
        ratios = [number(f"mlp_ratio[{i}]", ratio, 0.5, 8) for i, ratio in enumerate(ratios)]
        heads = [whole(f"num_heads[{i}]", head, 1, 16) for i, head in enumerate(heads)]
        return {"hidden_dim": width, "mlp_ratio": ratios, "depth": depth, "num_heads": heads}

    def check_resolution(self, resolution: int) -> None:
        """Raises SpaceError unless the side is 1 to 64 patches of 16 pixels."""
        if resolution % PATCH or not PATCH <= resolution <= 64 * PATCH:
            raise SpaceError(
                f"networks of {self.name} see images of 16, 32, .. 1024 pixels (patches of 16); given: {resolution}"
            )

    @property
    def tokens(self) -> int:
        """Patches, and the cls token."""
        return (self.resolution // PATCH) ** 2 + 1

    def attention_width(self, arch: Arch, layer: int) -> int:
        """q of a layer, of an architecture in normal form."""
        raise NotImplementedError

    def shapes(self, arch: Arch, batch: int) -> Shapes:
        """(rows, cols) of every segment for ``batch`` images."""
        arch = self.check(arch)
        d, hidden = arch["hidden_dim"], hidden_widths(arch)
        return block_shapes([(self.tokens, d, self.attention_width(arch, i), m) for i, m in enumerate(hidden)], batch)

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth and width, by formula. Raises SpaceError for a wrong one."""
        arch = self.check(arch)
        classes = self.classes if classes is None else whole("classes", classes, 1, 10**6)
        d, tokens = arch["hidden_dim"], self.tokens
        pixels = self.channels * PATCH**2
        params = (pixels + 1) * d + d + tokens * d + 2 * d + (d + 1) * classes
        flops = (tokens - 1) * pixels * d + d * classes
        for layer, m in enumerate(hidden_widths(arch)):
            q = self.attention_width(arch, layer)
            params += 4 * q * d + 3 * q + d + 2 * d * m + m + d + 4 * d  # qkv and proj, fc1 and fc2, two LayerNorms
            flops += tokens * (4 * q * d + 2 * d * m) + 2 * tokens * tokens * q
        return Size(params=params, flops=flops, depth=arch["depth"], width=float(d))


def hidden_widths(arch: Arch) -> list[int]:
    """Width m of the MLP in every layer, of an architecture in normal form."""
    return [int(arch["hidden_dim"] * ratio) for ratio in arch["mlp_ratio"]]
