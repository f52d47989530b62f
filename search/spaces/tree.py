"""``tree``: two branches, each an input and up to two unaries, and a binary. The search space of Auto-Prox.

There may be one or three unaries on a branch, and a third branch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, permutations, product
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS
from ...grammar.types import AUTOPROX_INPUTS, STATISTICS, Type
from .base import DRAWS, Genotype, SearchSpace, below, config, input_names, op_names

Branch = tuple[str, ...]
"""Input, first unary, second unary, .."""
UNARIES, BRANCHES = range(1, 4), range(2, 4)
"""How many unaries a branch can have, and how many branches there can be."""
PUBLISHED = {"unaries": 2, "branches": 2}
"""Those of Auto-Prox."""


@dataclass(frozen=True, slots=True)
class Tree(Genotype):
    """``binary(b(a(input1)), d(c(input2)))``, reduced by mean and layer_mean: the tree of Auto-Prox.

    ``genes``: input1, a, b, input2, c, d, binary; with other numbers of unaries or branches accordingly. A third branch
    is joined to the join of the first two by a binary of its own, which is the last gene.
    """

    genes: tuple[str, ...]

    @property
    def branches(self) -> tuple[Branch, ...]:
        """(input, first unary, second unary, ..) of all sides."""
        starts = [i for i, gene in enumerate(self.genes) if gene in STATISTICS]
        return tuple(self.genes[i : i + starts[1]] for i in starts)

    @property
    def binary(self) -> str:
        """What joins two branches, or the third to the others."""
        return self.genes[-1]

    @property
    def binaries(self) -> tuple[str, ...]:
        """What joins the branches: the first two, their join and the third."""
        return self.genes[1 - sum(gene in STATISTICS for gene in self.genes) :]


class TreeSpace(SearchSpace):
    """Two inputs, two unaries on each, one binary (Auto-Prox, Sec. 3.1): 84,934,656 genotypes with the published sets.

    ``inputs``: names of statistics. ``ops``: the name of an op set, or names of ops; ``identity`` among them makes
    shorter branches. ``unaries``: on each branch, one of `UNARIES`. ``branches``: one of `BRANCHES`; of three,
    ``(x op y) op z``. Raises ProxforgeError ``config`` for what does not exist or leaves no program.

    `blind` is uniform over all genotypes, `sample` over those that type-check: the type of a branch decides what it can
    be joined with, so the branches are sorted by type once, and the programs are numbered by (binaries, types).
    """

    name = "tree"

    def __init__(
        self,
        inputs: Sequence[str] = AUTOPROX_INPUTS,
        ops: str | Sequence[str] = "autoprox",
        unaries: int = PUBLISHED["unaries"],
        branches: int = PUBLISHED["branches"],
    ) -> None:
        if unaries not in UNARIES:
            raise config(f"a branch of the tree space has {UNARIES[0]} to {UNARIES[-1]} unaries, not {unaries}")
        if branches not in BRANCHES:
            raise config(f"a program of the tree space has {BRANCHES[0]} or {BRANCHES[-1]} branches, not {branches}")
        self.unaries, self.branches = unaries, branches
        self.inputs = input_names(inputs, self.name)
        self.ops = op_names(ops, self.name)
        self.unary = tuple(n for n in self.ops if OPS[n].arity == 1)
        self.binary = tuple(n for n in self.ops if OPS[n].arity == 2)
        if not (self.inputs and self.unary and self.binary):
            raise config("the tree space needs at least one statistic, one unary and one binary op")
        self._options = (*(self.inputs, *(self.unary,) * unaries) * branches, *(self.binary,) * (branches - 1))
        size = 1 + unaries
        self._sides = tuple(slice(i * size, (i + 1) * size) for i in range(branches))
        self._choices = np.array([len(o) for o in self._options])
        self._made: WeakKeyDictionary[Pool, dict[Branch, Node]] = WeakKeyDictionary()  # of every pool the branches
        if self.typed_size() == 0:
            raise config("no program of this tree space type-checks; choose other ops or more statistics")

    def size(self) -> int:
        """Number of genotypes: (inputs x unaries^2)^2 x binaries, with two unaries on each of two branches."""
        return prod(len(options) for options in self._options)

    def typed_size(self) -> int:
        """Number of genotypes that type-check."""
        return self._ends[-1] if self._ends else 0

    def unrank(self, index: int) -> Tree:
        """See `SearchSpace.unrank`."""
        block = bisect_right(self._ends, index)
        binaries, types = self._joins[block]
        index -= self._ends[block - 1] if block else 0
        genes: Branch = binaries
        for type_ in reversed(types):
            found = self._classes[type_]
            index, place = divmod(index, len(found))
            genes = found[place] + genes
        return Tree(genes)

    def sample(self, rng: np.random.Generator) -> Tree:
        """A genotype that type-checks, each with the same probability."""
        return self.unrank(below(rng, self.typed_size()))

    def blind(self, rng: np.random.Generator) -> Tree:
        """A genotype, each with the same probability."""
        drawn = rng.integers(0, self._choices).tolist()
        return Tree(tuple([options[d] for d, options in zip(drawn, self._options, strict=True)]))

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Tree:
        """Another genotype that type-checks: every gene is redrawn with probability ``rate``, one at least changes.

        Proposals that do not type-check or change nothing are drawn again; after 64 of them, and with rate 0, one of
        the changes of a single gene is drawn, and where there is none, a new genotype.
        """
        parent = _tree(genotype)
        for _ in range(DRAWS if rate > 0 else 0):
            redrawn = [i for i, r in enumerate(rng.random(len(self._options)).tolist()) if r < rate]
            drawn = rng.integers(0, self._choices)
            genes = list(parent.genes)
            for i in redrawn:
                genes[i] = self._options[i][drawn[i]]
            child = tuple(genes)
            if child != parent.genes and self._typed(child):
                return Tree(child)
        return self._neighbour(parent, rng)

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Tree:
        """A branch of each, either side, a third one of either, and the binaries of one: uniform over the children
        that type-check.

        Children that are neither parent come first; the first parent where there is no child at all.
        """
        a, b = _tree(first).genes, _tree(second).genes
        mine, other = ([genes[side] for side in self._sides] for genes in (a, b))
        ends = dict.fromkeys((a[self._sides[-1].stop :], b[self._sides[-1].stop :]))
        typed: dict[Branch, None] = {}
        numbers, joinable = self._numbers, self._joinable
        for x, y, more in product(mine, other, product((*mine, *other), repeat=self.branches - 2)):
            for order in permutations((x, y, *more)):
                joins = joinable.get(tuple([numbers.get(branch) for branch in order]), ())
                for ops in ends:
                    if ops in joins:
                        typed[sum(order, ()) + ops] = None
        every = list(typed) or [a]
        for parent in (a, b):
            typed.pop(parent, None)
        new = list(typed) or every
        return Tree(new[int(rng.integers(len(new)))])

    def well_typed(self, tree: Tree) -> bool:
        """Whether the program type-checks."""
        return self._typed(tree.genes)

    def _typed(self, genes: Branch) -> bool:
        types = tuple([self._numbers.get(genes[side]) for side in self._sides])
        return genes[self._sides[-1].stop :] in self._joinable.get(types, ())

    def sides(self, genotypes: Sequence[Genotype]) -> tuple[list[tuple[Branch, ...]], list[str]]:
        """The branches of each tree, and what joins the last of them."""
        every = [_tree(genotype).genes for genotype in genotypes]
        return [tuple([genes[side] for side in self._sides]) for genes in every], [genes[-1] for genes in every]

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        genes = _tree(genotype).genes
        branches = [self.branch(genes[side], pool) for side in self._sides]
        return pool.score(joined(pool, genes[self._sides[-1].stop :], branches))

    def branch(self, branch: Branch, pool: Pool) -> Node:
        """One side of a tree as a node of the pool. ProxyError where it does not type-check."""
        made = self._made.get(pool)
        if made is None:
            made = self._made[pool] = {}
        node = made.get(branch)
        if node is None:
            node = pool.statistic(branch[0])
            for op in branch[1:]:
                node = pool.apply(OPS[op], node)
            made[branch] = node
        return node

    def encode(self, genotype: Genotype) -> list[str]:
        """See `SearchSpace.encode`."""
        return list(_tree(genotype).genes)

    def decode(self, value: Any) -> Tree:
        """See `SearchSpace.decode`."""
        known = isinstance(value, list) and len(value) == len(self._options)
        if not known or not all(gene in options for gene, options in zip(value, self._options, strict=True)):
            raise config(f"{str(value)[:200]} is no genotype of this tree space: its names are not those of the space")
        return Tree(tuple(value))

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        described = {"name": self.name, "inputs": list(self.inputs), "ops": list(self.ops)}
        found = {"unaries": self.unaries, "branches": self.branches}
        return {**described, **{name: number for name, number in found.items() if number != PUBLISHED[name]}}

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
        return Tree((*tree.genes[:i], option, *tree.genes[i + 1 :]))

    @cached_property
    def _changes(self) -> list[tuple[int, str]]:
        """(gene, option): what a single gene can become."""
        return [(i, option) for i, options in enumerate(self._options) for option in options]

    @cached_property
    def branch_types(self) -> dict[Branch, Type]:
        """The branches that type-check, and the types of their results."""
        pool = Pool()
        types: dict[Branch, Type] = {}
        for branch in product(self.inputs, *(self.unary,) * self.unaries):
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
    def _joins(self) -> list[tuple[tuple[str, ...], tuple[Type, ...]]]:
        """The (binaries, types) that type-check: tried out on one branch of each type."""
        pool, joins = Pool(), []
        examples = {type_: self.branch(branches[0], pool) for type_, branches in self._classes.items()}
        for binaries in product(self.binary, repeat=self.branches - 1):
            for types in product(examples, repeat=self.branches):
                try:
                    joined(pool, binaries, [examples[type_] for type_ in types])
                except ProxyError:
                    continue
                joins.append((binaries, types))
        return joins

    @cached_property
    def _numbers(self) -> dict[Branch, int]:
        """The branches that type-check, and their types as numbers."""
        return {branch: i for i, branches in enumerate(self._classes.values()) for branch in branches}

    @cached_property
    def _joinable(self) -> dict[tuple[int | None, ...], set[tuple[str, ...]]]:
        """The numbers of types, and the binaries that join them."""
        number = {type_: i for i, type_ in enumerate(self._classes)}
        found: dict[tuple[int | None, ...], set[tuple[str, ...]]] = {}
        for binaries, types in self._joins:
            found.setdefault(tuple([number[type_] for type_ in types]), set()).add(binaries)
        return found

    @cached_property
    def _ends(self) -> list[int]:
        """Cumulative number of programs over `_joins`."""
        return list(accumulate(prod(len(self._classes[type_]) for type_ in types) for _, types in self._joins))


def joined(pool: Pool, binaries: Sequence[str], branches: Sequence[Node]) -> Node:
    """The join of branches, from the left. ProxyError where they cannot be joined."""
    node = branches[0]
    for binary, branch in zip(binaries, branches[1:], strict=True):
        node = pool.apply(OPS[binary], node, branch)
    return node


def _tree(genotype: Genotype) -> Tree:
    if not isinstance(genotype, Tree):
        raise TypeError(f"the tree space handles Tree, not {type(genotype).__name__}")
    return genotype
