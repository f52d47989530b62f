"""Model-based search: a program's value is predicted from how it orders synthetic networks (`search.probes`).

Kendall's tau with a target is linear in the signs of all pairs of networks, so the values seen so far are explained by
a linear model of these signs on the probes: a Gaussian process whose kernel is the tau between two programs. In every
step, `rounds` times, candidates are drawn (new, crossed, crossed with a new one, mutated) from the best so far, then
from the most promising candidates; the most promising of all are asked for, of those that the probes cannot tell apart
one. Candidates cost no evaluation: no network, statistic or accuracy of the search is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from ..model import Model
from ..probes import orders, probes
from ..spaces import Genotype, SearchSpace
from .base import Asking, Config, Evaluated, Rng, State, Strategy, Wanted, alone, option, rank, register


@dataclass(frozen=True)
class ProbeModelConfig(Config):
    """Chosen on ``digits``, 220 evaluations, seeds 0 to 23."""

    steps: int = option(200, "asks after the first population", 0)
    population: int = option(20, "programs in the first population", 1)
    children: int = option(4, "programs asked for in a step, at least", 1)
    share: float = option(0.05, "programs asked for in a step, as a share of those seen, if that is more", 0, 1)
    candidates: int = option(64, "programs that are predicted in a round", 1)
    rounds: int = option(2, "rounds of a step", 1)
    top_k: int = option(10, "how many of the best are varied", 1)
    prior: float = option(1.0, "standard deviation of the values of programs that are not alike", 1e-3)
    noise: float = option(0.14, "standard deviation of what the probes do not explain", 1e-3)
    kappa: float = option(0.5, "standard deviations that are added to a prediction", 0)
    mutation: float = option(0.1, "probability that a node is redrawn", 0, 1)


@dataclass(frozen=True, slots=True)
class ProbeModelState(State):
    """``seen``: every program that was asked for, in order. ``steps``: asks after the first population."""

    seen: tuple[Evaluated, ...] = ()
    steps: int = 0


@register
class ProbeModel(Strategy[ProbeModelState]):
    """The first ask is a random population, every other one a batch."""

    name = "probe_model"
    paper = "this project; Gaussian processes: Rasmussen and Williams (2006), Sec. 2.1"
    options = ProbeModelConfig
    states = ProbeModelState

    config: ProbeModelConfig

    def __init__(self, space: SearchSpace, config: ProbeModelConfig) -> None:
        super().__init__(space, config)
        self._learnt: tuple[tuple[Evaluated, ...], Model] = (), Model(config)

    def init(self) -> ProbeModelState:
        """Nothing seen."""
        return ProbeModelState()

    def ask(self, state: ProbeModelState, rng: Rng) -> tuple[ProbeModelState, tuple[Genotype, ...]]:
        """The first population, or the most promising candidates."""
        return alone(self.asking(state, rng))

    def asking(self, state: ProbeModelState, rng: Rng) -> Asking[ProbeModelState]:
        """See `ask`; wants to know how programs order the probes."""
        if not state.seen:
            return state, tuple(self.space.sample(rng(i)) for i in range(self.config.population))
        space, signs = self.space.unchecked, probes(tuple(self.space.inputs)).signs
        seen, model = self._learnt
        if state.seen[: len(seen)] != seen:
            seen, model = (), Model(self.config)
        learnt = [m for m in state.seen[len(seen) :] if m.value is not None]
        values = np.array([m.value for m in learnt], np.float64)
        model = model.learnt(orders((yield Wanted(signs, space, [m.genotype for m in learnt]))), values)
        self._learnt, draw = (state.seen, model), rng(0)
        known = {m.genotype for m in state.seen}
        parents = [m.genotype for m in _distinct(state.seen)[: self.config.top_k]]
        found: dict[Genotype, float] = {}
        for _ in range(self.config.rounds):
            new = dict.fromkeys(self._varied(parents, draw) for _ in range(self.config.candidates))
            fresh = [g for g in new if g not in known and g not in found]
            promises = model.promise(orders((yield Wanted(signs, space, fresh))))
            found.update(zip(fresh, promises, strict=True))
            parents = _best_first(found)[: self.config.top_k] or parents
        chosen = self._chosen(found, max(self.config.children, int(self.config.share * len(state.seen))))
        return state, chosen or (self.space.sample(draw),)

    def tell(self, state: ProbeModelState, evaluated: Sequence[Evaluated]) -> ProbeModelState:
        """All is kept."""
        return ProbeModelState((*state.seen, *evaluated), state.steps + bool(state.seen))

    def progress(self, state: ProbeModelState) -> tuple[int, int]:
        """Asks, of how many; the first population counts as one."""
        return state.steps + bool(state.seen), self.config.steps + 1

    def _varied(self, parents: Sequence[Genotype], draw: np.random.Generator) -> Genotype:
        """A candidate: new, of two parents, of a parent and a new one, or a mutation, each as often."""
        space, count = self.space.unchecked, len(parents)
        first, second = parents[int(draw.integers(count))], parents[int(draw.integers(count))]
        kind = int(draw.integers(4))
        if kind == 0:
            return space.sample(draw)
        if kind == 1:
            return space.mutate(first, draw, self.config.mutation)
        return space.crossover(first, second if kind == 2 else space.sample(draw), draw)

    def _chosen(self, found: dict[Genotype, float], count: int) -> tuple[Genotype, ...]:
        """The most promising that compile, with different promises."""
        chosen: dict[float, Genotype] = {}
        for genotype in _best_first(found):
            if len(chosen) == count:
                break
            if found[genotype] not in chosen and self.space.accepts(genotype):
                chosen[found[genotype]] = genotype
        return tuple(chosen.values())


def _best_first(found: dict[Genotype, float]) -> list[Genotype]:
    """The largest promise first, of equals the older."""
    return [genotype for genotype, _ in sorted(found.items(), key=itemgetter(1), reverse=True)]  # stable


def _distinct(members: Sequence[Evaluated]) -> list[Evaluated]:
    """Valid members with different values, the best first; any where none is valid."""
    found: dict[float, Evaluated] = {}
    for member in sorted(members, key=rank, reverse=True):
        if member.value is not None:
            found.setdefault(member.value, member)
    return [*found.values()] or list(members)
