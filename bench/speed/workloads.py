"""Programs and data that every engine can run: elementwise expressions over arrays of one shape, then a mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Function = Callable[..., Any]

ARRAYS = 3
UNARY = ("exp", "logabs", "sqrtabs", "tanh", "square", "abs")
BINARY = ("+", "-", "*", "/")
NODES = 6
"""Operator nodes of a random program, on average."""
_PROBE = 100_000
_LOST = 64.0
"""A number is lost where float32's error is a 64th of it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """``op`` of ``args``; a leaf is the array number ``index``."""

    op: str
    args: tuple[Tree, ...] = ()
    index: int = 0

    @property
    def nodes(self) -> int:
        """Operator nodes."""
        return sum(a.nodes for a in self.args) + bool(self.args)

    def __str__(self) -> str:
        if not self.args:
            return f"x{self.index}"
        inner = [str(a) for a in self.args]
        return f"({inner[0]} {self.op} {inner[1]})" if len(inner) == 2 else f"{self.op}({inner[0]})"


@dataclass(frozen=True)
class Workload:
    """``trees``: the programs. ``data``: float32 ``[ARRAYS, elements]``."""

    name: str
    trees: tuple[Tree, ...]
    data: Floats

    @property
    def elements(self) -> int:
        """Elements of one array."""
        return int(self.data.shape[1])

    @property
    def nodes(self) -> int:
        """Operator nodes of all programs."""
        return sum(t.nodes for t in self.trees)

    @property
    def shared(self) -> float:
        """The part of the operator nodes that is equal to another one before it."""
        return 1.0 - len(set[Tree]().union(*(_operators(t) for t in self.trees))) / self.nodes


def _operators(tree: Tree) -> set[Tree]:
    return {tree}.union(*(_operators(a) for a in tree.args)) if tree.args else set()


def random_workload(programs: int, elements: int, seed: int = 0) -> Workload:
    """Independent random programs of about `NODES` operator nodes."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0, 1, (ARRAYS, elements)).astype(np.float32)
    trees: list[Tree] = []
    while len(trees) < programs:
        tree = _random_tree(rng, int(rng.integers(NODES - 2, NODES + 3)))
        if _steady(tree, data):
            trees.append(tree)
    return Workload(f"random-{programs}", tuple(trees), data)


def evolved_workload(programs: int, elements: int, seed: int = 0) -> Workload:
    """A population as mutation leaves it: each program is a parent of an earlier one with one subtree exchanged."""
    rng = np.random.default_rng(seed)
    first = random_workload(max(1, programs // 20), elements, seed)
    trees = list(dict.fromkeys(first.trees))
    while len(trees) < programs:
        parent = trees[int(rng.integers(len(trees)))]
        child = _mutated(parent, rng)
        if NODES - 2 <= child.nodes <= NODES + 2 and child not in trees and _steady(child, first.data):
            trees.append(child)
    return Workload(f"evolved-{programs}", tuple(trees), first.data)


def _random_tree(rng: np.random.Generator, nodes: int) -> Tree:
    if nodes == 0:
        return Tree("x", index=int(rng.integers(ARRAYS)))
    if nodes == 1 or rng.random() < 0.5:
        return Tree(str(rng.choice(UNARY)), (_random_tree(rng, nodes - 1),))
    left = int(rng.integers(nodes))
    return Tree(str(rng.choice(BINARY)), (_random_tree(rng, left), _random_tree(rng, nodes - 1 - left)))


def _mutated(tree: Tree, rng: np.random.Generator) -> Tree:
    """One small subtree exchanged for another."""
    if tree.nodes <= 2:
        return _random_tree(rng, int(rng.integers(1, 3)))
    sizes = np.array([max(a.nodes, 0.5) for a in tree.args])
    chosen = int(rng.choice(len(tree.args), p=sizes / sizes.sum()))
    args = tuple(_mutated(a, rng) if i == chosen else a for i, a in enumerate(tree.args))
    return Tree(tree.op, args)


def _steady(tree: Tree, data: Floats) -> bool:
    """Whether float32 gives the mean to five digits, whatever log(0) is (0 in our language), and no few elements make
    it: else there is nothing to compare."""
    probe = data[:, :_PROBE]
    ours = NUMPY | {"logabs": lambda x: np.where(x == 0, x, np.log(np.abs(x)))}
    with np.errstate(all="ignore"):
        wide, narrow = (composed(tree, t)(probe.astype(n)) for n, t in ((np.float64, NUMPY), (np.float32, ours)))
        exact, rough = (float(v.mean(dtype=np.float64)) for v in (wide, narrow))
        largest = float(np.abs(wide).max()) / probe.shape[1]
    return bool(1e-3 < abs(exact) < 1e6 and abs(exact - rough) < 1e-5 * abs(exact) and largest < 0.02 * abs(exact))


def composed(tree: Tree, table: Mapping[str, Function]) -> Function:
    """The program as one function of the sequence of arrays, made of the functions of a library."""
    if not tree.args:
        index = tree.index
        return lambda arrays: arrays[index]
    function, inner = table[tree.op], [composed(a, table) for a in tree.args]
    if len(inner) == 1:
        (only,) = inner
        return lambda arrays: function(only(arrays))
    left, right = inner
    return lambda arrays: function(left(arrays), right(arrays))


NUMPY: dict[str, Function] = {
    "exp": np.exp,
    "logabs": lambda x: np.log(np.abs(x)),
    "sqrtabs": lambda x: np.sqrt(np.abs(x)),
    "tanh": np.tanh,
    "square": np.square,
    "abs": np.abs,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def expected(workload: Workload) -> NDArray[np.float64]:
    """The mean of every program in float64, ``[P]``, a part of the elements at a time."""
    sums = np.zeros(len(workload.trees))
    compute = [composed(t, NUMPY) for t in workload.trees]
    with np.errstate(all="ignore"):
        for part in _parts(workload):
            wide = part.astype(np.float64)
            sums += [float(f(wide).sum()) for f in compute]
    return sums / workload.elements


def delicate(workload: Workload, wanted: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Which programs float32 cannot be trusted with, bool ``[P]``: on the way an element is not finite, or a divisor or
    the operand of a logarithm has lost its digits, so that it may be 0; or the mean is not the one that is wanted. With
    a thousand programs and millions of elements there are some."""
    broken = False

    def watched(name: str, function: Function) -> Function:
        def call(*pairs: tuple[Any, Any]) -> tuple[Any, Any]:
            nonlocal broken
            wide, narrow = (function(*operands) for operands in zip(*pairs, strict=True))
            broken = broken or not np.isfinite(narrow).all()
            if name in ("/", "logabs"):
                exact, rough = pairs[-1]
                broken = broken or bool((np.abs(exact) <= _LOST * np.abs(exact - rough)).any())
            return wide, narrow

        return call

    table = {name: watched(name, function) for name, function in NUMPY.items()}
    found = []
    for tree, mean in zip(workload.trees, wanted, strict=True):
        broken, total, compute = False, 0.0, composed(tree, table)
        with np.errstate(all="ignore"):
            for part in _parts(workload):
                _, narrow = compute([(x.astype(np.float64), x) for x in part])
                total += float(narrow.sum(dtype=np.float64))
        found.append(broken or not abs(total / workload.elements - mean) <= tolerance * abs(mean))
    return np.array(found)


def _parts(workload: Workload) -> list[Floats]:
    return np.array_split(workload.data, -(-workload.elements // _PROBE), axis=1)
