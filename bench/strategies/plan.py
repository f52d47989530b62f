"""What a comparison of strategies is, and what is kept of each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.errors import ProxforgeError
from ...search.problem import Problem
from ...search.spaces import SearchSpace, make_space
from ...search.strategies import make_strategy
from ...search.strategies.base import Strategy
from ...stats_cache import open_cache
from ..atlas.lookup import problem_of
from ..atlas.store import Atlas

ENDLESS = 10**9
"""Steps of every strategy: the budget alone ends a run."""


@dataclass(frozen=True)
class Plan:
    """What all runs have in common, as plain JSON values.

    ``cache``: the directory of the statistics. ``targets``: name -> one value per network, None = not measured.
    ``split``: indices of the search part and of the test part. ``space``: name and options. ``strategies``: name ->
    options that are not at their defaults. ``budgets``: evaluations, ascending; runs have the largest, and are read at
    every one. ``atlas``: the folder of an atlas of the space (`bench.atlas`), where scores are looked up; None: they
    are computed.
    """

    benchmark: str
    cache: str
    targets: Mapping[str, Sequence[float | None]]
    split: tuple[Sequence[int], Sequence[int]]
    split_seed: int
    space: tuple[str, Mapping[str, Any]]
    strategies: Mapping[str, Mapping[str, Any]]
    budgets: Sequence[int]
    backend: str = "auto"
    atlas: str | None = None

    def __post_init__(self) -> None:
        if not self.budgets or list(self.budgets) != sorted(set(self.budgets)) or self.budgets[0] < 1:
            raise _config(f"the budgets are {list(self.budgets)}; expected numbers of evaluations, ascending")
        if not self.strategies:
            raise _config("no strategy was named; name at least one")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Plan:
        """The inverse of `to_dict`."""
        split, space = value["split"], value["space"]
        return Plan(**{**value, "split": (split[0], split[1]), "space": (space[0], space[1])})

    def settings(self) -> dict[str, Any]:
        """What runs that are compared must share: all but the strategies, and where the cache lies."""
        found = {k: v for k, v in self.to_dict().items() if k not in ("strategies", "cache", "atlas")}
        return {**json.loads(json.dumps(found)), "looked up": self.atlas is not None}

    def problem(self) -> Problem:
        """The JCM over the targets on the statistics."""
        targets = {n: np.array([np.nan if v is None else v for v in y]) for n, y in self.targets.items()}
        problem = Problem.of(open_cache(self.cache), targets, self.split, backend=self.backend)
        return problem if self.atlas is None else self._looked_up(problem, Atlas(Path(self.atlas)))

    def _looked_up(self, problem: Problem, atlas: Atlas) -> Problem:
        """The problem with the scores of the atlas, and what the compiler knows of the statistics as before."""
        looked = problem_of(atlas, problem.targets)
        if [list(looked.search), list(looked.test)] != [list(part) for part in self.split]:
            raise _config(f"the atlas in {self.atlas} has another split into search and test part")
        if sorted(atlas.targets) != sorted(self.targets):
            raise _config(f"the atlas in {self.atlas} is of the targets {', '.join(atlas.targets)}")
        if atlas.space.describe() != self.made_space().describe():
            raise _config(f"the atlas in {self.atlas} is of another space")
        return replace(looked, known=problem.known)

    def made_space(self) -> SearchSpace:
        """The search space."""
        return make_space(*self.space)

    def strategy(self, name: str, space: SearchSpace) -> Strategy[Any]:
        """A strategy without an end of its own."""
        return make_strategy(name, space, {**self.strategies[name], "steps": ENDLESS})


@dataclass(frozen=True)
class Step:
    """A better best: after so many evaluations, its value on the search part and on the test part (None: it has no
    value there)."""

    evaluations: int
    search: float
    test: float | None
    formula: str
    complexity: int
    shape_only: bool


@dataclass(frozen=True)
class Run:
    """One run of one strategy. ``seconds``: its own, and its share of what was evaluated together. ``best``: every
    better best, in order."""

    strategy: str
    seed: int
    evaluations: int
    rejected: int
    duplicates: int
    invalid: int
    seconds: float
    best: tuple[Step, ...]

    def at(self, evaluations: int) -> Step | None:
        """The best after so many evaluations."""
        return next((s for s in reversed(self.best) if s.evaluations <= evaluations), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Run:
        """The inverse of `to_dict`. TypeError or KeyError for anything else."""
        return Run(**{**value, "best": tuple(Step(**s) for s in value["best"])})


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
