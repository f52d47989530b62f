"""Objectives for a search of formulas that are to stand in an ensemble, beside what costs nothing.

``proxforge search --objective proxforge.bench.proxies.beside:flops`` looks for the formula whose ranks, aggregated by
logarithms with those of the multiply-accumulates (AZ-NAS), order the networks best. Larger is better: the mean
of Kendall's tau-b over the targets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...search.correlation import kendall
from .ensembles import aggregate

Array = NDArray[np.float64]


def params(scores: Array, targets: Mapping[str, Array], facts: Mapping[str, Array]) -> float | None:
    """Beside #params."""
    return _beside(scores, targets, facts["params"])


def flops(scores: Array, targets: Mapping[str, Array], facts: Mapping[str, Array]) -> float | None:
    """Beside the multiply-accumulates: AZ-NAS's complexity."""
    return _beside(scores, targets, facts["flops"])


def depth_width(scores: Array, targets: Mapping[str, Array], facts: Mapping[str, Array]) -> float | None:
    """Beside ``depth * width``."""
    return _beside(scores, targets, facts["depth"] * facts["width"])


def _beside(scores: Array, targets: Mapping[str, Array], other: Array) -> float | None:
    combined = aggregate(np.stack([scores, other]), "log")
    taus = [kendall(combined, truth) for truth in targets.values()]
    known = [tau for tau in taus if tau is not None]
    return float(np.mean(known)) if len(known) == len(taus) > 0 else None
