"""The adaptive elite search of Auto-DAS (Alg. 1), with what paper and code leave open settled.

One step: draw a share of the population, take its k best, choose two of them at random; with probability ``crossover``
the child is made of both, else it is the first; then it is mutated. A random newcomer is drawn beside it. The better of
the two, among equals the newcomer, is appended, and the worst of the population leaves, which can be the new one: the
published code removes the worst first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..spaces import Genotype
from .base import Config, Evaluated, Rng, State, Strategy, option, rank, register, top_of_share, without_worst


@dataclass(frozen=True)
class AdaptiveEliteConfig(Config):
    """Published: steps, population, sample_ratio, top_k, crossover. Mutation per node: as in Auto-Prox."""

    steps: int = option(100, "children that compete with a newcomer", 0)
    population: int = option(20, "programs in the population", 1)
    sample_ratio: float = option(0.9, "share of the population from which the parents come", 0, 1)
    top_k: int = option(5, "how many of the best of that share can be parents", 1)
    crossover: float = option(0.5, "probability that a child has two parents", 0, 1)
    mutation: float = option(0.5, "probability that a node of the child is redrawn", 0, 1)


@dataclass(frozen=True, slots=True)
class AdaptiveEliteState(State):
    """``members``: the population, oldest first. ``steps``: children so far."""

    members: tuple[Evaluated, ...] = ()
    steps: int = 0


@register
class AdaptiveElite(Strategy[AdaptiveEliteState]):
    """The first ask is the whole population, every other one a child and a newcomer."""

    name = "adaptive_elite"
    paper = "Auto-DAS (ECCV 2024), Alg. 1"
    options = AdaptiveEliteConfig
    states = AdaptiveEliteState

    config: AdaptiveEliteConfig

    def init(self) -> AdaptiveEliteState:
        """An empty population."""
        return AdaptiveEliteState()

    def ask(self, state: AdaptiveEliteState, rng: Rng) -> tuple[AdaptiveEliteState, tuple[Genotype, ...]]:
        """The first population, or a child and a newcomer."""
        if not state.members:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        draw = rng(2)
        top = top_of_share(state.members, self.config.sample_ratio, self.config.top_k, draw)
        first, second = (top[int(i)].genotype for i in draw.integers(len(top), size=2))
        if draw.random() < self.config.crossover:
            first = self.space.crossover(first, second, draw)
        return state, (self.space.mutate(first, rng(0), self.config.mutation), self.space.sample(rng(1)))

    def tell(self, state: AdaptiveEliteState, evaluated: Sequence[Evaluated]) -> AdaptiveEliteState:
        """The first population enters as it is; the better of child and newcomer enters and the worst leaves."""
        if not state.members:
            return AdaptiveEliteState(tuple(evaluated))
        child, newcomer = evaluated
        entering = child if rank(child) > rank(newcomer) else newcomer
        return AdaptiveEliteState(without_worst((*state.members, entering)), state.steps + 1)

    def progress(self, state: AdaptiveEliteState) -> tuple[int, int]:
        """Steps, of how many; the first population counts as one."""
        return state.steps + bool(state.members), self.config.steps + 1
