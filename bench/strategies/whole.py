"""What an atlas knows of the space that strategies search: how good its best programs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atlas.analysis import TOP
from ..atlas.patterns import LAYERS
from ..atlas.store import Atlas
from ..atlas.task import PARTS

DECIMALS = 6
"""To which values are compared: the atlas sums taus in single precision for its distribution."""


@dataclass(frozen=True)
class Whole:
    """``programs``: with a value on the search part. ``optimum``: the largest value there, ``optimum_test``: of the
    same program on the test part. ``top``: the value that the best share `TOP` of the programs has at least."""

    programs: int
    optimum: float
    optimum_test: float
    top: float

    def regret(self, search: float) -> float:
        """How far a value is below the optimum."""
        return self.optimum - search

    def at_top(self, search: float) -> bool:
        """Whether a value is among the best share `TOP`."""
        return bool(round(search, DECIMALS) >= round(self.top, DECIMALS))


def whole_of(folder: Path) -> Whole:
    """The programs with ``layer_mean`` of the atlas in a folder."""
    atlas = Atlas(folder)
    mean, search = LAYERS.index("mean"), PARTS.index("search")
    values = atlas.values(mean, search)
    values = values[~np.isnan(values)]
    place = len(values) - max(1, int(TOP * len(values)))
    (best,) = atlas.best(1, search, [mean], {})
    found = atlas.row(best)
    return Whole(len(values), found["jcm_search"], found["jcm_test"], float(np.partition(values, place)[place]))
