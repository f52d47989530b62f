"""Regularised evolution with the settings of AutoML-Zero (Real et al., ICML 2020): the oldest leaves, not the worst.

A step: the best of a tournament is the parent; with probability ``mutate`` its child is a mutation, else a copy, which
costs nothing here. The child is appended, the oldest leaves. Mutations are those of the space: on ``memory`` the
paper's kinds (insert or remove an instruction, redraw the program, redraw one argument). Programs that give the same
values on a few probes are one: the paper's cache of functional equivalence, which here never forgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..spaces import Genotype
from .base import Config, Evaluated, Rng, State, Strategy, option, register, tournament


@dataclass(frozen=True)
class AutoMLZeroConfig(Config):
    """Published: population, tournament, mutate, one argument a mutation. The paper stops by evaluations."""

    steps: int = option(200, "children", 0)
    population: int = option(100, "programs in the population", 1)
    tournament: int = option(10, "programs of which the best becomes the parent", 1)
    mutate: float = option(0.9, "probability that a child is mutated, and no copy", 0, 1)
    mutation: float = option(0.0, "probability that a gene is redrawn where one is; one is in any case", 0, 1)
    equivalence: int = option(1, "1: programs that are equal on a few probes are scored once; 0: only equal ones", 0, 1)


@dataclass(frozen=True, slots=True)
class AutoMLZeroState(State):
    """``members``: the population, oldest first. ``steps``: children so far."""

    members: tuple[Evaluated, ...] = ()
    steps: int = 0


@register
class AutoMLZero(Strategy[AutoMLZeroState]):
    """The first ask is the whole population, every other one a single child."""

    name = "automl_zero"
    paper = "AutoML-Zero (ICML 2020), Sec. 3; Real et al., AAAI 2019"
    options = AutoMLZeroConfig
    states = AutoMLZeroState

    config: AutoMLZeroConfig

    @property
    def functional(self) -> bool:
        """See `Strategy.functional`."""
        return self.config.equivalence == 1

    def init(self) -> AutoMLZeroState:
        """An empty population."""
        return AutoMLZeroState()

    def ask(self, state: AutoMLZeroState, rng: Rng) -> tuple[AutoMLZeroState, tuple[Genotype, ...]]:
        """The first population, or a child of the best of a tournament."""
        if not state.members:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        draw = rng(1)
        parent = tournament(state.members, self.config.tournament, draw).genotype
        if draw.random() >= self.config.mutate:
            return state, (parent,)
        return state, (self.space.mutate(parent, rng(0), self.config.mutation),)

    def tell(self, state: AutoMLZeroState, evaluated: Sequence[Evaluated]) -> AutoMLZeroState:
        """The first population enters as it is; a child enters and the oldest leaves."""
        if not state.members:
            return AutoMLZeroState(tuple(evaluated))
        return AutoMLZeroState((*state.members[1:], *evaluated), state.steps + 1)

    def progress(self, state: AutoMLZeroState) -> tuple[int, int]:
        """Children, of how many; the first population counts as one."""
        return state.steps + bool(state.members), self.config.steps + 1
