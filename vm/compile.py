"""Typed graph -> verified program. A population is merged: a sub-expression that many proxies share runs once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..grammar.canonical import canonical_pool, hash_of
from ..grammar.expr import Node, Pool, statistics_of, topological
from ..grammar.ops import FACT, NUMBER, STATISTIC
from ..grammar.parse import parse_formula
from ..grammar.text import latex, text
from ..grammar.types import STATISTICS, Kind, Type
from .program import CODE, CODE_OF, FACT_NAMES, Program
from .verify import verify


@dataclass(frozen=True, eq=False)
class Proxy:
    """One compiled formula: what was written, what it means, and the program that computes it.

    ``source``: the text as given, ``type``: of the formula as it is written, before implied reductions. ``node``: the
    Score that it computes, in canonical form. ``program``: its verified bytecode.
    """

    source: str
    type: Type
    node: Node
    program: Program

    def __reduce__(self) -> tuple[Any, ...]:
        """By its text: another process compiles it again, to the same program."""
        return compile_text, (self.source,)

    @property
    def canonical(self) -> str:
        """The canonical text; equal programs have equal text."""
        return text(self.node)

    @property
    def hash(self) -> str:
        """The canonical hash, 32 hex digits."""
        return hash_of(self.node)

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics that it reads."""
        return statistics_of([self.node])

    @property
    def latex(self) -> str:
        """The formula as LaTeX (math mode)."""
        return latex(self.node)

    @property
    def shape_only(self) -> bool:
        """Whether the score is a function of the network's shapes alone, for generic weights."""
        return self.node.facts.shape_only

    def disassemble(self) -> list[str]:
        """The program, one line per instruction."""
        return self.program.disassemble()


def compile_text(source: str, pool: Pool | None = None) -> Proxy:
    """The compiled formula. ProxyError (kind, message, line, column) where it is not a valid proxy."""
    parsed = parse_formula(source, canonical_pool() if pool is None else pool)
    return Proxy(source, parsed.type, parsed.score, compile_nodes([parsed.score]))


def compile_nodes(roots: Sequence[Node]) -> Program:
    """One verified program for a population of Score expressions."""
    return assemble(roots, lambda node: False)[0]


def assemble(roots: Sequence[Node], recalled: Callable[[Node], bool]) -> tuple[Program, list[Node]]:
    """The verified program and the node behind each instruction; ``recalled``: Scalars that are read, not computed."""
    order = _live(roots, recalled)
    order.sort(key=lambda n: n.type.kind is Kind.SCORE)  # stable: what runs once a layer, then once a network
    program = _Assembler(order, roots, {id(n) for n in order if recalled(n)}).program()
    verify(program)
    return program, order


def _live(roots: Sequence[Node], recalled: Callable[[Node], bool]) -> list[Node]:
    """The nodes to compute, operands first; below a recalled Scalar nothing is needed."""
    order = topological(roots)
    needed = {id(r) for r in roots}
    for node in reversed(order):
        if id(node) in needed and not recalled(node):
            needed.update(id(a) for a in node.args)
    return [n for n in order if id(n) in needed]


class _Assembler:
    """Linear-scan register allocation: a register is free again after the last use of its value."""

    def __init__(self, order: list[Node], roots: Sequence[Node], recalled: set[int]) -> None:
        self._order = order
        self._recalled = recalled
        self._roots = roots
        self._last: dict[int, int] = {}
        for i, node in enumerate(order):
            self._last[id(node)] = i
            if id(node) not in recalled:
                for a in node.args:
                    self._last[id(a)] = i
        for root in roots:
            self._last[id(root)] = len(order)
        self._free: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._count = [0, 0, 0]
        self._register: dict[int, int] = {}
        self._statistics: dict[str, int] = {}
        self._constants: dict[float, int] = {}
        self._names: dict[str, int] = {}

    def program(self) -> Program:
        used = {str(n.attr) for n in self._order if n.op is STATISTIC}
        self._statistics = {name: i for i, name in enumerate(s for s in STATISTICS if s in used)}
        n = len(self._order)
        opcode, dst, src = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros((n, 2), np.int32)
        for i, node in enumerate(self._order):
            opcode[i], sources = self._encode(node)
            src[i, : len(sources)] = sources
            dst[i] = self._take(node)  # before the operands are released: a result never overwrites its operand
            if id(node) not in self._recalled:
                for a in {id(a): a for a in node.args}.values():
                    if self._last[id(a)] == i:
                        self._free[a.type.kind].append(self._register[id(a)])
        return Program(
            opcode,
            dst,
            src,
            tuple((n.type.rows, n.type.cols) for n in self._order),
            tuple(self._constants),
            tuple(self._statistics),
            tuple(self._names),
            np.array([self._register[id(r)] for r in self._roots], np.int32),
            (self._count[0], self._count[1], self._count[2]),
        )

    def _encode(self, node: Node) -> tuple[int, tuple[int, ...]]:
        if id(node) in self._recalled:
            return CODE["recall.s"], (self._names.setdefault(node.digest.hex(), len(self._names)),)
        if node.op is STATISTIC:
            return CODE["load.m"], (self._statistics[str(node.attr)],)
        if node.op is FACT:
            return CODE["fact.x"], (FACT_NAMES.index(str(node.attr)),)
        if node.op is NUMBER:
            name = "const.s" if node.type.kind is Kind.SCALAR else "const.x"
            return CODE[name], (self._constants.setdefault(float(node.attr), len(self._constants)),)
        code = CODE_OF[node.op.name, tuple(a.type.kind for a in node.args)]
        return code, tuple(self._register[id(a)] for a in node.args)

    def _take(self, node: Node) -> int:
        kind = node.type.kind
        if self._free[kind]:
            register = self._free[kind].pop()
        else:
            register = self._count[kind]
            self._count[kind] += 1
        self._register[id(node)] = register
        return register
