"""The micro space: tiny Vision Transformers for 8 x 8 grey images, in two families. The embedded benchmark's space.

``columnar``: 2 x 2 patches, 16 tokens, one width from first to last layer, as in ViT (Dosovitskiy et al. 2021).
``pyramid``: the same 16 tokens in a first stage, then 2 x 2 neighbours are merged by one linear map into 4 tokens of
twice the width for a second stage (the idea of PiT, Heo et al. 2021; the merging of Swin, Liu et al. 2021).

Genes: ``family``; ``depth``, a number of layers (columnar) or one per stage ``[a, b]`` (pyramid); ``width``, the
embedding width (of the first stage); ``heads`` and ``mlp_ratio``, one per layer. No ratio is 1 or 3: with them the
MLP's width would coincide with the rows of another matrix (d, 3q); shapes of different axes must not fit by accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, product
from typing import TYPE_CHECKING, Any, ClassVar

from .base import BLOCK_SITES, Arch, Shapes, Size, Space, SpaceError, block_shapes
from .genes import exactly, listed, short
from .grid import Gene, Grid

if TYPE_CHECKING:
    import numpy as np

    from ._micro import MicroViT

FAMILIES = ("columnar", "pyramid")
DEPTHS = {"columnar": (1, 2, 3, 4, 5), "pyramid": (1, 2, 3)}
WIDTHS = {"columnar": (8, 12, 16, 24), "pyramid": (4, 8, 12, 16)}
HEADS = (1, 2, 4)
RATIOS = (0.5, 1.5, 2.0, 4.0)
GENES = ("family", "depth", "width", "heads", "mlp_ratio")

PATCH = 2
TOKENS = 16
FAMILY_RATE = 0.1
"""How often a mutation changes the family, of which no other gene survives."""
MERGED = 4
"""Tokens of the second stage of a pyramid."""


GRIDS: Mapping[str, Grid] = {
    family: Grid(
        {
            "family": Gene((family,)),
            "depth": Gene(DEPTHS[family]) if family == "columnar" else Gene(tuple(product(DEPTHS[family], repeat=2))),
            "width": Gene(WIDTHS[family]),
            "heads": Gene(HEADS, "layer", "depth"),
            "mlp_ratio": Gene(RATIOS, "layer", "depth"),
        }
    )
    for family in FAMILIES
}
"""The genes of every family; those of a pyramid hold its two depths as one value."""


def layer_shapes(arch: Arch) -> list[tuple[int, int, int, int]]:
    """(tokens, d, heads, m) of every layer, in forward order, of an architecture in normal form."""
    first = arch["depth"] if arch["family"] == "columnar" else arch["depth"][0]
    shapes = []
    for layer, (heads, ratio) in enumerate(zip(arch["heads"], arch["mlp_ratio"], strict=True)):
        tokens, width = (TOKENS, arch["width"]) if layer < first else (MERGED, 2 * arch["width"])
        shapes.append((tokens, width, heads, round(width * ratio)))
    return shapes


class MicroSpace(Space):
    """Tiny Vision Transformers of two families; see the module for their genes."""

    name: ClassVar[str] = "micro"
    classes: ClassVar[int] = 10
    resolution = 8
    channels: ClassVar[int] = 1
    sites: ClassVar[Mapping[str, str]] = BLOCK_SITES

    def check(self, arch: Arch) -> dict[str, Any]:
        """The architecture in normal form. Raises SpaceError naming the gene that is wrong."""
        arch = exactly("micro", arch, GENES)
        family = _one_of("family", arch["family"], FAMILIES)
        if family == "columnar":
            depth = _one_of("depth", arch["depth"], DEPTHS[family])
            layers = int(depth)
        else:
            depth = _list_of("depth", arch["depth"], DEPTHS[family], 2, "stage")
            layers = sum(depth)
        return {
            "family": family,
            "depth": depth,
            "width": _one_of("width", arch["width"], WIDTHS[family]),
            "heads": _list_of("heads", arch["heads"], HEADS, layers, "layer"),
            "mlp_ratio": _list_of("mlp_ratio", arch["mlp_ratio"], RATIOS, layers, "layer"),
        }

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture, every gene uniform (the family too)."""
        return self.sample_family(FAMILIES[int(rng.integers(len(FAMILIES)))], rng)

    def sample_family(self, family: str, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture of one family, its other genes uniform. Raises SpaceError for an unknown family."""
        _one_of("family", family, FAMILIES)

        def pick(values: tuple[Any, ...]) -> Any:
            return values[int(rng.integers(len(values)))]

        depth: Any = pick(DEPTHS[family]) if family == "columnar" else [pick(DEPTHS[family]) for _ in range(2)]
        layers: int = depth if family == "columnar" else sum(depth)
        return {
            "family": family,
            "depth": depth,
            "width": pick(WIDTHS[family]),
            "heads": [pick(HEADS) for _ in range(layers)],
            "mlp_ratio": [pick(RATIOS) for _ in range(layers)],
        }

    def genes(self) -> dict[str, Any]:
        """Family -> its genes, see `Space.genes`."""
        return {family: grid.describe() for family, grid in GRIDS.items()}

    def count(self) -> int:
        """Number of networks, both families together."""
        return sum(grid.count() for grid in GRIDS.values())

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Every network once, columnar ones first."""
        return chain.from_iterable(grid.enumerate() for grid in GRIDS.values())

    def mutate(self, arch: Arch, rng: np.random.Generator) -> dict[str, Any]:
        """One gene changed within the family, see `Space.mutate`; in one of ten cases a network of the other family."""
        arch = self.check(arch)
        if rng.random() < FAMILY_RATE:
            return self.sample_family(FAMILIES[1 - FAMILIES.index(arch["family"])], rng)
        return self.check(GRIDS[arch["family"]].mutate(arch, rng))

    def shapes(self, arch: Arch, batch: int) -> Shapes:
        """(rows, cols) of every segment for ``batch`` images."""
        return block_shapes([(tokens, d, d, m) for tokens, d, _, m in layer_shapes(self.check(arch))], batch)

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        """Parameters, multiply-accumulates, depth and mean width, by formula. Raises SpaceError as ``check`` does."""
        arch = self.check(arch)
        classes = self.classes if classes is None else classes
        shapes = layer_shapes(arch)
        width, last = arch["width"], shapes[-1][1]
        pixels = self.channels * PATCH**2
        params = (pixels + 1) * width + TOKENS * width + 2 * last + (last + 1) * classes
        flops = TOKENS * pixels * width + last * classes
        if arch["family"] == "pyramid":
            params += (4 * width + 1) * 2 * width
            flops += MERGED * 4 * width * 2 * width
        for tokens, d, _, m in shapes:
            linears = 3 * d * d + d * d + 2 * d * m
            params += linears + 3 * d + d + m + d + 4 * d
            flops += tokens * linears + 2 * tokens * tokens * d
        return Size(params, flops, len(shapes), sum(d for _, d, _, _ in shapes) / len(shapes))

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> MicroViT:
        """The untrained network, ``[batch, 1, 8, 8] -> [batch, classes]``, initialised from ``seed`` alone."""
        from ._micro import MicroViT
        from ._vit import seeded

        arch = self.check(arch)
        with seeded(seed):
            return MicroViT(arch["width"], layer_shapes(arch), self.classes if classes is None else classes)


def _one_of(gene: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """The allowed value that equals ``value`` (2.0 passes for 2, True passes for nothing)."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        for known in allowed:
            if value == known:
                return known
    raise SpaceError(f"gene {gene!r} is {short(value)}; allowed in a micro network: {', '.join(map(str, allowed))}")


def _list_of(gene: str, values: Any, allowed: tuple[Any, ...], length: int, per: str) -> list[Any]:
    """Each of ``values`` as the allowed value that it equals, ``length`` of them, one for each ``per``."""
    return [_one_of(f"{gene}[{i}]", value, allowed) for i, value in enumerate(listed(gene, values, length, per))]
