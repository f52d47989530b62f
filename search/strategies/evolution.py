"""Plain evolution, one child a step (Goldberg and Deb's steady state): the best of a tournament is mutated, the worst
of the population leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..spaces import Genotype
from .base import Config, Evaluated, Rng, State, Strategy, option, register, tournament, without_worst


@dataclass(frozen=True)
class EvolutionConfig(Config):
    """Population, steps and mutation as in elitism-preserve, so that the two differ in their rules alone."""

    steps: int = option(200, "children", 0)
    population: int = option(20, "programs in the population", 1)
    tournament: int = option(5, "programs of which the best becomes the parent", 1)
    mutation: float = option(0.5, "probability that a node of the parent is redrawn", 0, 1)


@dataclass(frozen=True, slots=True)
class EvolutionState(State):
    """``members``: the population, oldest first. ``steps``: children so far."""

    members: tuple[Evaluated, ...] = ()
    steps: int = 0


@register
class Evolution(Strategy[EvolutionState]):
    """The first ask is the whole population, every other one a single child, which can be the worst itself."""

    name = "evolution"
    paper = "Goldberg and Deb, FOGA (1991)"
    options = EvolutionConfig
    states = EvolutionState

    config: EvolutionConfig

    def init(self) -> EvolutionState:
        """An empty population."""
        return EvolutionState()

    def ask(self, state: EvolutionState, rng: Rng) -> tuple[EvolutionState, tuple[Genotype, ...]]:
        """The first population, or a mutation of the best of a tournament."""
        if not state.members:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        parent = tournament(state.members, self.config.tournament, rng(1))
        return state, (self.space.mutate(parent.genotype, rng(0), self.config.mutation),)

    def tell(self, state: EvolutionState, evaluated: Sequence[Evaluated]) -> EvolutionState:
        """The first population enters as it is; a child enters and the worst leaves."""
        if not state.members:
            return EvolutionState(tuple(evaluated))
        return EvolutionState(without_worst((*state.members, *evaluated)), state.steps + 1)

    def progress(self, state: EvolutionState) -> tuple[int, int]:
        """Children, of how many; the first population counts as one."""
        return state.steps + bool(state.members), self.config.steps + 1
