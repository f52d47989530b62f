"""The programs of a tree space, counted without making each of them.

Nothing in the language knows a statistic or an axis by its name. So whether a program compiles, and which programs are
one, stays the same when statistics and axes get other names. Branches are therefore joined for two stand-ins, once for
each way in which the axes of two inputs can agree, and what is found holds for every pair of inputs that agrees so.
Branches that are one canonical program are joined once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product

from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxyError
from ..grammar.expr import Node, Pool
from ..grammar.ops import OPS, STATISTIC, Op
from ..grammar.types import STATISTICS, Kind, Type, matrix
from ..search.spaces.tree import TreeSpace
from ..search.spaces.valid import Check

ROOM = 50_000
"""Nodes of a pool before it is thrown away: those of all programs do not fit into memory."""
STAND_INS = tuple(STATISTICS)[:2]
"""What the stand-ins are called."""

Shapes = tuple[Type, ...]
"""The types of one or two stand-ins."""
Branches = list[tuple[Node, int]]
"""Canonical branches, and how many genotypes each has."""


@dataclass
class _Programs:
    """Joins of branches on stand-ins, in both orders. ``valid``: genotypes that compile.

    Digests of the programs, by what they read: ``both`` stand-ins; ``one``: the first or the second alone, written as
    programs of the first; ``none``.
    """

    valid: int = 0
    both: set[bytes] = field(default_factory=set)
    one: tuple[set[bytes], set[bytes]] = field(default_factory=lambda: (set(), set()))
    none: set[bytes] = field(default_factory=set)


class _Jobs:
    """What has to be joined: the stand-ins of each input ``alone``, of each of the ``pairs``, and of one pair the joins
    with a Scalar, ``mixed``, as then the axes do not matter."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self.alone = {name: renamed(STATISTICS[name].type) for name in inputs}
        self.pairs = dict(_agreement(*names) for names in combinations(inputs, 2))
        self.mixed = next(((shapes, False) for shapes in self.pairs.values()), None)

    def all(self) -> list[tuple[Shapes, bool | None]]:
        """Each once: the stand-ins, and the joins that `_joined` makes of them."""
        jobs: list[tuple[Shapes, bool | None]] = [(shapes, None) for shapes in dict.fromkeys(self.alone.values())]
        jobs += [(shapes, True) for shapes in dict.fromkeys(self.pairs.values())]
        return jobs + ([] if self.mixed is None else [self.mixed])


def count_trees(space: TreeSpace, check: Check, told: Callable[[float], None]) -> tuple[int, int]:
    """How many genotypes compile, and how many canonical programs these are. ``told``: the share that is done."""
    made = _Jobs(space.inputs)
    jobs = made.all()
    found: dict[tuple[Shapes, bool | None], _Programs] = {}
    for i, (shapes, matrices) in enumerate(jobs):
        found[shapes, matrices] = programs = _Programs()
        for share in _joined(space, shapes, matrices, check, programs):
            told((i + share) / len(jobs))
    parts: list[tuple[tuple[str, ...], list[_Programs]]] = []
    parts += [((name,), [found[shapes, None]]) for name, shapes in made.alone.items()]
    if made.mixed is not None:
        parts += [(names, [found[shapes, True], found[made.mixed]]) for names, shapes in made.pairs.items()]
    valid = sum(p.valid for _, programs in parts for p in programs)
    return valid, _distinct(space.inputs, parts)


def joins_of(space: TreeSpace) -> int:
    """About so many joins `count_trees` makes."""
    found = 0
    for shapes, matrices in _Jobs(space.inputs).all():
        left, right = _both_sides(space, shapes, canonical_pool())
        examples = [{node.type: node for node, _ in side} for side in (left, right)]
        many, as_many = (Counter(node.type for node, _ in side) for side in (left, right))
        joins = sum(
            len(_ways(space.binary, a, b)) * many[a.type] * as_many[b.type]
            for a, b in product(*(example.values() for example in examples))
            if matrices in (None, a.type.kind is b.type.kind is Kind.MATRIX)
        )
        found += joins // 2 if right is left else joins  # of one stand-in each pair once
    return found


def _distinct(inputs: tuple[str, ...], parts: list[tuple[tuple[str, ...], list[_Programs]]]) -> int:
    """Canonical programs: those that read two inputs, one, and none."""
    sizes: dict[tuple[int, ...], int] = {}
    count = 0
    for _, programs in parts:
        key = tuple(map(id, programs))
        if key not in sizes:
            sizes[key] = len(set().union(*(p.both for p in programs)))
        count += sizes[key]
    for name in inputs:
        mine = [p.one[names.index(name)] for names, programs in parts if name in names for p in programs]
        count += len(set().union(*mine))
    return count + len(set().union(*(p.none for _, programs in parts for p in programs)))


def _joined(
    space: TreeSpace, shapes: Shapes, matrices: bool | None, check: Check, programs: _Programs
) -> Iterator[float]:
    """Adds the joins of two matrices (True), those with a Scalar (False), or all (None) to ``programs``.

    Tells the share that is done.
    """
    pool = canonical_pool()
    left, right = _both_sides(space, shapes, pool)
    ways: dict[tuple[Type, Type], list[_Way]] = {}
    for i in range(len(left)):
        if len(pool) > ROOM:
            pool = canonical_pool()  # the branches too: equal nodes are one node in one pool only
            left, right = _both_sides(space, shapes, pool)
        a, many = left[i]
        roots: dict[Node, int] = {}
        joins: dict[Node, int] = {}
        for b, as_many in right[i:] if right is left else right:
            if matrices not in (None, a.type.kind is b.type.kind is Kind.MATRIX):
                continue
            if (a.type, b.type) not in ways:
                ways[a.type, b.type] = _ways(space.binary, a, b)
            for op, exchanged, count in ways[a.type, b.type]:
                if right is left and a is b:  # both orders are one
                    if exchanged:
                        continue
                    count = 1
                node = _made(pool, op, b, a) if exchanged else _made(pool, op, a, b)
                if node is not None:
                    joins[node] = joins.get(node, 0) + many * as_many * count
        for node, count in joins.items():
            root = pool.score(node)
            roots[root] = roots.get(root, 0) + count
        _enter(roots, check, programs, shapes)
        yield (i + 1) / len(left)


_Way = tuple[Op, bool, int]
"""An op that joins two branches, whether they change sides, and how many orders give that join."""


def _ways(binary: tuple[str, ...], a: Node, b: Node) -> list[_Way]:
    """How branches of these types can be joined."""
    ways: list[_Way] = []
    for op in map(OPS.__getitem__, binary):
        if op.commutative:
            ways += [(op, False, 2)] if _made(Pool(), op, a, b) else []
        else:
            ways += [(op, False, 1)] if _made(Pool(), op, a, b) else []
            ways += [(op, True, 1)] if _made(Pool(), op, b, a) else []
    return ways


def _both_sides(space: TreeSpace, shapes: Shapes, pool: Pool) -> tuple[Branches, Branches]:
    sides = []
    for name, type_ in zip(STAND_INS, shapes, strict=False):
        leaf = stand_in(name, type_, pool)
        nodes: Counter[Node] = Counter()
        for node, _ in branches_over(space, pool, leaf):
            nodes[node] += 1
        sides.append(list(nodes.items()))
    return sides[0], sides[-1]


def branches_over(space: TreeSpace, pool: Pool, leaf: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """The branches over a leaf that type-check, in the order of the genotypes, and the ops of each."""
    found: list[tuple[Node, tuple[str, ...]]] = [(leaf, ())]
    for _ in range(space.unaries):
        longer = []
        for node, ops in found:
            for op in space.unary:
                try:
                    longer.append((pool.apply(OPS[op], node), (*ops, op)))
                except ProxyError:
                    continue
        found = longer
    return iter(found)


def stand_in(name: str, type_: Type, pool: Pool) -> Node:
    """The statistic, as if it had that type."""
    leaf = pool.statistic(name)
    return Node(leaf.op, leaf.args, leaf.attr, type_, leaf.facts, leaf.digest)


def _made(pool: Pool, op: Op, a: Node, b: Node) -> Node | None:
    """The join; None where there is none."""
    try:
        return pool.apply(op, a, b)
    except ProxyError:
        return None


def _enter(roots: dict[Node, int], check: Check, programs: _Programs, shapes: Shapes) -> None:
    """Counts those that compile, and keeps their digests."""
    reads: dict[Node, frozenset[str]] = {}
    for (root, count), error in zip(roots.items(), check(list(roots)), strict=True):
        if error is not None:
            continue
        programs.valid += count
        names = _reads(root, reads)
        if len(names) == 2:
            programs.both.add(root.digest)
        elif names == {STAND_INS[0]}:
            programs.one[0].add(root.digest)
        elif names:
            pool = canonical_pool()
            leaf = stand_in(STAND_INS[0], shapes[-1], pool)
            programs.one[1].add(_moved(root, leaf, pool).digest)
        else:
            programs.none.add(root.digest)


def _reads(node: Node, known: dict[Node, frozenset[str]]) -> frozenset[str]:
    """The stand-ins that a node reads."""
    if node not in known:
        own = frozenset({str(node.attr)} if node.op is STATISTIC else ())
        known[node] = own.union(*(_reads(a, known) for a in node.args))
    return known[node]


def _moved(node: Node, leaf: Node, pool: Pool) -> Node:
    """The same program of another statistic."""
    if node.op is STATISTIC:
        return leaf
    return pool.apply(node.op, *(_moved(a, leaf, pool) for a in node.args)) if node.args else node


def renamed(*types: Type) -> Shapes:
    """The types with axes called by number, in the order in which they come."""
    number: dict[str, str] = {}
    return tuple(matrix(*(number.setdefault(axis, str(len(number))) for axis in (t.rows, t.cols))) for t in types)


def _agreement(first: str, second: str) -> tuple[tuple[str, str], Shapes]:
    """Two inputs, in the order that makes their renamed types the smaller ones, and these."""
    orders = ((first, second), (second, first))
    types = {names: renamed(*(STATISTICS[name].type for name in names)) for names in orders}
    names = min(orders, key=lambda names: str([str(t) for t in types[names]]))
    return names, types[names]
