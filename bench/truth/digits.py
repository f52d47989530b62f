"""The ground truth of the embedded benchmark ``digits``: micro Vision Transformers and what they reached when trained.

The file ``digits.json`` was made by ``proxforge bench train digits`` (`train_digits`). Reading it loads no torch.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from ...grammar.errors import ProxforgeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "digits.json"


@dataclass(frozen=True)
class DigitsTruth:
    """The ground truth of A networks, each trained with S seeds per target (``full``, ``low``, ``kd``).

    ``archs``: the A architectures of the space ``micro``. ``targets``: target -> mean accuracy on the test part over
    the seeds, in percent, float64 ``[A]``. ``per_seed``: target -> the single accuracies, float64 ``[A, S]``.
    ``noise_ceiling``: target -> Kendall tau-b between means of disjoint seeds (see the function `noise_ceiling`), None
    where it has no value. ``about``: the rest of the file (recipe, seeds, split, teacher, versions, command).
    """

    archs: tuple[dict[str, Any], ...]
    targets: Mapping[str, NDArray[np.float64]]
    per_seed: Mapping[str, NDArray[np.float64]]
    noise_ceiling: Mapping[str, float | None]
    about: Mapping[str, Any]


def load_digits_truth() -> DigitsTruth:
    """The ground truth that ships in the package. Raises ProxforgeError when its file is missing or damaged."""
    file = resources.files(__package__).joinpath(FILE)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProxforgeError("data", f"{FILE} is missing from the package ({error}): install proxforge anew") from error
    return parse_digits_truth(text)


def parse_digits_truth(text: str) -> DigitsTruth:
    """The ground truth from the text of a file that `train_digits` wrote. Raises ProxforgeError when it is not one."""
    try:
        about = json.loads(text)
        networks = about.pop("networks")
        ceiling = about.pop("noise_ceiling")
        archs = tuple(network["arch"] for network in networks)
        per_seed = {target: np.array([network[target] for network in networks], dtype=np.float64) for target in ceiling}
        shape = (len(archs), len(about["seeds"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProxforgeError("data", f"this is not the ground truth of 'digits' ({error!r}): make it again") from error
    for target, values in per_seed.items():
        if values.shape != shape or not np.isfinite(values).all():
            raise ProxforgeError(
                "data", f"the ground truth of 'digits' has accuracies {values.shape} of {target!r}, not finite {shape}"
            )
    targets = {target: values.mean(axis=1) for target, values in per_seed.items()}
    return DigitsTruth(archs, targets, per_seed, ceiling, about)


def noise_ceiling(per_seed: NDArray[np.float64]) -> float | None:
    """How well one half of the seeds ranks the networks as the other half does: a proxy can hardly do better.

    ``per_seed``: accuracies ``[A, S]``. Kendall tau-b over the A networks between the means of two disjoint sets of
    S // 2 seeds, averaged over all ways to choose the two. None when it has no value (fewer than 2 seeds or networks,
    or all are tied).
    """
    from scipy.stats import kendalltau

    networks, seeds = per_seed.shape
    half = seeds // 2
    if networks < 2 or half < 1:
        return None
    taus = []
    for one in itertools.combinations(range(seeds), half):
        rest = [seed for seed in range(seeds) if seed not in one]
        for other in itertools.combinations(rest, half):
            if one < other:  # each pair of halves once
                tau = kendalltau(per_seed[:, one].mean(axis=1), per_seed[:, other].mean(axis=1)).statistic
                taus.append(float(tau))
    mean = float(np.mean(taus))
    return None if np.isnan(mean) else mean
