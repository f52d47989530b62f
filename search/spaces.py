"""What a search draws from: typed genotypes, drawn and mutated without ever leaving the programs that type-check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError, ProxyError, nearest
from ..grammar.expr import Node, Pool
from ..grammar.ops import OP_SETS, OPS, Form
from ..grammar.text import text
from ..grammar.types import AUTOPROX_INPUTS, Type

_DRAWS = 64
"""Proposals of a mutation before it is drawn from the list of all that are possible."""


@dataclass(frozen=True, slots=True)
class Genotype:
    """A program as a search handles it: immutable, hashable, made of names, so that a new op renumbers nothing."""


class SearchSpace(ABC):
    """The programs of a search. A space is immutable; randomness is an argument."""

    @abstractmethod
    def size(self) -> int:
        """Number of genotypes, whether they type-check or not: what papers state."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Genotype:
        """A genotype that type-checks."""

    @abstractmethod
    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Genotype:
        """Another genotype that type-checks: every gene is redrawn with probability ``rate``, one at least changes."""

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

    def text(self, genotype: Genotype) -> str:
        """The formula as it was drawn, not in canonical form."""
        return text(self.expression(genotype, Pool()))


@dataclass(frozen=True, slots=True)
class Tree(Genotype):
    """``binary(b(a(input1)), d(c(input2)))``, reduced by mean and layer_mean: the tree of Auto-Prox.

    ``genes``: input1, a, b, input2, c, d, binary.
    """

    genes: tuple[str, str, str, str, str, str, str]

    @property
    def branches(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(input, first unary, second unary) of both sides."""
        return self.genes[:3], self.genes[3:6]


class TreeSpace(SearchSpace):
    """Two inputs, two unaries on each, one binary (Auto-Prox, Sec. 3.1): 84,934,656 genotypes with the published sets.

    ``inputs``: names of statistics. ``ops``: the name of an op set, or names of ops; ``identity`` among them makes
    shorter branches. Raises ProxforgeError ``config`` for what does not exist or leaves no program.

    The type of a branch decides what it can be joined with, so the branches are sorted by type once, and a program is
    drawn as (binary, type, type) with probability in proportion to the number of its programs: exactly uniform.
    """

    def __init__(self, inputs: Sequence[str] = AUTOPROX_INPUTS, ops: str | Sequence[str] = "autoprox") -> None:
        pool = Pool()
        self.inputs = tuple(str(pool.statistic(name).attr) for name in inputs)
        self.ops = _names(ops)
        self._unary = tuple(n for n in self.ops if OPS[n].arity == 1 and OPS[n].form is not Form.LAYERS)
        self._binary = tuple(n for n in self.ops if OPS[n].arity == 2)
        for what, names in (("inputs", self.inputs), ("ops", self.ops)):
            if len(set(names)) < len(names):
                raise _config(f"the {what} of the tree space name one twice: {', '.join(names)}")
        if not (self.inputs and self._unary and self._binary):
            raise _config("the tree space needs at least one statistic, one unary and one binary op")
        self._options = (*(self.inputs, self._unary, self._unary) * 2, self._binary)
        self._choices = np.array([len(o) for o in self._options])
        if self.typed_size() == 0:
            raise _config("no program of this tree space type-checks; choose other ops or more statistics")

    def size(self) -> int:
        """Number of genotypes: (inputs x unaries^2)^2 x binaries."""
        return (len(self.inputs) * len(self._unary) ** 2) ** 2 * len(self._binary)

    def typed_size(self) -> int:
        """Number of genotypes that type-check."""
        return int(self._blocks[-1]) if len(self._blocks) else 0

    def sample(self, rng: np.random.Generator) -> Tree:
        """A genotype that type-checks, each with the same probability."""
        place = int(rng.integers(self.typed_size()))
        block = int(np.searchsorted(self._blocks, place, side="right"))
        if block:
            place -= int(self._blocks[block - 1])
        binary, first, second = self._joins[block]
        left, right = divmod(place, len(self._classes[second]))
        return _tree_of((*self._classes[first][left], *self._classes[second][right], binary))

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Tree:
        """Another genotype that type-checks; see `SearchSpace.mutate`.

        Proposals that do not type-check or change nothing are drawn again; after 64 of them one of the changes of a
        single gene is drawn, and where there is none, a new genotype.
        """
        parent = _tree(genotype)
        for _ in range(_DRAWS):
            redrawn = rng.random(len(self._options)) < rate
            drawn = rng.integers(0, self._choices)
            child = _tree_of(
                options[d] if r else gene
                for gene, options, d, r in zip(parent.genes, self._options, drawn, redrawn, strict=True)
            )
            if child != parent and self.well_typed(child):
                return child
        return self._neighbour(parent, rng)

    def well_typed(self, tree: Tree) -> bool:
        """Whether the program type-checks."""
        first, second = (self._types.get(branch) for branch in tree.branches)
        return first is not None and second is not None and (tree.genes[6], first, second) in self._joinable

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        tree = _tree(genotype)
        first, second = (_branch(pool, *branch) for branch in tree.branches)
        return pool.score(pool.apply(OPS[tree.genes[6]], first, second))

    def encode(self, genotype: Genotype) -> list[str]:
        """See `SearchSpace.encode`."""
        return list(_tree(genotype).genes)

    def decode(self, value: Any) -> Tree:
        """See `SearchSpace.decode`."""
        known = isinstance(value, list) and len(value) == len(self._options)
        if not known or not all(gene in options for gene, options in zip(value, self._options, strict=True)):
            raise _config(f"{str(value)[:200]} is no genotype of this tree space: its names are not those of the space")
        return _tree_of(value)

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        return {"name": "tree", "inputs": list(self.inputs), "ops": list(self.ops)}

    def _neighbour(self, parent: Tree, rng: np.random.Generator) -> Tree:
        """One of the well-typed changes of a single gene, uniformly; else a sample, else an error."""
        changed = (
            _tree_of((*parent.genes[:i], option, *parent.genes[i + 1 :]))
            for i, options in enumerate(self._options)
            for option in options
            if option != parent.genes[i]
        )
        near = [tree for tree in changed if self.well_typed(tree)]
        if near:
            return near[int(rng.integers(len(near)))]
        others = self.typed_size() - self.well_typed(parent)
        if others == 0:
            raise _config("a mutation is impossible: this tree space holds a single program that type-checks")
        while (child := self.sample(rng)) == parent:  # ends with probability 1: there are others
            pass
        return child

    @cached_property
    def _types(self) -> dict[tuple[str, ...], Type]:
        """Branch -> type of its result, of all branches that type-check."""
        pool = Pool()
        types: dict[tuple[str, ...], Type] = {}
        for name in self.inputs:
            for a in self._unary:
                for b in self._unary:
                    try:
                        types[name, a, b] = _branch(pool, name, a, b).type
                    except ProxyError:  # such as std of a Scalar: no branch
                        continue
        return types

    @cached_property
    def _classes(self) -> dict[Type, list[tuple[str, ...]]]:
        classes: dict[Type, list[tuple[str, ...]]] = {}
        for branch, type_ in self._types.items():
            classes.setdefault(type_, []).append(branch)
        return classes

    @cached_property
    def _joins(self) -> list[tuple[str, Type, Type]]:
        """The (binary, type, type) that type-check: tried out on one branch of each type."""
        pool, joins = Pool(), []
        examples = {type_: _branch(pool, *branches[0]) for type_, branches in self._classes.items()}
        for binary in self._binary:
            for first, a in examples.items():
                for second, b in examples.items():
                    try:
                        pool.apply(OPS[binary], a, b)
                    except ProxyError:
                        continue
                    joins.append((binary, first, second))
        return joins

    @cached_property
    def _joinable(self) -> frozenset[tuple[str, Type, Type]]:
        return frozenset(self._joins)

    @cached_property
    def _blocks(self) -> NDArray[np.int64]:
        """Cumulative number of programs over `_joins`."""
        counts = [len(self._classes[a]) * len(self._classes[b]) for _, a, b in self._joins]
        return np.cumsum(np.array(counts, np.int64))


def _branch(pool: Pool, name: str, a: str, b: str) -> Node:
    return pool.apply(OPS[b], pool.apply(OPS[a], pool.statistic(name)))


def _tree_of(genes: Any) -> Tree:
    return Tree(tuple(genes))


def _tree(genotype: Genotype) -> Tree:
    if not isinstance(genotype, Tree):
        raise TypeError(f"the tree space handles Tree, not {type(genotype).__name__}")
    return genotype


def _names(ops: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(ops, str):
        if ops not in OP_SETS:
            raise _config(f"no op set is called '{ops[:80]}'{nearest(ops, OP_SETS)}; there are {', '.join(OP_SETS)}")
        return OP_SETS[ops]
    for name in ops:
        if name not in OPS or OPS[name].form is Form.LAYERS:
            raise _config(f"no op for a tree is called '{name[:80]}'{nearest(name, OPS)}")
    return tuple(ops)


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
