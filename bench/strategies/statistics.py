"""The statistics of a comparison: intervals, significance with effect sizes, targets, ranks.

Intervals are bootstrap intervals of the mean over seeds (percentile, 95 %). Significance: the two-sided test of Mann
and Whitney (1947), corrected after Holm (1979) over all pairs. Effect: A12 of Vargha and Delaney (2000), the chance
that a run of the first strategy is better than one of the second, ties by half; 0.5 is no difference, 0.56, 0.64 and
0.71 are called small, medium and large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plan import Run
from .whole import Whole

Array = NDArray[np.float64]

RESAMPLES = 2000
TARGETS = 41
"""Values that an ECDF counts, spread evenly between the `SPREAD` quantiles of all final values."""
SPREAD = (0.05, 0.95)
BASE = "random"
"""What each strategy is compared with in its row."""

Interval = tuple[float, float, float]
"""Mean, lower and upper end."""


@dataclass(frozen=True)
class Row:
    """A strategy at one budget. Means over its seeds with their intervals, None where a run has no value.

    ``evaluations_to_target``: the median over the runs, those that never reach it counted as infinitely long; None
    where that is half of them or more. ``p_vs_random``, ``effect``: of the final values on the test part, against
    `BASE`; None where it did not run, or for itself. ``rank``: mean rank of its final test values among the strategies
    with the same seed, 1 is the best. ``regret``: the optimum of the space less the final value on the search part;
    ``top``: the share of runs that end among the best 0.01 % of its programs; None where the space has no atlas.
    ``rejected``, ``duplicates``, ``seconds``: means of whole runs, None where these went on after the budget.
    """

    strategy: str
    seeds: int
    jcm_search: Interval | None
    jcm_test: Interval | None
    evaluations_to_target: float | None
    p_vs_random: float | None
    effect: float | None
    rank: float
    shape_only: float
    rejected: float | None
    duplicates: float | None
    seconds: float | None
    regret: Interval | None
    top: Interval | None


@dataclass(frozen=True)
class Pair:
    """Two strategies at one budget, ``a`` against ``b``: on the search part and on the test part the difference of the
    means with its interval, p, p after Holm, and A12 (above 0.5: ``a`` is better)."""

    a: str
    b: str
    difference_search: Interval
    p_search: float
    holm_search: float
    a12_search: float
    difference_test: Interval
    p_test: float
    holm_test: float
    a12_test: float


@dataclass(frozen=True)
class Comparison:
    """Everything at one budget. ``target``: the value on the search part that `evaluations_to_target` counts."""

    budget: int
    target: float | None
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "budget": self.budget,
            "target": self.target,
            "rows": [asdict(r) for r in self.rows],
            "pairs": [asdict(p) for p in self.pairs],
        }


def compare(runs: Sequence[Run], budget: int, whole: Whole | None = None) -> Comparison:
    """The comparison of all runs after ``budget`` evaluations. ``whole``: what is known of the whole space."""
    by_name = grouped(runs)
    search = {name: _finals(mine, budget, test=False) for name, mine in by_name.items()}
    test = {name: _finals(mine, budget, test=True) for name, mine in by_name.items()}
    target = _target(search)
    ranks = _ranks(by_name, budget)
    rows = []
    for name, mine in by_name.items():
        versus = _significance(test[name], test[BASE]) if BASE in by_name and name != BASE else None
        at = [run.at(budget) for run in mine]
        further = any(run.evaluations > budget for run in mine)
        reached = sorted(_reached(run, target, budget) for run in mine)
        median = float(np.median(reached))
        rows.append(
            Row(
                strategy=name,
                seeds=len(mine),
                jcm_search=interval(search[name]),
                jcm_test=interval(test[name]),
                evaluations_to_target=median if np.isfinite(median) else None,
                p_vs_random=None if versus is None else versus[0],
                effect=None if versus is None else versus[1],
                rank=ranks[name],
                shape_only=float(np.mean([s is not None and s.shape_only for s in at])),
                rejected=None if further else float(np.mean([run.rejected for run in mine])),
                duplicates=None if further else float(np.mean([run.duplicates for run in mine])),
                seconds=None if further else float(np.mean([run.seconds for run in mine])),
                regret=None if whole is None else interval(whole.optimum - search[name]),
                top=None if whole is None else interval(np.array([whole.at_top(v) for v in search[name]], np.float64)),
            )
        )
    return Comparison(budget, target, tuple(rows), tuple(_pairs(search, test)))


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by strategy."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.strategy, []).append(run)
    return found


def interval(values: Array) -> Interval | None:
    """The mean and its bootstrap interval; None where there is a run without a value."""
    if not len(values) or not np.isfinite(values).all():
        return None
    low, high = np.quantile(_resampled(len(values)) @ values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def curves(runs: Sequence[Run], places: Sequence[int], *, test: bool = False) -> tuple[Array, Array, Array]:
    """Mean best value after each number of evaluations, and its interval, over the runs; NaN where a run has none."""
    table = np.stack([[_value(run, n, test=test) for n in places] for run in runs])
    low, high = np.quantile(_resampled(len(runs)) @ table, (0.025, 0.975), axis=0)
    return table.mean(axis=0), np.asarray(low), np.asarray(high)


def ecdf(runs: Sequence[Run], values: Sequence[float], places: Sequence[int]) -> Array:
    """The share of (run, value) pairs where the run has reached the value after so many evaluations."""
    table = np.stack([[_value(run, n, test=False) for n in places] for run in runs])
    return np.asarray(np.mean([table >= v for v in values], axis=(0, 1)))


def ecdf_targets(runs: Sequence[Run], budget: int) -> list[float]:
    """The values that an ECDF counts."""
    finals = _finals(runs, budget, test=False)
    low, high = np.quantile(finals[np.isfinite(finals)], SPREAD)
    return [float(v) for v in np.linspace(low, high, TARGETS)]


def a12(a: Array, b: Array) -> float:
    """The chance that a value of ``a`` is larger than one of ``b``, ties by half."""
    return float(((a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()) / (len(a) * len(b)))


def _significance(a: Array, b: Array) -> tuple[float, float]:
    """p of Mann and Whitney, and A12. A run without a value is worse than every other."""
    from scipy.stats import mannwhitneyu

    x, y = (np.where(np.isnan(v), -np.inf, v) for v in (a, b))
    ranks = np.unique(np.concatenate((x, y)), return_inverse=True)[1]
    p = 1.0 if len(np.unique(ranks)) == 1 else float(mannwhitneyu(ranks[: len(x)], ranks[len(x) :]).pvalue)
    return p, a12(x, y)


def _pairs(search: Mapping[str, Array], test: Mapping[str, Array]) -> list[Pair]:
    names = list(combinations(search, 2))
    found = [{part: _significance(v[a], v[b]) for part, v in (("search", search), ("test", test))} for a, b in names]
    holm = {part: _holm([f[part][0] for f in found]) for part in ("search", "test")}
    return [
        Pair(
            a,
            b,
            _difference(search[a], search[b]),
            f["search"][0],
            holm["search"][i],
            f["search"][1],
            _difference(test[a], test[b]),
            f["test"][0],
            holm["test"][i],
            f["test"][1],
        )
        for i, ((a, b), f) in enumerate(zip(names, found, strict=True))
    ]


def _difference(a: Array, b: Array) -> Interval:
    """The difference of the means over the runs with a value, and its bootstrap interval."""
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not len(a) or not len(b):
        return 0.0, -2.0, 2.0
    low, high = np.quantile(_resampled(len(a)) @ a - _resampled(len(b), 1) @ b, (0.025, 0.975))
    return float(a.mean() - b.mean()), float(low), float(high)


def _holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    found, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        found[i] = largest
    return found


def _target(search: Mapping[str, Array]) -> float | None:
    """The mean final value of the base, else of all runs."""
    values = search.get(BASE, np.concatenate(list(search.values())))
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _reached(run: Run, target: float | None, budget: int) -> float:
    """Evaluations until the target, infinite where it is never reached."""
    if target is None:
        return np.inf
    found = (s.evaluations for s in run.best if s.search >= target and s.evaluations <= budget)
    return float(next(found, np.inf))


def _ranks(by_name: Mapping[str, Sequence[Run]], budget: int) -> dict[str, float]:
    """Mean rank of the final test value among the strategies that have the seed; ties by their mean rank."""
    table: dict[int, dict[str, float]] = {}
    for name, mine in by_name.items():
        for run in mine:
            value = _value(run, budget, test=True)
            table.setdefault(run.seed, {})[name] = -np.inf if np.isnan(value) else value
    ranks: dict[str, list[float]] = {name: [] for name in by_name}
    for values in table.values():
        for name, value in values.items():
            others = list(values.values())
            ranks[name].append(1 + sum(v > value for v in others) + (sum(v == value for v in others) - 1) / 2)
    return {name: float(np.mean(found)) for name, found in ranks.items()}


def _finals(runs: Sequence[Run], budget: int, *, test: bool) -> Array:
    return np.array([_value(run, budget, test=test) for run in runs])


def _value(run: Run, evaluations: int, *, test: bool) -> float:
    step = run.at(evaluations)
    value = None if step is None else step.test if test else step.search
    return np.nan if value is None else value


@lru_cache(maxsize=8)
def _resampled(n: int, seed: int = 0) -> Array:
    """The share that each of n values has in a resample, ``[resamples, n]``: times the values, the resampled means."""
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    drawn += np.arange(RESAMPLES)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n
