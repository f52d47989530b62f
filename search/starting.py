"""Starting formulas: a formula as a genotype of a search space, where it can be written there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node, Pool, topological
from ..grammar.ops import NUMBER, STATISTIC, Form
from ..grammar.parse import parse
from ..grammar.types import Kind
from .spaces import Expression, ExpressionSpace, Genotype, Memory, MemorySpace, SearchSpace, Tree, TreeSpace


def genotypes_of(space: SearchSpace, formulas: Sequence[str]) -> tuple[Genotype, ...]:
    """The formulas as genotypes. ProxforgeError ``config`` for one that the space does not hold, ProxyError for one
    that is no formula."""
    found = []
    for formula in formulas:
        try:
            genotype = _written(space, parse(formula, Pool()))
            found.append(space.decode(space.encode(genotype)))
        except ProxforgeError as error:
            if error.kind != "config":
                raise
            message = f"the starting formula {formula[:200]!r} is none of the '{space.name}' space: {error.message}"
            raise ProxforgeError("config", message) from error
    return tuple(found)


@singledispatch
def _written(space: SearchSpace, score: Node) -> Genotype:
    raise _config(f"formulas cannot be written in the space '{space.name}'")


@_written.register
def _(space: TreeSpace, score: Node) -> Tree:
    join = _inside(score, "layer_mean")
    if join.op.name == "mean" and join.args[0].op.arity == 2:
        join = join.args[0]
    branches: list[str] = []
    binaries: list[str] = []
    for _ in range(space.branches - 1):
        if join.op.arity != 2 or join.op.form is Form.LAYERS:
            raise _config(f"it does not join {('two', 'three')[space.branches - 2]} branches")
        binaries.insert(0, join.op.name)
        branches[:0] = _branch(space, join.args[1])
        join = join.args[0]
    return Tree((*_branch(space, join), *branches, *binaries))


def _branch(space: TreeSpace, node: Node) -> tuple[str, ...]:
    ops: list[str] = []
    while node.op is not STATISTIC:
        if node.op.arity != 1 or len(ops) == space.unaries:
            raise _config(f"a branch is a statistic with at most {space.unaries} unary ops")
        ops.insert(0, node.op.name)
        node = node.args[0]
    return (str(node.attr), *ops, *["identity"] * (space.unaries - len(ops)))


@_written.register
def _(space: ExpressionSpace, score: Node) -> Expression:
    if score.op.form is not Form.LAYERS:
        raise _config("it is no reduction over layers")
    genes, todo = [score.op.name], [_implied(score.args[0])]
    while todo:
        node = todo.pop()
        genes.append(_name(node))
        todo += reversed(node.args)
    return Expression(tuple(genes))


@_written.register
def _(space: MemorySpace, score: Node) -> Memory:
    root = _implied(_inside(score, "layer_mean"))
    order = [n for n in topological([root]) if n.args]
    last = {a: i for i, n in enumerate(order) for a in n.args}
    held: dict[Node, str] = {}
    code = []
    for i, node in enumerate(order):
        sources = [held[a] if a.args else _name(a) for a in node.args]
        for a in [a for a in held if last.get(a, -1) <= i]:
            del held[a]
        free = [r for r in space.registers if r not in held.values()]
        if not free:
            raise _config(f"it needs more than {len(space.registers)} registers")
        held[node] = free[0]
        code.append((free[0], node.op.name, *sources))
    if not code:
        raise _config("it has no instruction")
    return Memory(tuple(code))


def _inside(score: Node, layers: str) -> Node:
    if score.op.name != layers:
        raise _config(f"its values are not put together by {layers}")
    return score.args[0]


def _implied(node: Node) -> Node:
    """Without the mean that the language would add anyway."""
    return node.args[0] if node.op.name == "mean" and node.args[0].type.kind is Kind.MATRIX else node


def _name(node: Node) -> str:
    return f"{node.attr:g}" if node.op is NUMBER else str(node.attr) if node.op is STATISTIC else node.op.name


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
