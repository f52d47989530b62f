"""Ours: an elite of programs with different values, varied by crossover and small mutations.

Half of the random programs of a tree space equal another one functionally, so an elite soon holds one program many
times. Here it holds the best programs of which no two have the same value; the parent is the best of a few of them. A
child has two parents with probability ``crossover`` and is then, and else always, mutated in about one gene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spaces import Genotype
from .base import Config, Evaluated, Rng, State, Strategy, option, rank, register


@dataclass(frozen=True)
class DistinctEliteConfig(Config):
    """Chosen on ``digits``, 220 and 2,200 evaluations, seeds 0 to 59."""

    steps: int = option(200, "asks after the first population", 0)
    population: int = option(20, "programs in the first population, and in the elite", 1)
    children: int = option(1, "children of a step", 1)
    tournament: int = option(2, "programs of which the best becomes a parent", 1)
    crossover: float = option(0.3, "probability that a child has two parents", 0, 1)
    mutation: float = option(0.1, "probability that a node of the child is redrawn; one is in any case", 0, 1)
    both: float = option(0.8, "probability that a child of two parents is mutated too", 0, 1)


@dataclass(frozen=True, slots=True)
class DistinctEliteState(State):
    """``members``: the elite, the best first. ``steps``: asks after the first population."""

    members: tuple[Evaluated, ...] = ()
    steps: int = 0


@register
class DistinctElite(Strategy[DistinctEliteState]):
    """The first ask is a random population, every other one a batch of children."""

    name = "distinct_elite"
    paper = "this project"
    options = DistinctEliteConfig
    states = DistinctEliteState

    config: DistinctEliteConfig

    def init(self) -> DistinctEliteState:
        """An empty elite."""
        return DistinctEliteState()

    def ask(self, state: DistinctEliteState, rng: Rng) -> tuple[DistinctEliteState, tuple[Genotype, ...]]:
        """The first population, or children."""
        if not state.members:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        return state, tuple(self._child(state.members, rng(i)) for i in range(self.config.children))

    def tell(self, state: DistinctEliteState, evaluated: Sequence[Evaluated]) -> DistinctEliteState:
        """The best of elite and children with different values stay, of equals the older; as long as no program is
        valid, all do."""
        kept: dict[float, Evaluated] = {}
        for member in sorted((*state.members, *evaluated), key=rank, reverse=True):  # stable
            if member.value is not None:
                kept.setdefault(member.value, member)
        members = tuple(kept.values()) or (*state.members, *evaluated)
        return DistinctEliteState(members[: self.config.population], state.steps + bool(state.members))

    def progress(self, state: DistinctEliteState) -> tuple[int, int]:
        """Asks, of how many; the first population counts as one."""
        return state.steps + bool(state.members), self.config.steps + 1

    def _child(self, members: Sequence[Evaluated], draw: np.random.Generator) -> Genotype:
        first, second = (members[int(draw.integers(len(members), size=self.config.tournament).min())] for _ in range(2))
        child = first.genotype
        crossed = bool(draw.random() < self.config.crossover)
        if crossed:
            child = self.space.crossover(child, second.genotype, draw)
        if not crossed or draw.random() < self.config.both:
            child = self.space.mutate(child, draw, self.config.mutation)
        return child
