"""Random search: every step draws a population from the space. The line that every other strategy must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..spaces import Genotype
from .base import Config, Evaluated, Rng, State, Strategy, option, register


@dataclass(frozen=True)
class RandomConfig(Config):
    """``steps`` times ``population`` programs are drawn."""

    steps: int = option(200, "populations that are drawn", 1)
    population: int = option(20, "programs in one population", 1)


@dataclass(frozen=True, slots=True)
class RandomState(State):
    """``steps``: populations drawn so far."""

    steps: int = 0


@register
class RandomSearch(Strategy[RandomState]):
    """Programs as the space draws them."""

    name = "random"
    paper = "Bergstra and Bengio, JMLR 13 (2012)"
    options = RandomConfig
    states = RandomState

    config: RandomConfig

    def init(self) -> RandomState:
        """Nothing drawn."""
        return RandomState()

    def ask(self, state: RandomState, rng: Rng) -> tuple[RandomState, tuple[Genotype, ...]]:
        """A population."""
        return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))

    def tell(self, state: RandomState, evaluated: Sequence[Evaluated]) -> RandomState:
        """Nothing is learnt."""
        return RandomState(state.steps + 1)

    def progress(self, state: RandomState) -> tuple[int, int]:
        """Populations drawn, of how many."""
        return state.steps, self.config.steps
