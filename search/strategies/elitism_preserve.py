"""The elitism-preserve strategy of Auto-Prox (AAAI 2024, Alg. 1), with what the paper leaves open settled.

One step: draw a share of the population, take its k best, choose one of them at random and mutate it. A child that is
invalid or below its parent + margin is replaced by another mutation of the same parent; after ``tries`` mutations the
best of them is taken (none, where all are invalid). It is appended, and the worst of the population leaves, which can
be the child itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..spaces import Genotype
from .base import (
    Config,
    Evaluated,
    Rng,
    State,
    Strategy,
    best_of,
    option,
    rank,
    register,
    top_of_share,
    without_worst,
)


@dataclass(frozen=True)
class ElitismPreserveConfig(Config):
    """Published: steps, population, mutation, margin. Not published: sample_ratio and top_k (as in Auto-DAS), tries."""

    steps: int = option(200, "children that enter the population", 0)
    population: int = option(20, "programs in the population", 1)
    sample_ratio: float = option(0.9, "share of the population from which the parent comes", 0, 1)
    top_k: int = option(5, "how many of the best of that share can be the parent", 1)
    mutation: float = option(0.5, "probability that a node of the parent is redrawn", 0, 1)
    margin: float = option(0.1, "by how much a child must beat its parent to be taken at once", -2, 2)
    tries: int = option(20, "mutations of one parent at most; then the best of them is taken", 1)


@dataclass(frozen=True, slots=True)
class ElitismPreserveState(State):
    """``members``: the population, oldest first. ``steps``: children that have entered, or were given up.

    ``parent``: whose mutations are being tried; ``tries``: how many were; ``child``: the best of them, if one is valid.
    """

    members: tuple[Evaluated, ...] = ()
    steps: int = 0
    parent: Evaluated | None = None
    tries: int = 0
    child: Evaluated | None = None


@register
class ElitismPreserve(Strategy[ElitismPreserveState]):
    """The first ask is the whole population, every other one a single mutation."""

    name = "elitism_preserve"
    paper = "Auto-Prox (AAAI 2024), Alg. 1"
    options = ElitismPreserveConfig
    states = ElitismPreserveState

    config: ElitismPreserveConfig

    def init(self) -> ElitismPreserveState:
        """An empty population."""
        return ElitismPreserveState()

    def ask(self, state: ElitismPreserveState, rng: Rng) -> tuple[ElitismPreserveState, tuple[Genotype, ...]]:
        """The first population, or a mutation of the parent."""
        if not state.members:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        parent = state.parent or self._parent(state.members, rng)
        return replace(state, parent=parent), (self.space.mutate(parent.genotype, rng(0), self.config.mutation),)

    def tell(self, state: ElitismPreserveState, evaluated: Sequence[Evaluated]) -> ElitismPreserveState:
        """The first population enters as it is; a child enters when it is good enough or the tries are used up."""
        if state.parent is None:
            return replace(state, members=tuple(evaluated))
        (child,) = evaluated
        best = best_of((*((state.child,) if state.child else ()), child))
        tries = state.tries + 1
        passed = child.value is not None and child.value >= rank(state.parent) + self.config.margin
        if not passed and tries < self.config.tries:
            return replace(state, tries=tries, child=best)
        entering = child if passed else best
        return ElitismPreserveState(_entered(state.members, entering), state.steps + 1)

    def progress(self, state: ElitismPreserveState) -> tuple[int, int]:
        """Children that have entered, of how many; the first population counts as one."""
        return state.steps + bool(state.members), self.config.steps + 1

    def _parent(self, members: tuple[Evaluated, ...], rng: Rng) -> Evaluated:
        draw = rng(1)
        top = top_of_share(members, self.config.sample_ratio, self.config.top_k, draw)
        return top[int(draw.integers(len(top)))]


def _entered(members: tuple[Evaluated, ...], child: Evaluated | None) -> tuple[Evaluated, ...]:
    """With the child appended and the worst, among equals the oldest, dropped; the members alone without a child."""
    return members if child is None else without_worst((*members, child))
