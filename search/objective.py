"""What a search maximises: one number per program, from its scores on the networks of the search part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError, nearest
from .correlation import kendall_many, settled

Array = NDArray[np.float64]


class Objective(Protocol):
    """Scores ``[P, A]`` of valid programs -> one value each, None where there is none; larger is better."""

    def __call__(self, scores: Array) -> list[float | None]: ...

    def describe(self) -> dict[str, Any]:
        """What makes this objective the one it is, as plain JSON."""
        ...


class JCM:
    """The Joint Correlation Metric of Auto-Prox: sum(alpha_i tau_i) / sum(alpha_i), tau-b with each target.

    ``targets``: name -> float64 ``[A]``, on the networks that are scored; NaN = not measured, and left out for that
    target. ``weights``: alpha by name, 1 where not given. Raises ProxforgeError ``config`` for an unknown or negative
    weight, for weights that sum to 0, and for a target that orders no two networks.
    """

    def __init__(self, targets: Mapping[str, Array], weights: Mapping[str, float] | None = None) -> None:
        given = {} if weights is None else weights
        for name, weight in given.items():
            if name not in targets:
                known = ", ".join(targets)
                raise _config(f"a weight is given for the target '{name}'{nearest(name, targets)}; there are {known}")
            if not (np.isfinite(weight) and weight >= 0):
                raise _config(f"the weight of the target '{name}' is {weight}; expected a number of 0 or more")
        self.weights = {name: float(given.get(name, 1.0)) for name in targets}
        self._total = sum(self.weights.values())
        if not self._total > 0:
            raise _config("the weights of the targets sum to 0; give at least one target a positive weight")
        used = {n: np.asarray(y, np.float64) for n, y in targets.items() if self.weights[n] > 0}
        for name, y in used.items():
            if len(np.unique(y[~np.isnan(y)])) < 2:
                raise _config(
                    f"the target '{name}' has fewer than two different values on the {len(y)} networks; "
                    "leave it out or choose another split"
                )
        self._targets = np.stack(list(used.values()))
        self._alphas = np.array([self.weights[name] for name in used])

    def __call__(self, scores: Array) -> list[float | None]:
        """The JCM of every row of ``scores [P, A]``; None where tau with one of the targets is undefined."""
        taus = kendall_many(settled(scores), self._targets)
        values = (taus * self._alphas).sum(axis=1) / self._total
        return [None if np.isnan(v) else float(v) for v in values]

    def describe(self) -> dict[str, Any]:
        """See `Objective.describe`."""
        return {"name": "jcm", "weights": dict(self.weights)}


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
