"""``tree``: two inputs, up to two unaries on each, one binary. The search space of Auto-Prox."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS
from ...grammar.types import AUTOPROX_INPUTS, Type
from .base import DRAWS, Genotype, SearchSpace, below, config, input_names, op_names

Branch = tuple[str, str, str]
"""Input, first unary, second unary."""


@dataclass(frozen=True, slots=True)
class Tree(Genotype):
    """``binary(b(a(input1)), d(c(input2)))``, reduced by mean and layer_mean: the tree of Auto-Prox.

    ``genes``: input1, a, b, input2, c, d, binary.
    """

    genes: tuple[str, str, str, str, str, str, str]

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """(input, first unary, second unary) of both sides."""
        return self.genes[:3], self.genes[3:6]

    @property
    def binary(self) -> str:
        """What joins the branches."""
        return self.genes[6]


class TreeSpace(SearchSpace):
    """Two inputs, two unaries on each, one binary (Auto-Prox, Sec. 3.1): 84,934,656 genotypes with the published sets.

    ``inputs``: names of statistics. ``ops``: the name of an op set, or names of ops; ``identity`` among them makes
    shorter branches. Raises ProxforgeError ``config`` for what does not exist or leaves no program.

    `blind` is uniform over all genotypes, `sample` over those that type-check: the type of a branch decides what it can
    be joined with, so the branches are sorted by type once, and the programs are numbered by (binary, type, type).
    """

    name = "tree"

    def __init__(self, inputs: Sequence[str] = AUTOPROX_INPUTS, ops: str | Sequence[str] = "autoprox") -> None:
        self.inputs = input_names(inputs, self.name)
        self.ops = op_names(ops, self.name)
        self.unary = tuple(n for n in self.ops if OPS[n].arity == 1)
        self.binary = tuple(n for n in self.ops if OPS[n].arity == 2)
        if not (self.inputs and self.unary and self.binary):
            raise config("the tree space needs at least one statistic, one unary and one binary op")
        self._options = (*(self.inputs, self.unary, self.unary) * 2, self.binary)
        self._choices = np.array([len(o) for o in self._options])
        self._made: WeakKeyDictionary[Pool, dict[Branch, Node]] = WeakKeyDictionary()  # of every pool the branches
        if self.typed_size() == 0:
            raise config("no program of this tree space type-checks; choose other ops or more statistics")

    def size(self) -> int:
        """Number of genotypes: (inputs x unaries^2)^2 x binaries."""
        return (len(self.inputs) * len(self.unary) ** 2) ** 2 * len(self.binary)

    def typed_size(self) -> int:
        """Number of genotypes that type-check."""
        return self._ends[-1] if self._ends else 0

    def unrank(self, index: int) -> Tree:
        """See `SearchSpace.unrank`."""
        block = bisect_right(self._ends, index)
        binary, first, second = self._joins[block]
        left, right = divmod(index - (self._ends[block - 1] if block else 0), len(self._classes[second]))
        return _tree_of((*self._classes[first][left], *self._classes[second][right], binary))

    def sample(self, rng: np.random.Generator) -> Tree:
        """A genotype that type-checks, each with the same probability."""
        return self.unrank(below(rng, self.typed_size()))

    def blind(self, rng: np.random.Generator) -> Tree:
        """A genotype, each with the same probability."""
        drawn = rng.integers(0, self._choices).tolist()
        return _tree_of(options[d] for d, options in zip(drawn, self._options, strict=True))

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Tree:
        """Another genotype that type-checks: every gene is redrawn with probability ``rate``, one at least changes.

        Proposals that do not type-check or change nothing are drawn again; after 64 of them, and with rate 0, one of
        the changes of a single gene is drawn, and where there is none, a new genotype.
        """
        parent = _tree(genotype)
        for _ in range(DRAWS if rate > 0 else 0):
            redrawn = rng.random(len(self._options)) < rate
            drawn = rng.integers(0, self._choices)
            child = _tree_of(
                options[d] if r else gene
                for gene, options, d, r in zip(parent.genes, self._options, drawn, redrawn, strict=True)
            )
            if child != parent and self.well_typed(child):
                return child
        return self._neighbour(parent, rng)

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Tree:
        """A branch of each, either side, and the binary of one: uniform over the children that type-check.

        Children that are neither parent come first; the first parent where there is no child at all.
        """
        a, b = _tree(first), _tree(second)
        pairs = [p for x, y in product(a.branches, b.branches) for p in ((x, y), (y, x))]
        children = dict.fromkeys(_tree_of((*x, *y, op)) for x, y in pairs for op in (a.binary, b.binary))
        typed = [child for child in children if self.well_typed(child)]
        new = [child for child in typed if child not in (a, b)] or typed or [a]
        return new[int(rng.integers(len(new)))]

    def well_typed(self, tree: Tree) -> bool:
        """Whether the program type-checks."""
        first, second = (self.branch_types.get(branch) for branch in tree.branches)
        return first is not None and second is not None and self.joins(tree.binary, first, second)

    def joins(self, binary: str, first: Type, second: Type) -> bool:
        """Whether branches of these types can be joined."""
        return (binary, first, second) in self._joinable

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        tree = _tree(genotype)
        first, second = (self.branch(branch, pool) for branch in tree.branches)
        return pool.score(pool.apply(OPS[tree.binary], first, second))

    def branch(self, branch: Branch, pool: Pool) -> Node:
        """One side of a tree as a node of the pool. ProxyError where it does not type-check."""
        made = self._made.setdefault(pool, {})
        node = made.get(branch)
        if node is None:
            name, a, b = branch
            node = made[branch] = pool.apply(OPS[b], pool.apply(OPS[a], pool.statistic(name)))
        return node

    def encode(self, genotype: Genotype) -> list[str]:
        """See `SearchSpace.encode`."""
        return list(_tree(genotype).genes)

    def decode(self, value: Any) -> Tree:
        """See `SearchSpace.decode`."""
        known = isinstance(value, list) and len(value) == len(self._options)
        if not known or not all(gene in options for gene, options in zip(value, self._options, strict=True)):
            raise config(f"{str(value)[:200]} is no genotype of this tree space: its names are not those of the space")
        return _tree_of(value)

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        return {"name": self.name, "inputs": list(self.inputs), "ops": list(self.ops)}

    def _neighbour(self, parent: Tree, rng: np.random.Generator) -> Tree:
        """One of the well-typed changes of a single gene, uniformly; else a sample, else an error."""
        for _ in range(DRAWS):
            child = self._changed(parent, *self._changes[int(rng.integers(len(self._changes)))])
            if child != parent and self.well_typed(child):
                return child
        changed = (self._changed(parent, i, option) for i, option in self._changes)
        near = [tree for tree in changed if tree != parent and self.well_typed(tree)]
        if near:
            return near[int(rng.integers(len(near)))]
        others = self.typed_size() - self.well_typed(parent)
        if others == 0:
            raise config("a mutation is impossible: this tree space holds a single program that type-checks")
        while (child := self.sample(rng)) == parent:  # ends with probability 1: there are others
            pass
        return child

    @staticmethod
    def _changed(tree: Tree, i: int, option: str) -> Tree:
        return _tree_of((*tree.genes[:i], option, *tree.genes[i + 1 :]))

    @cached_property
    def _changes(self) -> list[tuple[int, str]]:
        """(gene, option): what a single gene can become."""
        return [(i, option) for i, options in enumerate(self._options) for option in options]

    @cached_property
    def branch_types(self) -> dict[Branch, Type]:
        """The branches that type-check, and the types of their results."""
        pool = Pool()
        types: dict[Branch, Type] = {}
        for branch in product(self.inputs, self.unary, self.unary):
            try:
                types[branch] = self.branch(branch, pool).type
            except ProxyError:  # such as std of a Scalar: no branch
                continue
        return types

    @cached_property
    def _classes(self) -> dict[Type, list[Branch]]:
        classes: dict[Type, list[Branch]] = {}
        for branch, type_ in self.branch_types.items():
            classes.setdefault(type_, []).append(branch)
        return classes

    @cached_property
    def _joins(self) -> list[tuple[str, Type, Type]]:
        """The (binary, type, type) that type-check: tried out on one branch of each type."""
        pool, joins = Pool(), []
        examples = {type_: self.branch(branches[0], pool) for type_, branches in self._classes.items()}
        for binary, first, second in product(self.binary, examples, examples):
            try:
                pool.apply(OPS[binary], examples[first], examples[second])
            except ProxyError:
                continue
            joins.append((binary, first, second))
        return joins

    @cached_property
    def _joinable(self) -> frozenset[tuple[str, Type, Type]]:
        return frozenset(self._joins)

    @cached_property
    def _ends(self) -> list[int]:
        """Cumulative number of programs over `_joins`."""
        return list(accumulate(len(self._classes[a]) * len(self._classes[b]) for _, a, b in self._joins))


def _tree_of(genes: Any) -> Tree:
    return Tree(tuple(genes))


def _tree(genotype: Genotype) -> Tree:
    if not isinstance(genotype, Tree):
        raise TypeError(f"the tree space handles Tree, not {type(genotype).__name__}")
    return genotype
