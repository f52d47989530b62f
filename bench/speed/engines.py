"""One workload on one engine: what turns programs into something that runs, and what runs.

An engine is prepared once per workload; timed is the evaluation of all programs, as a search repeats it. The other
engines are optional: one that is not installed is left out, and said so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.canonical import canonical_pool
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS
from ...stats_cache.memory import MemoryCache
from ...vm.backends.cpu import CpuBackend
from ...vm.compile import compile_nodes
from ...vm.program import Program
from .workloads import ARRAYS, NUMPY, Function, Tree, Workload, composed

Means = NDArray[np.float64]
Real = type[np.floating[Any]]

OPERON_BYTES = 1 << 28
"""Operon writes the values of all programs that it is given at once; so much of them at a time."""


@dataclass(frozen=True)
class Prepared:
    """``run`` evaluates all programs. ``means``: once, their means ``[P]``, to be compared."""

    run: Callable[[], object]
    means: Callable[[], Means]


def source_of(workload: Workload) -> MemoryCache:
    """The arrays as statistics of one type, one network, one layer."""
    rows = next(r for r in range(int(workload.elements**0.5), 0, -1) if workload.elements % r == 0)
    arrays = zip("wgv", workload.data.reshape(ARRAYS, rows, -1), strict=True)
    return MemoryCache([{f"qkv.{kind}": [array] for kind, array in arrays}])


def program_of(trees: Sequence[Tree]) -> Program:
    """The programs in bytecode."""
    pool = canonical_pool()
    return compile_nodes([pool.score(_node(t, pool)) for t in trees])


def _node(tree: Tree, pool: Pool) -> Node:
    if not tree.args:
        return pool.statistic(f"qkv.{'wgv'[tree.index]}")
    args = [_node(a, pool) for a in tree.args]
    if tree.op == "logabs":
        return pool.apply(OPS["abslog"], *args)
    if tree.op == "sqrtabs":
        return pool.apply(OPS["sqrt"], pool.apply(OPS["abs"], *args))
    return pool.apply(OPS[tree.op], *args)


def proxforge(workload: Workload, threads: int, number: Real = np.float64) -> Prepared:
    """The cpu backend."""
    chosen = CpuBackend(source_of(workload), [0], threads, number, remembered=0)
    program = program_of(workload.trees)

    def run() -> Means:
        return chosen.run(program)[0][:, 0]

    return Prepared(run, run)


def numpy(workload: Workload, threads: int) -> Prepared:
    """numpy, float32, one array at a time."""
    programs, arrays = [composed(t, NUMPY) for t in workload.trees], tuple(workload.data)

    def run() -> Means:
        with np.errstate(all="ignore"):
            return np.array([float(f(arrays).mean(dtype=np.float64)) for f in programs])

    return Prepared(run, run)


def torch(workload: Workload, threads: int, compiled: bool = False) -> Prepared:
    """torch, float32, eager or compiled, program by program."""
    import torch as library

    from ...stats_cache.passes import on_threads

    table: dict[str, Function] = {
        "exp": library.exp,
        "logabs": lambda x: library.log(library.abs(x)),
        "sqrtabs": lambda x: library.sqrt(library.abs(x)),
        "tanh": library.tanh,
        "square": library.square,
        "abs": library.abs,
        "+": library.add,
        "-": library.sub,
        "*": library.mul,
        "/": library.div,
    }
    arrays = tuple(library.from_numpy(x) for x in workload.data)
    programs: list[Callable[..., Any]] = []
    for tree in workload.trees:
        whole = _mean_of(composed(tree, table))
        programs.append(library.compile(whole, dynamic=False) if compiled else whole)

    def run() -> Means:
        with on_threads(threads), library.inference_mode():
            return np.array([float(f(arrays)) for f in programs])

    return Prepared(run, run)


def _mean_of(values: Function) -> Function:
    """A function with code of its own: torch.compile keeps few versions of the same code."""

    def whole(arrays: Any) -> Any:
        return values(arrays).mean()

    whole.__code__ = whole.__code__.replace()
    return whole


def numexpr(workload: Workload, threads: int) -> Prepared:
    """numexpr, float32, program by program."""
    import numexpr as library

    single = float  # as numexpr calls it; double is np.float64

    table = {
        "exp": "exp({})",
        "logabs": "log(abs({}))",
        "sqrtabs": "sqrt(abs({}))",
        "tanh": "tanh({})",
        "square": "(({0})*({0}))",
        "abs": "abs({})",
        **{op: f"({{}} {op} {{}})" for op in "+-*/"},
    }

    def text(tree: Tree) -> str:
        return table[tree.op].format(*map(text, tree.args)) if tree.args else f"x{tree.index}"

    programs = [library.NumExpr(text(t), [(f"x{i}", single) for i in _used(t)]) for t in workload.trees]
    arguments = [[workload.data[i] for i in _used(t)] for t in workload.trees]

    def run() -> Means:
        before = library.set_num_threads(threads)
        try:
            pairs = zip(programs, arguments, strict=True)
            return np.array([float(f(*xs).mean(dtype=np.float64)) for f, xs in pairs])
        finally:
            library.set_num_threads(before)

    return Prepared(run, run)


def _used(tree: Tree) -> list[int]:
    return sorted(set().union(*map(_used, tree.args))) if tree.args else [tree.index]


def gplearn(workload: Workload, threads: int) -> Prepared:
    """gplearn's own interpreter, with functions that do what ours do."""
    from gplearn._program import _Program
    from gplearn.functions import _Function
    from sklearn.utils import check_random_state

    arity = {op: 2 if op in "+-*/" else 1 for op in NUMPY}
    table = {op: _Function(f, op, arity[op]) for op, f in NUMPY.items()}

    def flat(tree: Tree) -> list[Any]:
        return [table[tree.op], *(x for a in tree.args for x in flat(a))] if tree.args else [tree.index]

    fixed = {
        "function_set": list(table.values()), "arities": {}, "init_depth": (2, 6), "init_method": "half and half",
        "n_features": ARRAYS, "const_range": None, "metric": None, "p_point_replace": 0.1,
        "parsimony_coefficient": 0.0, "random_state": check_random_state(0),
    }  # fmt: skip
    programs = [_Program(**fixed, program=flat(t)) for t in workload.trees]
    data = np.asfortranarray(workload.data.T)

    def run() -> Means:
        with np.errstate(all="ignore"):
            return np.array([float(p.execute(data).mean(dtype=np.float64)) for p in programs])

    return Prepared(run, run)


def operon(workload: Workload, threads: int) -> Prepared:
    """Operon's vectorised evaluation of a list of trees. It computes values; the means are not timed."""
    import pyoperon as library

    kinds = {
        "exp": "Exp", "logabs": "Logabs", "sqrtabs": "Sqrtabs", "tanh": "Tanh", "square": "Square", "abs": "Abs",
        "+": "Add", "-": "Sub", "*": "Mul", "/": "Div",
    }  # fmt: skip
    dataset = library.Dataset(np.asfortranarray(workload.data.T))
    variables = dataset.Variables

    def postfix(tree: Tree) -> list[Any]:
        if not tree.args:
            leaf = library.Node(library.NodeType.Variable)
            leaf.HashValue, leaf.Value = variables[tree.index].Hash, 1.0
            return [leaf]
        inner = [node for a in reversed(tree.args) for node in postfix(a)]
        return [*inner, library.Node(getattr(library.NodeType, kinds[tree.op]))]

    trees = []
    for tree in workload.trees:
        made = library.Tree(postfix(tree))
        made.UpdateNodes()
        trees.append(made)
    step = max(1, OPERON_BYTES // (4 * workload.elements))
    parts = [trees[i : i + step] for i in range(0, len(trees), step)]
    rows = library.Range(0, workload.elements)
    out = np.empty(step * workload.elements, np.float32)

    def run() -> None:
        for part in parts:
            library.EvaluateTrees(part, dataset, rows, out[: len(part) * workload.elements], threads)

    def means() -> Means:
        found: list[Means] = []
        for part in parts:
            values = out[: len(part) * workload.elements]
            library.EvaluateTrees(part, dataset, rows, values, threads)
            found.append(values.reshape(len(part), -1).mean(axis=1, dtype=np.float64))
        return np.concatenate(found)

    return Prepared(run, means)


Prepare = Callable[[Workload, int], Prepared]
ENGINES: dict[str, tuple[Prepare, str, bool]] = {
    "proxforge": (proxforge, "numba", True),
    "proxforge-float32": (partial(proxforge, number=np.float32), "numba", True),
    "torch": (torch, "torch", True),
    "torch-compile": (partial(torch, compiled=True), "torch", True),
    "numpy": (numpy, "numpy", False),
    "numexpr": (numexpr, "numexpr", True),
    "gplearn": (gplearn, "gplearn", False),
    "operon": (operon, "pyoperon", True),
}
"""Name -> (what prepares it, the module that it needs, whether it can use more than one thread)."""


def missing(engine: str) -> bool:
    """Whether what the engine needs is not installed."""
    return importlib.util.find_spec(ENGINES[engine][1]) is None
