"""``expression``: typed trees up to a depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np

from ...grammar.errors import nearest
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS, Form
from ...grammar.types import AUTOPROX_INPUTS, Type
from .base import DRAWS, Genotype, SearchSpace, below, config, input_names, once, op_names
from .counting import Distribution, Production, Trees
from .parts import Part, part_at
from .signatures import leaves, number_names, signatures

MAX_DEPTH = 12
"""Of an expression space: the number of its trees has 2^depth times as many digits as it has symbols."""
_ANY = "any"
"""The one type of trees that know no types."""


@dataclass(frozen=True, slots=True)
class Expression(Genotype):
    """``genes``: the tree in prefix order; first the layer reduction, then names of ops, statistics and numbers."""

    genes: tuple[str, ...]


class ExpressionSpace(SearchSpace):
    """Trees of at most ``depth`` ops on a path, over statistics, numbers and ops, under one of the layer reductions.

    ``inputs``: names of statistics. ``ops``: the name of an op set, or names of ops. ``numbers``: leaves beside the
    statistics. ``layers``: the layer reductions that may stand at the root (a Matrix there is reduced by mean first).

    ``distribution`` of `blind`: ``uniform`` over all genotypes (nearly all of the largest depth), or ``grow`` of Koza
    (1992): at every place a symbol, uniformly among statistics, numbers and ops, at the last level among the leaves.
    `sample` has that distribution, given that the program type-checks, exactly.

    Raises ProxforgeError ``config`` for what does not exist or is out of range.
    """

    name = "expression"

    def __init__(
        self,
        inputs: Sequence[str] = AUTOPROX_INPUTS,
        ops: str | Sequence[str] = "autoprox",
        depth: int = 6,
        numbers: Sequence[float] = (),
        layers: Sequence[str] = ("layer_mean",),
        distribution: Distribution = "grow",
    ) -> None:
        self.inputs = input_names(inputs, self.name)
        self.ops = op_names(ops, self.name)
        self.numbers = once(number_names(numbers), "numbers", self.name)
        self.layers = once(tuple(layers), "layer reductions", self.name)
        self.depth = depth
        self.distribution = distribution
        if not (self.inputs and self.ops and self.layers):
            raise config("the expression space needs at least one statistic, one op and one layer reduction")
        reductions = [name for name, op in OPS.items() if op.form is Form.LAYERS]
        for name in self.layers:
            if name not in reductions:
                raise config(f"no layer reduction is called '{name[:80]}'{nearest(name, reductions)}")
        if type(depth) is not int or not 0 <= depth <= MAX_DEPTH:
            raise config(f"the depth is {depth!r:.80}; expected a whole number from 0 to {MAX_DEPTH}")
        if distribution not in get_args(Distribution):
            words = " or ".join(get_args(Distribution))
            raise config(f"the distribution is {distribution!r:.80}; expected {words}")
        given = leaves(self.inputs, self.numbers, Pool())
        self._arities = dict.fromkeys(given, 0) | {name: OPS[name].arity for name in self.ops}
        self._leaves = {name: node.type for name, node in given.items()}
        self._results = {(s.op, s.operands): s.result for s in signatures(self.ops, given)}

    def size(self) -> int:
        """Number of trees that know no types: R(0) = leaves, R(k) = leaves + the sum over the ops of R(k-1)^arity."""
        return self._blind_trees("uniform").count * len(self.layers)

    def typed_size(self) -> int:
        """Number of genotypes that type-check."""
        return self._uniform.count * len(self.layers)

    def unrank(self, index: int) -> Expression:
        """See `SearchSpace.unrank`."""
        return self._numbered(self._uniform, index)

    def sample(self, rng: np.random.Generator) -> Expression:
        """A genotype that type-checks: distributed as those that `blind` draws and that do."""
        return self._numbered(self._typed, below(rng, self._typed.count * len(self.layers)))

    def blind(self, rng: np.random.Generator) -> Expression:
        """A genotype with the distribution of the space."""
        return self._numbered(self._blind, below(rng, self._blind.count * len(self.layers)))

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Expression:
        """Another genotype that type-checks, by one of four mutations, each with the same probability.

        ``point``: every gene is redrawn with probability ``rate``, one at least, among those of its signature.
        ``subtree``: a subtree is drawn anew, with its type. ``hoist``: a subtree is replaced by one inside it, of its
        type. ``insert``: a subtree becomes an operand of a new op of its type. The whole tree may get another type.
        What cannot be done or changes nothing is drawn again; after 64 times a new genotype is drawn.
        """
        parent = _expression(genotype)
        root = self._tree(parent)
        parts = root.flat()
        for _ in range(DRAWS):
            part = parts[int(rng.integers(len(parts)))]
            kind = int(rng.integers(4))
            if kind == 3:
                genes: tuple[str, ...] | None = self._point(parent.genes, parts, part, rng, rate)
            else:
                genes = (self._subtree, self._hoist, self._insert)[kind](parent.genes, part, part is root, rng)
            if genes is not None and genes != parent.genes:
                return Expression(genes)
        if self.typed_size() == 1:
            raise config("a mutation is impossible: this expression space holds a single program that type-checks")
        while (child := self.sample(rng)) == parent:  # ends with probability 1: there are others
            pass
        return child

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Expression:
        """The first with one of its subtrees replaced by one of the second of equal type, within the depth.

        Uniform over the pairs of subtrees that fit, the whole first tree not among them; the first where none fits.
        The layer reduction is that of either.
        """
        a, b = _expression(first), _expression(second)
        donors = self._tree(b).flat()
        pairs = [
            (mine, other)
            for mine in self._tree(a).flat()[1:]
            for other in donors
            if other.type == mine.type and mine.depth + other.height <= self.depth
        ]
        if not pairs:
            return a
        mine, other = pairs[int(rng.integers(len(pairs)))]
        genes = mine.replaced(a.genes, b.genes[other.start : other.end])
        return Expression(((a, b)[int(rng.integers(2))].genes[0], *genes[1:]))

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        genes = _expression(genotype).genes
        values: list[Node] = []
        for gene in reversed(genes[1:]):
            if gene in self._leaves:
                values.append(pool.number(float(gene)) if gene in self.numbers else pool.statistic(gene))
            else:
                op = OPS[gene]
                operands = [values.pop() for _ in range(op.arity)]
                values.append(pool.apply(op, *operands))
        return pool.apply(OPS[genes[0]], values[0])

    def encode(self, genotype: Genotype) -> list[str]:
        """See `SearchSpace.encode`."""
        return list(_expression(genotype).genes)

    def decode(self, value: Any) -> Expression:
        """See `SearchSpace.decode`."""
        if not isinstance(value, list) or not value or value[0] not in self.layers or not self._fits(value[1:]):
            raise config(
                f"{str(value)[:200]} is no genotype of this expression space: expected a layer reduction and the names "
                f"of a tree of at most {self.depth} ops on a path"
            )
        return Expression(tuple(value))

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        return {
            "name": self.name,
            "inputs": list(self.inputs),
            "ops": list(self.ops),
            "depth": self.depth,
            "numbers": list(self.numbers),
            "layers": list(self.layers),
            "distribution": self.distribution,
        }

    def _typed_trees(self, distribution: Distribution) -> Trees[Type]:
        productions = [Production(name, (), type_) for name, type_ in self._leaves.items()]
        productions += [Production(op, operands, result) for (op, operands), result in self._results.items()]
        return Trees(productions, self.depth, self._arities, distribution)

    def _blind_trees(self, distribution: Distribution) -> Trees[str]:
        productions = [Production(name, (_ANY,) * arity, _ANY) for name, arity in self._arities.items()]
        return Trees(productions, self.depth, self._arities, distribution)

    @cached_property
    def _blind(self) -> Trees[str]:
        return self._blind_trees(self.distribution)

    @cached_property
    def _typed(self) -> Trees[Type]:
        return self._typed_trees(self.distribution)

    @cached_property
    def _uniform(self) -> Trees[Type]:
        return self._typed_trees("uniform")

    @cached_property
    def _alternatives(self) -> dict[tuple[Type, tuple[Type, ...]], list[str]]:
        """(result, operands) -> the symbols with that signature."""
        found: dict[tuple[Type, tuple[Type, ...]], list[str]] = {}
        for name, type_ in self._leaves.items():
            found.setdefault((type_, ()), []).append(name)
        for (op, operands), result in self._results.items():
            found.setdefault((result, operands), []).append(op)
        return found

    def _numbered(self, trees: Trees[Any], index: int) -> Expression:
        layer, index = divmod(index, trees.count)
        return Expression((self.layers[layer], *trees.numbered(index)))

    def _fits(self, genes: list[Any]) -> bool:
        """Whether these are the symbols of one tree within the depth."""
        heights: list[int] = []
        for gene in reversed(genes):
            arity = self._arities.get(gene) if isinstance(gene, str) else None
            if arity is None or len(heights) < arity:
                return False
            operands = [heights.pop() for _ in range(arity)]
            heights.append(1 + max(operands) if operands else 0)
        return len(heights) == 1 and heights[0] <= self.depth

    def _tree(self, genotype: Expression) -> Part:
        """The tree below the layer reduction. ProxforgeError where it does not type-check."""
        return part_at(genotype.genes, 1, self._arities, self._result)

    def _result(self, gene: str, operands: tuple[Type, ...]) -> Type:
        found = self._results.get((gene, operands)) if operands else self._leaves[gene]
        if found is None:
            given = " and ".join(map(str, operands))
            raise config(f"'{gene}' does not take {given}: only programs that type-check can be varied")
        return found

    # The mutations: the new genes, or None where this one cannot be done at this part.

    def _point(
        self, genes: tuple[str, ...], parts: list[Part], part: Part, rng: np.random.Generator, rate: float
    ) -> tuple[str, ...]:
        new = list(genes)
        if rng.random() < rate:
            new[0] = self.layers[int(rng.integers(len(self.layers)))]
        for p in [p for p in parts if rng.random() < rate] or [part]:
            alternatives = self._alternatives[p.signature]
            new[p.start] = alternatives[int(rng.integers(len(alternatives)))]
        return tuple(new)

    def _subtree(
        self, genes: tuple[str, ...], part: Part, whole: bool, rng: np.random.Generator
    ) -> tuple[str, ...] | None:
        drawn = list(self.sample(rng).genes[1:]) if whole else self._drawn(self.depth - part.depth, part.type, rng)
        return None if drawn is None else part.replaced(genes, drawn)

    def _hoist(
        self, genes: tuple[str, ...], part: Part, whole: bool, rng: np.random.Generator
    ) -> tuple[str, ...] | None:
        inside = [p for p in part.flat()[1:] if whole or p.type == part.type]
        if not inside:
            return None
        hoisted = inside[int(rng.integers(len(inside)))]
        return part.replaced(genes, genes[hoisted.start : hoisted.end])

    def _insert(
        self, genes: tuple[str, ...], part: Part, whole: bool, rng: np.random.Generator
    ) -> tuple[str, ...] | None:
        places = [
            (op, operands, place)
            for (op, operands), result in self._results.items()
            for place, type_ in enumerate(operands)
            if type_ == part.type and (whole or result == part.type)
        ]
        if not places or part.depth + part.height >= self.depth:
            return None
        op, operands, place = places[int(rng.integers(len(places)))]
        new = [op]
        for i, type_ in enumerate(operands):
            own = i == place
            operand = genes[part.start : part.end] if own else self._drawn(self.depth - part.depth - 1, type_, rng)
            if operand is None:
                return None
            new += operand
        return part.replaced(genes, new)

    def _drawn(self, depth: int, type_: Type, rng: np.random.Generator) -> list[str] | None:
        """A tree of at most that depth, of the space's distribution; None where there is none of the type."""
        total = self._typed.total(depth, type_)
        return self._typed.unrank(depth, type_, below(rng, total)) if total else None


def _expression(genotype: Genotype) -> Expression:
    if not isinstance(genotype, Expression):
        raise TypeError(f"the expression space handles Expression, not {type(genotype).__name__}")
    return genotype
