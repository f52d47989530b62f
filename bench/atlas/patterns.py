"""The joins of branches on stand-ins: what is one program, and what compiles, for all inputs whose axes agree alike.

See `bench.tree_count`: nothing in the language knows a statistic by its name, so what is found for stand-ins holds for
every pair of inputs that agrees as they do. Nearly all joins are in canonical form as they are; whether these compile
depends on what is known of the values of their branches, and that takes few forms. So few nodes are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.analysis import Analyser
from ...grammar.canonical import CanonicalPool, canonical_pool
from ...grammar.expr import Node
from ...grammar.ops import OPS, Op
from ...grammar.types import Kind, Type
from ...search.spaces.tree import TreeSpace, joined
from ...search.spaces.valid import refusals
from ..tree_count import STAND_INS, stand_in
from .branches import Branches, chains

JOINS = ("+", "-", "*", "@", "/", "dot")
"""The joins that are algebra of their branches, by number; ``/`` where the divisor is a Scalar."""
ORDERED = ("@", "/")
"""Those of which neither order follows from the other."""
LAYERS = ("mean", "sum")
"""The layer reductions: of layer_mean and layer_sum."""
ROW = np.dtype(
    [("plain", "?"), ("negated", "?"), ("op", "u1"), ("x", "u4"), ("y", "u4"), ("many", "u4"), ("valid", "u1")]
)
"""A canonical program on stand-ins. ``plain``: it is the join ``op`` of the branches ``x`` and ``y``, or minus that
where it is ``negated``; else that genotype gives the program. The branches of the second stand-in follow those of the
first. ``many``: genotypes. ``valid``: bit l for the layer reduction l of `LAYERS`, where the program compiles."""
_Row = tuple[bool, bool, int, int, int]

Shapes = tuple[Type, ...]


@dataclass(frozen=True)
class Pattern:
    """One or two stand-ins, of these types; of two, the joins of ``matrices`` alone, or all the others."""

    shapes: Shapes
    matrices: bool


def programs_of(
    space: TreeSpace, patterns: Sequence[Pattern], told: Callable[[float], None]
) -> dict[Pattern, NDArray[Any]]:
    """The canonical programs of each pattern, `ROW`, in a fixed order. ``told``: the share that is done."""
    found = {}
    for i, pattern in enumerate(patterns):
        found[pattern] = _Joined(space, pattern).rows()
        told((i + 1) / len(patterns))
    return found


class _Joined:
    """The joins of one pattern."""

    def __init__(self, space: TreeSpace, pattern: Pattern) -> None:
        self._space, self._pattern = space, pattern
        self._pool: CanonicalPool = canonical_pool()
        leaves = [stand_in(name, type_, self._pool) for name, type_ in zip(STAND_INS, pattern.shapes, strict=False)]
        sides = [chains(space, self._pool, leaf) for leaf in leaves]
        self._size = len(sides[0])
        self._two = len(sides) == 2
        self._nodes = [node for side in sides for node in side]
        self._many = [len(genes) for side in sides for genes in side.values()]
        self._place = {node: i for i, node in enumerate(self._nodes)}
        self._classes = _classes(self._pool, self._nodes)
        self._plain: dict[_Row, int] = {}  # genotypes of programs that are joins of branches
        self._odd: dict[Node, tuple[Node, list[int]]] = {}  # of other Scores: the join; op, branches, genotypes

    def rows(self) -> NDArray[Any]:
        """All programs that compile."""
        joins = [_joins(self._space, matrices) for matrices in range(3)]
        kinds = [int(node.type.kind is Kind.MATRIX) for node in self._nodes]
        for i in range(self._size):
            for j in range(self._size if self._two else i, len(self._nodes)):
                matrices = kinds[i] + kinds[j]
                if not self._two or (matrices == 2) is self._pattern.matrices:
                    for number, op, times in joins[matrices]:
                        self._join(number, op, times, i, j)
        plain = self._plain_ones()
        odd = self._odd_ones()
        rows = np.array(plain + odd, ROW)
        return rows[rows["valid"] > 0]

    def _join(self, number: int, op: Op, times: int, i: int, j: int) -> None:
        """Takes in the joins of two branches by one op, in both orders."""
        a, b = self._nodes[i], self._nodes[j]
        count = self._many[i] * self._many[j] * times
        if op.name != "@" and a.type.kind is b.type.kind is Kind.MATRIX and a.type != b.type:
            return
        if op.name in ORDERED:
            for p, q in dict.fromkeys(((i, j), (j, i))):
                first, second = self._nodes[p], self._nodes[q]
                if op.name == "/" or first.type.cols == second.type.rows:
                    if self._pool.stands(op, (first, second)):
                        self._add((True, False, number, p, q), count)
                    else:
                        self._make(number, op, count, p, q)
            return
        x, y = i, j
        stands = i != j and self._pool.stands(op, (a, b))
        if not stands and i != j and self._pool.stands(op, (b, a)):
            stands, x, y = True, j, i
        if op.name != "-" or i == j:
            count *= 1 + (i != j)
            if stands:
                self._add((True, False, number, x, y), count)
            else:
                self._make(number, op, count, x, y)
        elif stands:  # b - a is -(a - b), as the rules have it
            self._add((True, False, number, x, y), count)
            self._add((True, True, number, x, y), count)
        else:
            self._make(number, op, count, x, y)
            self._make(number, op, count, y, x)

    def _add(self, row: _Row, count: int) -> None:
        self._plain[row] = self._plain.get(row, 0) + count

    def _make(self, number: int, op: Op, count: int, x: int, y: int) -> None:
        """Takes in a join that is in canonical form something else."""
        node = self._pool.apply(op, self._nodes[x], self._nodes[y])
        base = node.args[0] if node.op.name == "neg" else node
        if base.op.name in JOINS and base.args[0] is not base.args[1] and all(a in self._place for a in base.args):
            p, q = (self._place[a] for a in base.args)
            self._add((True, base is not node, JOINS.index(base.op.name), p, q), count)
        else:
            root = layered(self._pool, node, "mean")  # a matrix and a Scalar can have one Score
            self._odd.setdefault(root, (node, [number, x, y, 0]))[1][3] += count

    def _odd_ones(self) -> list[tuple[bool | int, ...]]:
        nodes = [node for node, _ in self._odd.values()]
        valid = _valid(self._pool, nodes)
        return [(False, False, *found, bits) for (_, found), bits in zip(self._odd.values(), valid, strict=True)]

    def _plain_ones(self) -> list[tuple[bool | int, ...]]:
        keys = [(number, self._classes[x], self._classes[y]) for _, _, number, x, y in self._plain]
        examples = {key: row[2:] for key, row in zip(keys, self._plain, strict=True)}
        made = [
            self._pool.apply(OPS[JOINS[number]], self._nodes[x], self._nodes[y]) for number, x, y in examples.values()
        ]
        verdicts = dict(zip(examples, _valid(self._pool, made), strict=True))
        return [(*row, many, verdicts[key]) for key, (row, many) in zip(keys, self._plain.items(), strict=True)]


def _valid(pool: CanonicalPool, nodes: Sequence[Node]) -> list[int]:
    """For each join the layer reductions with which it compiles, a bit each."""
    found = np.zeros(len(nodes), np.uint8)
    for layer, name in enumerate(LAYERS):
        roots = [layered(pool, node, name) for node in nodes]
        found |= np.array([(error is None) << layer for error in refusals(roots)], np.uint8).reshape(len(nodes))
    return [int(v) for v in found]


def layered(pool: CanonicalPool, node: Node, layers: str) -> Node:
    """The Score of a Matrix, by its mean, or of a Scalar with one of `LAYERS`."""
    node = pool.apply(OPS["mean"], node) if node.type.kind is Kind.MATRIX else node
    return pool.apply(OPS[f"layer_{layers}"], node)


def join_of(branches: Branches, row: Sequence[int]) -> Node:
    """The join of branches that a row of `Joins` is."""
    names = [JOINS[op] for op in (row[0], *row[3::2])]
    return joined(branches.pool, names, [branches.nodes[i] for i in (row[1], *row[2::2])])


def _classes(pool: CanonicalPool, nodes: Sequence[Node]) -> list[int]:
    """Branches of one class are, without data, known to have the same values: what compiles with one does with all."""
    analyser = Analyser()
    roots = [layered(pool, node, "mean") for node in nodes]
    keys: dict[Any, int] = {}
    found = []
    for node, root, error in zip(nodes, roots, analyser.check(roots), strict=True):
        if root.op.name == "neg":  # then the branch itself was not looked at
            key: Any = node
        else:
            span = analyser.span(node)
            parts = tuple(np.asarray(getattr(span, f.name)).tobytes() for f in fields(span))
            key = (node.type, parts, error is not None and error.kind)
        found.append(keys.setdefault(key, len(keys)))
    return found


def _joins(space: TreeSpace, matrices: int) -> list[tuple[int, Op, int]]:
    """The joins of two branches of which so many are matrices: number, op, and how many ops of the space it stands for.

    Of two Scalars ``@`` and ``dot`` are their product; of a Scalar and a matrix there is none.
    """
    products = [n for n in ("@", "dot") if n in space.binary and matrices != 1]
    names = dict.fromkeys((n for n in JOINS if n in space.binary and n not in ("@", "dot")), 1)
    for name in products:
        as_what = "*" if matrices == 0 else name
        names[as_what] = names.get(as_what, 0) + 1
    return [(JOINS.index(name), OPS[name], times) for name, times in names.items()]
