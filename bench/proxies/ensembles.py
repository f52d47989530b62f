"""Ensembles: proxies whose ranks are added, plainly or by their logarithms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError
from ...grammar.types import CONVOLUTION_SITES

Array = NDArray[np.float64]

RULES = ("log", "linear")
"""``log``: Σ ln(rank/m), m networks (AZ-NAS); ``linear``: the mean of rank/m."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """``members``: names or formulas of proxies; ``transformer``: those for transformers where they differ."""

    name: str
    rule: str
    members: tuple[str, ...]
    paper: str = ""
    transformer: tuple[str, ...] | None = None

    def of(self, sites: Collection[str]) -> tuple[str, ...]:
        """The members for networks with these sites."""
        convolutional = set(sites) == set(CONVOLUTION_SITES)
        return self.members if convolutional or self.transformer is None else self.transformer


ENSEMBLES: Mapping[str, Ensemble] = {
    e.name: e
    for e in (
        Ensemble(
            "AZ-NAS",
            "log",
            ("Expressivity", "Progressivity", "Trainability", "flops"),
            "Lee and Ham (CVPR 2024); without progressivity for Vision Transformers",
            ("Expressivity", "Trainability", "flops"),
        ),
        Ensemble("TE-NAS", "linear", ("NTK", "LinearRegions"), "Chen et al. (ICLR 2021): a sum of ranks"),
    )
}
"""The published ones, by name."""


def parse_ensemble(text: str) -> Ensemble:
    """The ensemble of that name, or ``[log:|linear:] member, member, ..``; members are names or formulas.

    Commas inside parentheses belong to a formula. Raises ProxforgeError ``usage`` for fewer than two members.
    """
    text = text.strip()
    if text in ENSEMBLES:
        return ENSEMBLES[text]
    head, colon, rest = text.partition(":")
    rule = head.strip() if colon else "log"
    if rule not in RULES:
        raise ProxforgeError("usage", f"no rank aggregation is called {rule[:40]!r}; expected {' or '.join(RULES)}")
    members = members_of(rest if colon else text)
    if len(set(members)) < 2 or not all(members):
        known = ", ".join(ENSEMBLES)
        raise ProxforgeError(
            "usage", f"the ensemble {text[:80]!r} needs two different proxies with a comma between them, or is {known}"
        )
    return Ensemble(text, rule, tuple(members))


def members_of(text: str) -> list[str]:
    """The names or formulas between the commas; commas inside parentheses belong to a formula."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def ranks(scores: Array) -> Array:
    """Ranks from 1 (lowest), ties by their mean, along the last axis; -inf is a value like another."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(scores, axis=-1), np.float64)


def aggregate(scores: Array, rule: str) -> Array:
    """One score per network from the members' scores ``[members, networks]``: the higher the better.

    A member's NaN is a failure and makes the network's score NaN; -inf is its lowest rank.
    """
    share = ranks(np.where(np.isnan(scores), -np.inf, scores)) / scores.shape[-1]
    combined = np.log(share).sum(axis=0) if rule == "log" else share.mean(axis=0)
    return np.asarray(np.where(np.isnan(scores).any(axis=0), np.nan, combined), np.float64)
