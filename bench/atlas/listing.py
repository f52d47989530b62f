"""All programs of a tree space: for each its canonical hash, and the join of two branches that has its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError
from ...grammar.expr import Node, own_bytes
from ...grammar.ops import OPS, Form
from ...grammar.types import STATISTICS, Kind
from ...search.spaces.tree import TreeSpace
from ..tree_count import renamed
from .branches import Branches, Joins
from .hashing import Words, hashes, keys, words
from .patterns import JOINS, LAYERS, Pattern, layered, programs_of

PLUS, MINUS, TIMES, MATMUL, DIVIDE, DOT = range(6)
PROGRAM = np.dtype([("key", "<u8"), ("place", "<u4"), ("many", "<u4")])
"""A program. ``key``: the first 8 bytes of its canonical hash, as a number. ``place``: twice the number of the join
that has its value, plus 1 where the program is minus that. ``many``: genotypes."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The programs of a tree space with each layer reduction, and the joins that have their values.

    ``programs``: for each of `LAYERS` `PROGRAM`, sorted by key. ``joins``: ``[R, 3]``, number of the op and two
    branches, none a negation; of + and * the first branch is not after the second, of - neither.
    """

    programs: tuple[NDArray[Any], ...]
    joins: Joins


def check_space(space: TreeSpace) -> None:
    """Raises ProxforgeError ``config`` where a join of the space is no algebra of its branches."""
    for name in space.binary:
        if name not in JOINS:
            raise ProxforgeError(
                "config", f"an atlas joins by {' '.join(JOINS)}, not by '{name}': leave it out of --ops"
            )
    for name in space.unary:
        if OPS[name].form not in (Form.MAP, Form.REDUCE):
            raise ProxforgeError("config", f"'{name}' changes the shape of a matrix; an atlas has no ops that do")


def list_programs(space: TreeSpace, branches: Branches, told: Callable[[float], None]) -> Listing:
    """The programs of a space. ``told``: the share that is done."""
    check_space(space)
    single, pairs = patterns_of(branches.statistics)
    wanted = dict.fromkeys((*single.values(), *(p for found in pairs.values() for p in found)))
    found = programs_of(space, tuple(wanted), told)
    rows, digests = [], []
    for names, patterns in ({(name,): (p,) for name, p in single.items()} | pairs).items():
        starts = [branches.statistics.index(name) * branches.each for name in names]
        for pattern in patterns:
            made, hashed = _instances(found[pattern], starts, branches)
            rows.append(made)
            digests.append(hashed)
    every = np.concatenate(rows)
    hashed = np.concatenate(digests, axis=1)
    codes, signs = _normal(every, branches)
    size = len(branches.nodes)
    joins, place = np.unique(codes, return_inverse=True)
    programs = []
    for layer in range(len(LAYERS)):
        chosen = np.flatnonzero(every["valid"] >> layer & 1)
        made = np.empty(len(chosen), PROGRAM)
        made["key"] = hashed[layer, chosen]
        made["place"] = 2 * place.ravel()[chosen] + (signs[chosen] < 0)
        made["many"] = every["many"][chosen]
        made = made[np.argsort(made["key"])]
        assert (made["key"][1:] != made["key"][:-1]).all(), "two programs of one space share 8 bytes of their hashes"
        programs.append(made)
    branches_of = np.stack([joins // size**2, joins // size % size, joins % size], axis=1)
    return Listing(tuple(programs), branches_of.astype(branches.number))


def patterns_of(
    statistics: Sequence[str],
) -> tuple[dict[str, Pattern], dict[tuple[str, ...], tuple[Pattern, Pattern]]]:
    """The patterns of each statistic alone, and of each pair, in the order of their table."""
    types = {name: STATISTICS[name].type for name in statistics}
    single = {name: Pattern(renamed(types[name]), False) for name in statistics}
    shapes = {names: renamed(*(types[n] for n in names)) for names in combinations(statistics, 2)}
    mixed = Pattern(next(iter(shapes.values()), ()), False)  # where a Scalar takes part, the axes do not matter
    return single, {names: (Pattern(shape, True), mixed) for names, shape in shapes.items()}


def _instances(rows: NDArray[Any], starts: Sequence[int], branches: Branches) -> tuple[NDArray[Any], Words]:
    """The programs of a pattern for statistics whose branches start there, and their keys ``[layers, P]``."""
    made = np.empty(len(rows), [("plain", "?"), ("negated", "?"), ("op", "u1"), ("x", "i8"), ("y", "i8"),
                                ("many", "u4"), ("valid", "u1")])  # fmt: skip
    for name in ("plain", "negated", "op", "many", "valid"):
        made[name] = rows[name]
    first = np.array(starts)
    for name in ("x", "y"):
        side, chain = np.divmod(rows[name].astype(np.int64), branches.each)
        made[name] = first[side] + chain
    found = np.empty((len(LAYERS), len(rows)), np.uint64)
    plain = np.flatnonzero(made["plain"])
    found[:, plain] = _plain_keys(made[plain], branches)
    for i in np.flatnonzero(~made["plain"]).tolist():
        found[:, i] = [_key(node) for node in scores(made[i], branches)]
    return made, found


def scores(row: Any, branches: Branches) -> list[Node]:
    """The Scores of a join of two branches with each of `LAYERS`."""
    pool = branches.pool
    node = pool.apply(OPS[JOINS[row["op"]]], branches.nodes[row["x"]], branches.nodes[row["y"]])
    return [layered(pool, node, name) for name in LAYERS]


def _key(node: Node) -> int:
    return int.from_bytes(node.digest[:8], "big")


def _plain_keys(made: NDArray[Any], branches: Branches) -> Words:
    """The keys of programs that are a join of branches, or minus one, ``[layers, P]``."""
    digest = np.array([words(node.digest) for node in branches.nodes], np.uint64)
    x, y, op = made["x"], made["y"], made["op"]
    exchanged = (op != MATMUL) & (op != DIVIDE) & (branches.ordinal[x] > branches.ordinal[y])
    negated = made["negated"] ^ (exchanged & (op == MINUS))
    a, b = digest[np.where(exchanged, y, x)], digest[np.where(exchanged, x, y)]
    matrix = (branches.matrix[x] | branches.matrix[y]) & (op != DOT)
    joined = np.empty((len(made), 2), np.uint64)
    for number, name in enumerate(JOINS):
        for kind in (Kind.MATRIX, Kind.SCALAR):
            chosen = np.flatnonzero((op == number) & (matrix == (kind is Kind.MATRIX)))
            joined[chosen] = hashes(own_bytes(name, "", kind), a[chosen], b[chosen])
    chosen = np.flatnonzero(matrix)
    joined[chosen] = hashes(own_bytes("mean", "", Kind.SCALAR), joined[chosen])
    found = np.empty((len(LAYERS), len(made)), np.uint64)
    minus = np.flatnonzero(negated)
    for layer, name in enumerate(LAYERS):
        score = hashes(own_bytes(f"layer_{name}", "", Kind.SCORE), joined)
        score[minus] = hashes(own_bytes("neg", "", Kind.SCORE), score[minus])
        found[layer] = keys(score)
    return found


def _normal(rows: NDArray[Any], branches: Branches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The join of branches without negations that has each program's value but for its sign, as one number, and the
    sign."""
    op = rows["op"].astype(np.int64)
    x, y = branches.base[rows["x"]], branches.base[rows["y"]]
    of_x, of_y = branches.sign[rows["x"]], branches.sign[rows["y"]]
    op = np.where((op == MATMUL) & ~branches.matrix[x], TIMES, op)
    added = (op == PLUS) | (op == MINUS)
    differ = (of_x != of_y) ^ (op == MINUS)  # x - y after the signs of the branches are taken into account
    sign = np.where(added, of_x, of_x * of_y)
    op = np.where(added, np.where(differ, MINUS, PLUS), op)
    swap = (op != MATMUL) & (op != DIVIDE) & (x > y)
    sign = np.where(swap & (op == MINUS), -sign, sign)
    sign = np.where(rows["plain"] & rows["negated"], -sign, sign)
    x, y = np.where(swap, y, x), np.where(swap, x, y)
    size = len(branches.nodes)
    return (op * size + x) * size + y, sign
