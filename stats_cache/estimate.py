"""How large a cache becomes, before anything is collected."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..grammar.types import STATISTICS
from .recipe import Recipe
from .sites import ACTIVATIONS
from .source import CacheError
from .spaces.base import Arch, Space

_ELEMENT = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element on the disk."""
_TENSOR = 100
"""About so many bytes a tensor takes in the header of its file."""
_FACTS = 300
"""About so many bytes a segment takes in the manifest."""


def estimate(recipe: Recipe, statistics: Iterable[str]) -> tuple[int, ...] | None:
    """Bytes on the disk of every network, within a few percent; None where the space has no formula for its shapes."""
    recipe, family, wanted = recipe.normal(), recipe.family(), tuple(statistics)
    sizes = [network_bytes(recipe, family, arch, wanted) for arch in recipe.archs]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def network_bytes(recipe: Recipe, family: Space, arch: Arch, statistics: Iterable[str]) -> int | None:
    """The same of one network of the recipe."""
    shapes = family.shapes(arch, recipe.batch)
    if shapes is None:
        return None
    total = 0
    for name in statistics:
        site = STATISTICS[name].site
        limit = recipe.rows if site in ACTIVATIONS else None
        for rows, cols in shapes[site]:
            kept = rows if limit is None else min(rows, limit)
            total += kept * cols * _ELEMENT[recipe.storage] + _TENSOR + _FACTS
    return total


def check_room(directory: Path, growth: Mapping[int, int], old: Iterable[int], together: int) -> None:
    """Raises CacheError when the disk cannot hold what is to be added.

    ``growth``: network -> bytes that its file grows by. ``old``: bytes of the files that are extended; ``together``: so
    many are written at a time, beside the old ones that they replace.
    """
    free = shutil.disk_usage(directory).free
    need = sum(growth.values()) + sum(sorted(old)[-together:])
    if need > free:
        raise CacheError(
            f"the statistics of {len(growth)} networks need about {_size(need)}, and {directory} has {_size(free)} "
            "free. Choose another folder, fewer statistics or networks, a smaller batch, storage in 16 bits, or fewer "
            "rows of the activations"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
