"""Does the search find better networks? Winners and random picks, trained by the recipe of the benchmark ``digits``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...stats_cache.recipe import canonical
from ..journal import journal
from ..truth.recipe import TARGETS, DigitsRecipe, train_network, train_teacher

Array = NDArray[np.float64]

TRAINED = "trained.jsonl"
DRAWS = 1000


@dataclass(frozen=True)
class Compared:
    """Mean accuracies on the test images of ``digits`` in percent, networks averaged over ``seeds`` trainings each.

    ``difference``: winners less random picks, ``difference_ci``: 95 % over 1,000 bootstrap draws of the networks of
    both groups. ``best``: of the first winner; ``percentile``: percent of the random picks that it beats.
    """

    target: str
    winners: int
    random: int
    seeds: int
    winners_mean: float
    random_mean: float
    difference: float
    difference_ci: tuple[float, float]
    best: float
    percentile: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"difference_ci": list(self.difference_ci)}


def compare(
    winners: Sequence[Mapping[str, Any]],
    picks: Sequence[Mapping[str, Any]],
    seeds: int,
    *,
    out: Path | None = None,
    recipe: DigitsRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Compared]:
    """Trains every network of the space ``micro`` with seeds 1 .. ``seeds`` on each target. ``out``: a folder with a
    journal, which is continued. Raises ProxforgeError without scikit-learn, which carries the images.
    """
    recipe = DigitsRecipe() if recipe is None else recipe
    path = None if out is None else Path(out) / TRAINED
    networks = [*winners, *picks]
    units = {(canonical(arch), seed): (arch, seed) for seed in range(1, seeds + 1) for arch in networks}
    with journal(path, asdict(recipe), _training, "a journal of trainings") as lines:
        known = dict(lines.rows)
        missing = [unit for unit in units.items() if unit[0] not in known]
        logits = train_teacher(recipe)[1] if missing else None
        for done, (key, (arch, seed)) in enumerate(missing, start=len(units) - len(missing) + 1):
            assert logits is not None
            known[key] = train_network(dict(arch), seed, recipe, logits)
            lines.append({"arch": key[0], "seed": seed, "accuracy": known[key]})
            if progress is not None:
                progress(done, len(units))

    def means(archs: Sequence[Mapping[str, Any]], target: str) -> Array:
        return np.array(
            [np.mean([known[canonical(arch), seed][target] for seed in range(1, seeds + 1)]) for arch in archs]
        )

    return [compared(target, means(winners, target), means(picks, target), seeds) for target in TARGETS]


def compared(target: str, winners: Array, picks: Array, seeds: int) -> Compared:
    """The two groups of accuracies ``[networks]`` against each other."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(group, (DRAWS, len(group))).mean(axis=1) for group in (winners, picks)]
    low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
    worse = (picks < winners[0]).mean() + 0.5 * (picks == winners[0]).mean()
    return Compared(
        target,
        len(winners),
        len(picks),
        seeds,
        float(winners.mean()),
        float(picks.mean()),
        float(winners.mean() - picks.mean()),
        (float(low), float(high)),
        float(winners[0]),
        100 * float(worse),
    )


def _training(row: Any) -> tuple[tuple[str, int], dict[str, float]]:
    return (row["arch"], int(row["seed"])), {t: float(row["accuracy"][t]) for t in TARGETS}
