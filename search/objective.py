"""What a search maximises: one number per program, from its scores on the networks of the search part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError, nearest
from ..grammar.expr import Node, topological
from . import measures
from .correlation import settled
from .measures import Measure

Array = NDArray[np.float64]


class Objective(Protocol):
    """Scores ``[P, A]`` of valid programs -> one value each, None where there is none; larger is better.

    ``programs``: the programs themselves, for an objective that looks at them.
    """

    def __call__(self, scores: Array, programs: Sequence[Node] = ()) -> list[float | None]: ...

    def describe(self) -> dict[str, Any]:
        """What makes this objective the one it is, as plain JSON."""
        ...


Factory = Callable[[Mapping[str, Array], Mapping[str, Array]], Objective]
"""Targets and facts of some networks, by name -> the objective on these networks."""


class Metric:
    """A `measures.Measure` with each target, put together: by their weighted mean, or the smallest.

    ``targets``: name -> float64 ``[A]``, on the networks that are scored; NaN = not measured, and left out for that
    target. ``facts``: the networks' own, name -> ``[A]``. ``weights``: alpha by name, 1 where not given. ``worst``: the
    smallest of the targets with a positive weight instead of their mean. ``penalty``: is taken off for every op and
    leaf of a program.

    Raises ProxforgeError ``config`` for an unknown or negative weight, for weights that sum to 0, and for a target that
    orders no two networks.
    """

    def __init__(
        self,
        name: str,
        measure: Measure,
        targets: Mapping[str, Array],
        facts: Mapping[str, Array],
        weights: Mapping[str, float] | None = None,
        *,
        worst: bool = False,
        penalty: float = 0.0,
    ) -> None:
        given = {} if weights is None else weights
        for target, weight in given.items():
            if target not in targets:
                known = ", ".join(targets)
                raise _config(
                    f"a weight is given for the target '{target}'{nearest(target, targets)}; there are {known}"
                )
            if not (np.isfinite(weight) and weight >= 0):
                raise _config(f"the weight of the target '{target}' is {weight}; expected a number of 0 or more")
        self.weights = {target: float(given.get(target, 1.0)) for target in targets}
        self._total = sum(self.weights.values())
        if not self._total > 0:
            raise _config("the weights of the targets sum to 0; give at least one target a positive weight")
        used = {n: np.asarray(y, np.float64) for n, y in targets.items() if self.weights[n] > 0}
        for target, y in used.items():
            if len(np.unique(y[~np.isnan(y)])) < 2:
                raise _config(
                    f"the target '{target}' has fewer than two different values on the {len(y)} networks; "
                    "leave it out or choose another split"
                )
        self.name, self._measure, self._facts, self._worst, self._penalty = name, measure, facts, worst, penalty
        self._targets = np.stack(list(used.values()))
        self._alphas = np.array([self.weights[target] for target in used])

    def __call__(self, scores: Array, programs: Sequence[Node] = ()) -> list[float | None]:
        """The value of every row of ``scores [P, A]``; None where the measure with one of the targets is undefined."""
        found = self._measure(settled(scores), self._targets, self._facts)
        values = found.min(axis=1) if self._worst else (found * self._alphas).sum(axis=1) / self._total
        if self._penalty:
            values = values - self._penalty * np.array([len(topological([program])) for program in programs])
        return [None if np.isnan(v) else float(v) for v in values]

    def describe(self) -> dict[str, Any]:
        """See `Objective.describe`."""
        penalty = {"penalty": self._penalty} if self._penalty else {}
        return {"name": self.name, "weights": dict(self.weights), **penalty}


class JCM(Metric):
    """The Joint Correlation Metric of Auto-Prox: sum(alpha_i tau_i) / sum(alpha_i), tau-b with each target.

    See `Metric` for ``targets``, ``weights`` and what is raised.
    """

    def __init__(self, targets: Mapping[str, Array], weights: Mapping[str, float] | None = None) -> None:
        super().__init__("jcm", measures.kendall, targets, {}, weights)


def jcm(targets: Mapping[str, Array], facts: Mapping[str, Array]) -> Objective:
    """The JCM with equal weights, a `Factory`."""
    return JCM(targets)


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
