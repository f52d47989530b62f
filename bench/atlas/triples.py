"""Atlases of spaces with three branches: each program is listed by itself, and run as any program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS, Op
from ...search.spaces.tree import TreeSpace
from ...search.spaces.valid import refusals
from .branches import Branches, Joins
from .build import Block, Building, Told
from .listing import PROGRAM, Listing, check_space
from .patterns import JOINS, LAYERS, layered
from .ranks import Ranks
from .task import Task

Row = tuple[int, ...]


def building(task: Task, out: Path, threads: int, backend: str, told: Told) -> Building:
    """What builds an atlas in a folder, see `Building`."""
    return (Building if task.space.branches == 2 else OneByOne)(task, out, threads, backend, told)


class OneByOne(Building):
    """Runs every program."""

    def _listed(self, told: Callable[[float], None]) -> Listing:
        return list_triples(self._task.space, self._branches, told)

    def _compute(self, joins: Joins) -> None:
        def block(rows: NDArray[np.int64], keep: bool) -> Block:
            made = self._run(joins[rows])
            scores = made.scores if keep else made.scores[:0]
            return Ranks(made.status, made.agree, made.untied, scores), rows[:0]

        self._timed("ranks", lambda: self._rank(joins, self._meeting(joins), block))

    def _meeting(self, joins: Joins) -> NDArray[np.int64]:
        """None has values of its own."""
        return np.empty(0, np.int64)


class _Programs:
    """Programs of one layer reduction by canonical hash. ``same``: whether a program is its join, not minus that."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        self.roots: list[Node] = []
        self.joins: list[int] = []
        self.same: list[bool] = []
        self.many: list[int] = []

    def add(self, root: Node, join: int, same: bool, many: int) -> None:
        """Takes in so many genotypes of a program."""
        place = self.places.setdefault(root.digest, len(self.roots))
        if place == len(self.roots):
            self.roots.append(root)
            self.joins.append(join)
            self.same.append(same)
            self.many.append(0)
        self.many[place] += many

    def valid(self) -> NDArray[np.bool_]:
        """Which compile."""
        return np.array([error is None for error in refusals(self.roots)], np.bool_)

    def table(self, valid: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[Any]:
        """`PROGRAM`, sorted by key; ``places``: of the joins in the atlas."""
        made = np.empty(len(self.roots), PROGRAM)
        made["key"] = [int.from_bytes(root.digest[:8], "big") for root in self.roots]
        made["place"] = 2 * places[self.joins] + ~np.array(self.same, np.bool_)
        made["many"] = self.many
        made = made[valid]
        return made[np.argsort(made["key"])]


def list_triples(space: TreeSpace, branches: Branches, told: Callable[[float], None]) -> Listing:
    """The programs of a space with three branches. ``told``: the share that is done."""
    check_space(space)
    many = [len(genes) for genes in branches.genes] * len(branches.statistics)
    pairs: dict[Node, tuple[Row, int]] = {}
    for x, a in enumerate(branches.nodes):
        for y, number, node in _joins(space, branches, a):
            row, count = pairs.get(node, ((number, x, y), 0))
            pairs[node] = row, count + many[x] * many[y]
    programs = tuple(_Programs() for _ in LAYERS)
    rows: list[Row] = []
    signs: list[list[bool]] = []
    known: dict[tuple[bytes, ...], int] = {}
    for i, (pair, (first, count)) in enumerate(pairs.items()):
        for z, number, node in _joins(space, branches, pair):
            roots = [layered(branches.pool, node, layers) for layers in LAYERS]
            minus = [root.op.name == "neg" for root in roots]
            values = tuple((root.args[0] if of else root).digest for root, of in zip(roots, minus, strict=True))
            join = known.setdefault(values, len(rows))
            if join == len(rows):
                rows.append((*first, number, z))
                signs.append(minus)
            for layer, (root, of) in enumerate(zip(roots, minus, strict=True)):
                programs[layer].add(root, join, of == signs[join][layer], count * many[z])
        told((i + 1) / len(pairs))
    valid = [found.valid() for found in programs]
    used = np.zeros(len(rows), np.bool_)
    for found, accepted in zip(programs, valid, strict=True):
        used[np.array(found.joins)[accepted]] = True
    places = np.cumsum(used) - 1
    tables = tuple(found.table(accepted, places) for found, accepted in zip(programs, valid, strict=True))
    return Listing(tables, np.array(rows, branches.number).reshape(-1, 5)[used])


def _joins(space: TreeSpace, branches: Branches, first: Node) -> Iterator[tuple[int, int, Node]]:
    """The joins of a node with every branch: the branch, the number of the op, and the join."""
    for y, second in enumerate(branches.nodes):
        for name in space.binary:
            node = _made(branches.pool, OPS[name], first, second)
            if node is not None:
                yield y, JOINS.index(name), node


def _made(pool: Pool, op: Op, a: Node, b: Node) -> Node | None:
    """The join; None where there is none."""
    try:
        return pool.apply(op, a, b)
    except ProxyError:
        return None
