"""What a search space is: genotypes made of names, drawn and varied without ever leaving what type-checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...grammar.errors import ProxforgeError, nearest
from ...grammar.expr import Node, Pool
from ...grammar.ops import OP_SETS, OPS, Form
from ...grammar.text import text

DRAWS = 64
"""Proposals of a mutation that come to nothing before another way is taken."""


@dataclass(frozen=True, slots=True)
class Genotype:
    """A program as a search handles it: immutable, hashable, made of names, so that a new op renumbers nothing."""


class SearchSpace(ABC):
    """The programs of a search. A space is immutable; randomness is an argument.

    Two ways to draw: `blind` knows no types, as in the papers; `sample` has the distribution of `blind`, given that the
    program type-checks, and gets there without a rejection. Two sizes: `size` of all genotypes, `typed_size` of those
    that type-check. ``name``: in the registry. ``inputs``: names of the statistics that programs read.
    """

    name: str
    inputs: tuple[str, ...]

    @abstractmethod
    def size(self) -> int:
        """Number of genotypes, whether they type-check or not: what papers state."""

    @abstractmethod
    def typed_size(self) -> int:
        """Number of genotypes that type-check."""

    @abstractmethod
    def unrank(self, index: int) -> Genotype:
        """The genotypes that type-check, numbered from 0 to ``typed_size() - 1``."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Genotype:
        """A genotype that type-checks."""

    @abstractmethod
    def blind(self, rng: np.random.Generator) -> Genotype:
        """Any genotype: most do not type-check."""

    @abstractmethod
    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Genotype:
        """Another genotype that type-checks, from one that does.

        ``rate``: where a mutation goes over single genes, each is redrawn with this probability, one at least.
        """

    @abstractmethod
    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Genotype:
        """A genotype that type-checks, of parts of two that do; the first itself where their parts do not fit."""

    @abstractmethod
    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """The program as a Score of the pool. ProxyError where it is rejected."""

    @abstractmethod
    def encode(self, genotype: Genotype) -> Any:
        """The genotype as plain JSON."""

    @abstractmethod
    def decode(self, value: Any) -> Genotype:
        """The inverse of ``encode``. ProxforgeError for what is no genotype of this space."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What makes this space the one it is, as plain JSON."""

    @property
    def unchecked(self) -> SearchSpace:
        """The space in which what is drawn type-checks and is not checked further: cheaper to draw many from."""
        return self

    def accepts(self, genotype: Genotype) -> bool:
        """Whether the program may be asked for: in a space of programs that type-check, any of them."""
        return True

    def text(self, genotype: Genotype) -> str:
        """The formula as it was drawn, not in canonical form."""
        return text(self.expression(genotype, Pool()))


def config(message: str) -> ProxforgeError:
    """The error of a space that cannot be."""
    return ProxforgeError("config", message)


def below(rng: np.random.Generator, bound: int) -> int:
    """A whole number from 0 to ``bound`` - 1, each with the same probability, however large ``bound`` is."""
    if bound <= 1 << 63:
        return int(rng.integers(bound))
    bits = (bound - 1).bit_length()
    count, surplus = (bits + 7) // 8, -bits % 8
    while True:
        drawn = int.from_bytes(rng.bytes(count), "little") >> surplus
        if drawn < bound:
            return drawn


def input_names(inputs: Sequence[str], space: str) -> tuple[str, ...]:
    """The statistics by their own names (aliases resolved). ProxforgeError for an unknown or repeated one, or none."""
    pool = Pool()
    return once(tuple(str(pool.statistic(name).attr) for name in inputs), "inputs", space)


def op_names(ops: str | Sequence[str], space: str) -> tuple[str, ...]:
    """The ops of a set, or those named. ProxforgeError for what does not exist, is repeated, or reduces layers."""
    if isinstance(ops, str):
        if ops not in OP_SETS:
            raise config(f"no op set is called '{ops[:80]}'{nearest(ops, OP_SETS)}; there are {', '.join(OP_SETS)}")
        return tuple(name for name in OP_SETS[ops] if OPS[name].form is not Form.LAYERS)
    for name in ops:
        if name not in OPS or OPS[name].form is Form.LAYERS:
            raise config(f"no op for a search space is called '{name[:80]}'{nearest(name, OPS)}")
    return once(tuple(ops), "ops", space)


def once(names: tuple[str, ...], what: str, space: str) -> tuple[str, ...]:
    """The names, if each is there once."""
    if len(set(names)) < len(names):
        raise config(f"the {what} of the {space} space name one twice: {', '.join(names)}")
    return names
