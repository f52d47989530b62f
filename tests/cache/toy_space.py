"""A small space for the tests of the cache: its networks have buffers of every sort and more than ten layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from proxforge.stats_cache.recipe import Recipe
from proxforge.stats_cache.spaces.base import Arch, Size, Space, SpaceError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

ALL = (*(f"{site}.{kind}" for site in ("qkv", "proj", "fc1", "fc2") for kind in "wgv"), "hidden.a", "hidden.g")


class Toy(Space):
    """Genes: ``depth`` and ``width``."""

    name: ClassVar[str] = "toy_space:Toy"
    classes: ClassVar[int] = 5
    resolution: ClassVar[int] = 8
    channels: ClassVar[int] = 2
    sites: ClassVar[Mapping[str, str]] = {
        "qkv": "blocks.*.attn.qkv",
        "proj": "blocks.*.attn.proj",
        "fc1": "blocks.*.fc1",
        "fc2": "blocks.*.fc2",
        "hidden": "blocks.*.act",
    }

    def check(self, arch: Arch) -> dict[str, Any]:
        if set(arch) != {"depth", "width"}:
            raise SpaceError(f"a toy has depth and width, not {sorted(arch)}")
        return {"depth": int(arch["depth"]), "width": int(arch["width"])}

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"depth": int(rng.integers(1, 4)), "width": 4 * int(rng.integers(1, 4))}

    def size(self, arch: Arch, classes: int | None = None) -> Size:
        d, depth = arch["width"], arch["depth"]
        return Size(params=8 * d * d * depth, flops=32 * d * d * depth, depth=depth, width=float(d))

    def build(self, arch: Arch, *, seed: int, classes: int | None = None) -> nn.Module:
        import torch
        from toy_model import ToyViT

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return ToyViT(arch["width"], arch["depth"], classes or self.classes)


def recipe(networks: int = 6, **changed: Any) -> Recipe:
    """A recipe of that many toys, of different sizes."""
    archs = tuple({"depth": 1 + i % 3, "width": 4 + 4 * (i % 4)} for i in range(networks))
    return Recipe(**{"space": Toy.name, "archs": archs, "classes": 5, "batch": 3, **changed})
