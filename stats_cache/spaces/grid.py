"""Spaces as grids of genes: counting, enumerating, sampling and mutating without knowing what a gene means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Arch, Space, SpaceError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Gene:
    """One gene: a value, or a list with one value for each ``per`` (a word for people).

    ``values``: what it is drawn from; a tuple among them stands for a list. ``length``: of a list: a number, or the
    name of the gene that holds it (the sum, where that gene is a list).
    """

    values: tuple[Any, ...]
    per: str | None = None
    length: str | int | None = None


class Grid:
    """Genes that are chosen freely, but for lists whose length another gene says."""

    def __init__(self, genes: Mapping[str, Gene]) -> None:
        self.genes = dict(genes)
        self._rules = [g for g in genes if any(other.length == g for other in genes.values())]
        self._order = [*self._rules, *(g for g in genes if g not in self._rules)]

    def describe(self) -> dict[str, Any]:
        """The genes as JSON values."""
        return {
            name: {"values": [_plain(v) for v in gene.values]} | ({"per": gene.per} if gene.per else {})
            for name, gene in self.genes.items()
        }

    def count(self) -> int:
        """Number of architectures."""
        total = 0
        for known in self._lengths():
            product = 1
            for name, gene in self.genes.items():
                product *= 1 if name in known else len(gene.values) ** self._times(gene, known)
            total += product
        return total

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Every architecture once."""
        for known in self._lengths():
            times = {name: self._times(gene, known) for name, gene in self.genes.items()}
            values = [(known[n],) if n in known else self.genes[n].values for n in self.genes for _ in range(times[n])]
            for chosen in itertools.product(*values):
                left = iter(chosen)
                parts = {name: tuple(itertools.islice(left, times[name])) for name in self.genes}
                yield {n: _plain(part if self.genes[n].length is not None else part[0]) for n, part in parts.items()}

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Every gene uniform; those that say lengths are drawn first."""
        found: dict[str, Any] = {}
        for name in self._order:
            found[name] = self._draw(self.genes[name], found, rng)
        return {name: found[name] for name in self.genes}

    def mutate(self, arch: Arch, rng: np.random.Generator) -> dict[str, Any]:
        """One place changed to another of its values, every place with the same probability."""
        places = [
            (name, i)
            for name, gene in self.genes.items()
            if len(gene.values) > 1
            for i in (range(len(arch[name])) if gene.length is not None else (None,))
        ]
        name, place = places[int(rng.integers(len(places)))]
        gene, mutant = self.genes[name], {g: _plain(arch[g]) for g in self.genes}
        old = mutant[name] if place is None else mutant[name][place]
        others = [_plain(value) for value in gene.values if _plain(value) != old]
        new = others[int(rng.integers(len(others)))]
        if place is None:
            mutant[name] = new
        else:
            mutant[name][place] = new
        for follower, other in self.genes.items():
            if other.length == name:
                kept = mutant[follower][: self._times(other, mutant)]
                drawn = self._draw(other, mutant, rng)
                mutant[follower] = kept + drawn[len(kept) :]
        return mutant

    def _lengths(self) -> Iterator[dict[str, Any]]:
        for chosen in itertools.product(*(self.genes[rule].values for rule in self._rules)):
            yield dict(zip(self._rules, chosen, strict=True))

    def _times(self, gene: Gene, known: Mapping[str, Any]) -> int:
        if gene.length is None:
            return 1
        length = known[gene.length] if isinstance(gene.length, str) else gene.length
        return sum(length) if isinstance(length, tuple | list) else int(length)

    def _draw(self, gene: Gene, known: Mapping[str, Any], rng: np.random.Generator) -> Any:
        if gene.length is None:
            return _plain(gene.values[int(rng.integers(len(gene.values)))])
        chosen = rng.integers(len(gene.values), size=self._times(gene, known))
        return [_plain(gene.values[int(i)]) for i in chosen]


class GridSpace(Space):
    """A space whose published values are a grid."""

    grid: ClassVar[Grid]

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A random architecture of the published space, every gene uniform."""
        return self.grid.sample(rng)

    def genes(self) -> dict[str, Any]:
        """The published values, see `Space.genes`."""
        return self.grid.describe()

    def count(self) -> int:
        """Number of architectures of the published space."""
        return self.grid.count()

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Every architecture of the published space once, the last gene changing fastest."""
        return self.grid.enumerate()

    def mutate(self, arch: Arch, rng: np.random.Generator) -> dict[str, Any]:
        """The architecture with one gene changed to another published value, see `Space.mutate`."""
        arch = self.check(arch)
        for _ in range(_TRIES):  # a published value may not go with a gene that has none
            try:
                return self.check(self.grid.mutate(arch, rng))
            except SpaceError as error:
                refused = error
        raise refused


_TRIES = 100


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
