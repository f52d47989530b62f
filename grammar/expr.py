"""Expressions as a typed, hash-consed graph: equal sub-expressions are one node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import NoReturn

import numpy as np

from . import facts as f
from .errors import ProxyError, nearest
from .ops import FACT, NUMBER, OPS, STATISTIC, Form, Op
from .reference import FLOAT32_MAX, FLOAT32_TINY, in_range
from .types import ALIASES, NETWORK_FACTS, SCALAR, SCORE, STATISTICS, Kind, Type, matrix

MAX_DEPTH = 256
"""Nested operations in one expression."""
MAX_NODES = 4096
"""Distinct sub-expressions in one expression."""


class Node:
    """One value of an expression. Made by a `Pool`, never changed.

    ``op`` and ``args`` say how it is computed; ``attr`` is the name of a statistic or network fact, or the number.
    ``digest`` (16 bytes) depends on the structure alone: the same in every process. ``numeric``: made of numbers alone.
    """

    __slots__ = ("_facts", "args", "attr", "depth", "digest", "numeric", "op", "type")

    def __init__(
        self, op: Op, args: tuple[Node, ...], attr: str | float, type_: Type, facts: f.Facts | None, digest: bytes
    ) -> None:
        self.op = op
        self.args = args
        self.attr = attr
        self.type = type_
        self._facts = facts
        self.digest = digest
        inside = op.form is not Form.LAYERS  # the std of one layer has no value: a number of layers is no number
        self.numeric: bool = op is NUMBER or (bool(args) and inside and args[0].numeric and args[-1].numeric)
        self.depth: int = 1 + max(args[0].depth, args[-1].depth) if args else 1

    @property
    def facts(self) -> f.Facts:
        """What is known without data; worked out when it is first asked for. Without recursion, see `MAX_DEPTH`."""
        todo = [self]
        while self._facts is None:
            missing = [a for a in todo[-1].args if a._facts is None]
            todo += missing
            if not missing:
                node = todo.pop()
                node._facts = _analysed(node.op, node.args)
        return self._facts

    def __reduce__(self) -> NoReturn:
        raise TypeError("a node belongs to the pool that made it and cannot be copied or stored; keep text(node)")

    def __repr__(self) -> str:
        return f"<Node {self.op.name}{list(self.args) if self.depth < 4 else ''} {self.attr or ''}: {self.type}>"


Rewrite = Callable[["Pool", Op, tuple[Node, ...], Type], Node]
"""Gives the node of an op on operands that fit, of the type that it has: an equal, simpler node, or `Pool.plain`."""


class Pool:
    """Makes nodes, each one once. ``rewrites`` is what a new node is offered to before it is made."""

    def __init__(self, rewrites: Rewrite | None = None) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}
        self._rewrites = rewrites

    def __len__(self) -> int:
        return len(self._nodes)

    def statistic(self, name: str) -> Node:
        """The leaf of a statistic (``qkv.w``, or an alias such as ``F1g``). ProxyError ``name`` if there is none."""
        name = ALIASES.get(name, name)
        if name not in STATISTICS:
            known = (*STATISTICS, *ALIASES)
            raise ProxyError("name", f"no statistic is called '{name[:80]}'{nearest(name, known)}")
        return self._make(STATISTIC, (), name, STATISTICS[name].type, f.LEAF)

    def fact(self, name: str) -> Node:
        """The leaf of a network's own fact: ``params``, ``flops``, ``depth`` or ``width``."""
        if name not in NETWORK_FACTS:
            raise ProxyError("name", f"no fact of a network is called '{name[:80]}'{nearest(name, NETWORK_FACTS)}")
        return self._make(FACT, (), name, SCORE, f.SHAPE)

    def number(self, value: float, kind: Kind = Kind.SCALAR) -> Node:
        """The leaf of a number, a Scalar or a Score. ProxyError ``nonfinite`` outside float32's range."""
        if not abs(value) <= FLOAT32_MAX:
            raise ProxyError("nonfinite", f"the number {value:g} exceeds float32's range (3.4e38)")
        inside = value if abs(value) >= FLOAT32_TINY else 0.0
        return self._make(NUMBER, (), inside + 0.0, SCALAR if kind is Kind.SCALAR else SCORE, f.known(inside))

    def apply(self, op: Op, *args: Node) -> Node:
        """The node ``op(args)``, typed. ProxyError ``type`` or ``shape`` where the operands do not fit."""
        if len(args) != op.arity:
            raise ProxyError(
                "type",
                f"'{op.name}' takes {op.arity} operand{'s'[: op.arity > 1]}, {len(args)} "
                f"{'was' if len(args) == 1 else 'were'} given: write {op.usage}",
            )
        args = _coerced(self, op, args)
        type_ = _result(op, args)
        return self.plain(op, args, type_) if self._rewrites is None else self._rewrites(self, op, args, type_)

    def plain(self, op: Op, args: tuple[Node, ...], type_: Type | None = None) -> Node:
        """The node ``op(args)`` as it is, never rewritten. ``type_``: its type, where it is known."""
        return self._make(op, args, "", _result(op, args) if type_ is None else type_, None)

    def score(self, node: Node) -> Node:
        """The expression as a Score: a Matrix is reduced by ``mean``, a Scalar by ``layer_mean``."""
        node = _as_score(self, node)
        if node.type.kind is Kind.MATRIX:
            node = self.apply(OPS["mean"], node)
        return self.apply(OPS["layer_mean"], node) if node.type.kind is Kind.SCALAR else node

    def _make(self, op: Op, args: tuple[Node, ...], attr: str | float, type_: Type, facts: f.Facts | None) -> Node:
        key = (op.name, attr, type_.kind, *map(id, args))
        node = self._nodes.get(key)
        if node is None:
            below = [a.digest for a in args]
            digest = blake2b(b"".join([own_bytes(op.name, attr, type_.kind), *below]), digest_size=16).digest()
            node = Node(op, args, attr, type_, facts, digest)
            if node.depth > MAX_DEPTH:
                raise ProxyError("size", f"more than {MAX_DEPTH} nested operations; split or shorten the formula")
            self._nodes[key] = node
        return node


@lru_cache(1 << 12)
def own_bytes(name: str, attr: str | float, kind: Kind) -> bytes:
    """What a digest says of the node itself."""
    return f"{name}\0{attr!r}\0{kind}".encode()


def _analysed(op: Op, args: tuple[Node, ...]) -> f.Facts:
    values = [a.facts.value for a in args]
    if op.elementwise and None not in values:
        with np.errstate(all="ignore"):
            value = float(in_range(op.reference(*(np.float64(v) for v in values if v is not None))))
        return f.known(value + 0.0) if math.isfinite(value) else f.UNKNOWN
    if op.form is Form.JOIN and args[0] is args[1] and op.name == "-":
        return f.known(0.0)
    return op.facts(tuple([a.facts for a in args]), tuple([a.type.kind for a in args]))


def _coerced(pool: Pool, op: Op, args: tuple[Node, ...]) -> tuple[Node, ...]:
    """Numbers become Scores beside a Score; a layer op takes a Matrix by its mean."""
    if op.form is Form.LAYERS and args[0].type.kind is Kind.MATRIX:
        return (pool.apply(OPS["mean"], args[0]),)
    if args[0].type.kind is Kind.SCORE or args[-1].type.kind is Kind.SCORE:
        return tuple(_as_score(pool, a) for a in args)
    return args


def _as_score(pool: Pool, node: Node) -> Node:
    """A Scalar that is made of numbers alone is a number for the whole network."""
    value = node.facts.value if node.numeric else None
    return node if value is None else pool.number(value, Kind.SCORE)


def _result(op: Op, args: tuple[Node, ...]) -> Type:
    first, second = args[0].type, args[-1].type
    if first.kind is Kind.SCORE or second.kind is Kind.SCORE:
        return _score_result(op, tuple(a.type for a in args))
    if op.no_scalar and first.kind is Kind.SCALAR:
        raise ProxyError("nonfinite", f"'{op.name}' of a Scalar has no value: {op.no_scalar}; take it of a matrix")
    if op.form is Form.LAYERS:
        return SCORE
    if op.form is Form.REDUCE:
        return SCALAR
    if op.form is Form.MAP:
        return first
    if op.form is Form.GRAM:
        return first if first.kind is Kind.SCALAR else matrix(first.rows, first.rows)
    if op.form is Form.PRODUCT:
        return _product_result(first, second)
    if op.form is Form.DOT and first.kind is not second.kind:
        raise ProxyError(
            "type", f"'{op.name}' needs two matrices or two Scalars, got {first} and {second}; use '*' to scale"
        )
    if Kind.SCALAR in (first.kind, second.kind):
        return second if first.kind is Kind.SCALAR else first
    if first != second:
        raise ProxyError(
            "shape",
            f"'{op.name}' needs two equal shapes, got {first} and {second}; reduce one of them to a Scalar, "
            "for instance with mean(..), or choose statistics of one shape",
        )
    return SCALAR if op.form is Form.DOT else first


def _product_result(first: Type, second: Type) -> Type:
    if first.kind is Kind.SCALAR and second.kind is Kind.SCALAR:
        return SCALAR
    if Kind.SCALAR in (first.kind, second.kind):
        raise ProxyError("type", f"'@' needs two matrices or two Scalars, got {first} and {second}; use '*' to scale")
    if first.cols != second.rows:
        raise ProxyError(
            "shape",
            f"'@' needs equal inner axes, got {first} and {second}: {first.cols} columns meet {second.rows} rows",
        )
    return matrix(first.rows, second.cols)


def _score_result(op: Op, types: tuple[Type, ...]) -> Type:
    if op.form is Form.JOIN and all(t.kind is Kind.SCORE for t in types):
        return SCORE
    if op.name == "neg":
        return SCORE
    given = " and ".join(map(str, types))
    if op.form is Form.JOIN:
        raise ProxyError(
            "type", f"'{op.name}' cannot join {given}; make the other a Score too, with layer_mean(..) or layer_sum(..)"
        )
    raise ProxyError(
        "type", f"'{op.name}' works inside a layer, got {given}; Scores combine with + - * / and unary - only"
    )


def topological(roots: Iterable[Node], into: Callable[[Node], bool] = lambda node: True) -> list[Node]:
    """All nodes below the roots, operands first, in the order of first use; not below a node that is not gone ``into``.

    ProxyError ``size`` where one root has more than MAX_NODES of its own.
    """
    order: list[Node] = []
    seen: set[int] = set()
    for root in roots:
        before = len(order)
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                if into(node):
                    stack.extend((a, False) for a in reversed(node.args))
        if len(order) - before > MAX_NODES:
            raise ProxyError("size", f"more than {MAX_NODES} operations in one formula; shorten it")
    return order


def statistics_of(roots: Iterable[Node]) -> tuple[str, ...]:
    """The names of the statistics that the expressions read, in the order of the table."""
    used = {n.attr for n in topological(roots) if n.op is STATISTIC}
    return tuple(name for name in STATISTICS if name in used)
