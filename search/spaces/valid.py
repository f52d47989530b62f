"""The programs of a space that compile: what a search is given. The only place where a space meets the compiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ...grammar.analysis import Analyser
from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from .base import DRAWS, Genotype, SearchSpace, config

Check = Callable[[Sequence[Node]], Sequence[ProxyError | None]]
"""For each Score why it can have no score, or None."""
Compiled = tuple[Node | None, ProxyError | None]
"""The program, where it type-checks, and why it is rejected, where it is."""

TRIES = 10_000
"""Programs in a row that may be rejected before a space is given up."""


def refusals(roots: Sequence[Node]) -> list[ProxyError | None]:
    """Why each Score is rejected, as far as that is known without data; None where it compiles."""
    return _without_data().check(roots)


@cache
def _without_data() -> Analyser:
    return Analyser()


def compiles(root: Node) -> bool:
    """Whether the Score is accepted without data."""
    return refusals([root])[0] is None


class ValidSpace(SearchSpace):
    """The programs of a space that pass ``check``.

    What does not pass is drawn again, so the distribution is that of the space, given that the program compiles:
    uniform where the space is. ``pool``: where the programs are made; what is asked for twice is made once.
    ``seconds``: spent in making and checking programs.
    """

    def __init__(self, space: SearchSpace, pool: Pool, check: Check = refusals) -> None:
        self.space = space
        self.name, self.inputs = space.name, space.inputs
        self._pool = pool
        self._check = check
        self._known: dict[Genotype, Compiled] = {}
        self._made: dict[Genotype, Node] = {}
        self._refused: list[Compiled] = []
        self.seconds = 0.0

    def compiled(self, genotype: Genotype) -> Compiled:
        """The program, and why it is rejected, if it is."""
        if genotype not in self._known:
            self._compile([genotype])
        return self._known[genotype]

    def refused(self) -> list[Compiled]:
        """What was drawn and rejected since the last call, in order; what was compiled until then is forgotten."""
        found = self._refused
        self.again()
        self._made = {}
        return found

    def again(self) -> None:
        """Begins to draw again, perhaps with other answers of ``check``: only the programs that were made are kept."""
        self._refused, self._known = [], {}

    def settle(self) -> None:
        """Asks ``check`` again why programs are rejected."""

        def again(found: Compiled) -> Compiled:
            node, error = found
            return found if node is None or error is None else (node, self._check([node])[0])

        self._refused = [again(found) for found in self._refused]
        self._known = {genotype: again(found) for genotype, found in self._known.items()}

    def move(self, pool: Pool) -> None:
        """Makes programs in another pool from now on; what was compiled is forgotten."""
        self._pool, self._known, self._made = pool, {}, {}

    def size(self) -> int:
        """See `SearchSpace.size`."""
        return self.space.size()

    def typed_size(self) -> int:
        """See `SearchSpace.typed_size`."""
        return self.space.typed_size()

    def unrank(self, index: int) -> Genotype:
        """See `SearchSpace.unrank`: of all that type-check."""
        return self.space.unrank(index)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A genotype that compiles. ProxforgeError ``config`` where 10,000 in a row do not."""
        return self.samples(rng, 1)[0]

    @property
    def unchecked(self) -> SearchSpace:
        """See `SearchSpace.unchecked`."""
        return self.space

    def accepts(self, genotype: Genotype) -> bool:
        """Whether it compiles; one that does not counts as drawn and rejected."""
        return bool(self._passed([genotype]))

    def samples(self, rng: np.random.Generator, count: int) -> list[Genotype]:
        """So many independent genotypes that compile, checked together. See `sample`."""
        found: list[Genotype] = []
        left = TRIES
        while len(found) < count:
            drawn = [self.space.sample(rng) for _ in range(count - len(found))]
            passed = self._passed(drawn)
            left = TRIES if passed else left - len(drawn)
            if left <= 0:
                raise config(f"{TRIES:,} programs of the space '{self.name}' in a row do not compile; choose other ops")
            found += passed
        return found

    def blind(self, rng: np.random.Generator) -> Genotype:
        """See `SearchSpace.blind`."""
        return self.space.blind(rng)

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Genotype:
        """A mutation that compiles; after 64 that do not, a new genotype."""
        return self._first(lambda: self.space.mutate(genotype, rng, rate), rng)

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Genotype:
        """A child that compiles; after 64 that do not, a new genotype."""
        return self._first(lambda: self.space.crossover(first, second, rng), rng)

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        return self.space.expression(genotype, pool)

    def encode(self, genotype: Genotype) -> Any:
        """See `SearchSpace.encode`."""
        return self.space.encode(genotype)

    def decode(self, value: Any) -> Genotype:
        """See `SearchSpace.decode`."""
        return self.space.decode(value)

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        return self.space.describe()

    def text(self, genotype: Genotype) -> str:
        """See `SearchSpace.text`."""
        return self.space.text(genotype)

    def _first(self, draw: Callable[[], Genotype], rng: np.random.Generator) -> Genotype:
        for _ in range(DRAWS):
            passed = self._passed([draw()])
            if passed:
                return passed[0]
        return self.sample(rng)

    def _passed(self, genotypes: list[Genotype]) -> list[Genotype]:
        self._compile([g for g in dict.fromkeys(genotypes) if g not in self._known])
        self._refused += [self._known[g] for g in genotypes if self._known[g][1] is not None]
        return [g for g in genotypes if self._known[g][1] is None]

    def _compile(self, genotypes: Sequence[Genotype]) -> None:
        began = time.perf_counter()
        made: dict[Genotype, Node] = {}
        for genotype in genotypes:
            try:
                made[genotype] = self._made.get(genotype) or self.space.expression(genotype, self._pool)
            except ProxyError as error:
                self._known[genotype] = None, error
        self._made.update(made)
        for (genotype, node), reason in zip(made.items(), self._check(list(made.values())), strict=True):
            self._known[genotype] = node, reason
        self.seconds += time.perf_counter() - began
