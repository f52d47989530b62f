"""What a choice by score costs, on networks whose accuracy is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 1000


@dataclass(frozen=True)
class Regret:
    """Of one target, accuracies in percent over the ``n`` networks measured on it.

    ``chosen``: of the network with the highest score; ``best``: of the best; ``regret``: the difference;
    ``percentile``: percent of the networks that are worse (of equal ones the half). ``regret_ci``, ``percentile_ci``:
    95 % over 1,000 bootstrap draws of the networks, the choice made anew in each. ``random``: the mean regret of a
    network drawn at random; ``largest``: that of the one with the most parameters.
    """

    n: int
    chosen: float
    best: float
    regret: float
    regret_ci: tuple[float, float]
    percentile: float
    percentile_ci: tuple[float, float]
    random: float
    largest: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        intervals = {"regret_ci": list(self.regret_ci), "percentile_ci": list(self.percentile_ci)}
        return asdict(self) | intervals


def regret_of(scores: Array, truth: Array, params: Array, *, draws: int = DRAWS, seed: int = 0) -> Regret | None:
    """The regret of choosing by ``scores [n]`` (NaN: never chosen), -inf the lowest; None when nothing can be chosen.

    ``truth``, ``params``: float64 ``[n]``; networks with NaN in the truth are left out.
    """
    keep = ~np.isnan(truth) & ~np.isnan(scores)
    x, y, size = scores[keep], truth[keep], params[keep]
    if not len(y):
        return None
    drawn = np.random.default_rng(seed).integers(0, len(y), (draws, len(y)))
    each = [_choice(x[d], y[d]) for d in drawn]
    regrets, percentiles = (np.array(part) for part in zip(*each, strict=True))
    regret, percentile = _choice(x, y)
    best = float(y.max())
    return Regret(
        n=len(y),
        chosen=best - regret,
        best=best,
        regret=regret,
        regret_ci=_interval(regrets),
        percentile=percentile,
        percentile_ci=_interval(percentiles),
        random=float(best - y.mean()),
        largest=_choice(size, y)[0],
    )


def regrets(scores: Array, targets: Mapping[str, Array], params: Array) -> dict[str, Any]:
    """Target -> its regret as plain JSON values."""
    found = {name: regret_of(scores, truth, params) for name, truth in targets.items()}
    return {name: regret.to_dict() for name, regret in found.items() if regret is not None}


def _choice(scores: Array, truth: Array) -> tuple[float, float]:
    """(regret, percentile) of the highest score; among networks with one score their mean."""
    chosen = float(truth[scores == scores.max()].mean())
    worse = (truth < chosen).mean() + 0.5 * (truth == chosen).mean()
    return float(truth.max()) - chosen, 100 * float(worse)


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
