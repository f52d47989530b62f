"""What an atlas is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...search.spaces.tree import TreeSpace
from ...stats_cache.source import Source
from .files import FORMAT
from .patterns import LAYERS

Array = NDArray[np.float64]

PARTS = ("search", "test", "all")
"""The parts of the networks that ranks are kept of."""


@dataclass(frozen=True, eq=False)
class Task:
    """What an atlas is made of. ``targets``: name -> float64 ``[A]``, NaN = not measured; ``split``: search part and
    test part of the A networks of ``source``. ``layers``: those of `LAYERS` whose programs are listed. ``products``:
    whether two matrices are joined by * and @, which takes most of the time; else those programs are `LEFT_OUT`.
    ``about``: what else makes the atlas the one it is, as plain JSON."""

    source: Source
    targets: Mapping[str, Array]
    split: tuple[Sequence[int], Sequence[int]]
    space: TreeSpace
    about: Mapping[str, Any]
    layers: tuple[str, ...] = LAYERS
    products: bool = True

    @property
    def parts(self) -> tuple[list[int], ...]:
        """The networks of `PARTS`."""
        search, test = ([int(i) for i in part] for part in self.split)
        return search, test, list(range(len(self.source.networks)))

    def settings(self) -> dict[str, Any]:
        """What makes the atlas the one it is, as plain JSON."""
        digests = {n: hashlib.sha256(np.asarray(y, "<f8").tobytes()).hexdigest()[:16] for n, y in self.targets.items()}
        return {
            "format": FORMAT,
            **self.about,
            "source": self.source.key,
            "space": self.space.describe(),
            "targets": digests,
            "layers": list(self.layers),
            "products": self.products,
            "parts": dict(zip(PARTS, self.parts, strict=True)),
        }
