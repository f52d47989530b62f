"""Typed graph -> verified program. A population is merged: a sub-expression that many proxies share runs once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..grammar.analysis import Analyser, Known
from ..grammar.canonical import canonical_pool, hash_of
from ..grammar.expr import Node, Pool, statistics_of, topological
from ..grammar.ops import FACT, STATISTIC
from ..grammar.parse import locate, parse_formula
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


def compile_text(source: str, pool: Pool | None = None, known: Known | None = None) -> Proxy:
    """The compiled formula. ProxyError (kind, message, line, column) where it is not a valid proxy.

    ``known``: what is known of the data (`vm.known.known_of`), so that more can be rejected; None: of no data.
    """
    parsed = parse_formula(source, canonical_pool() if pool is None else pool)
    (error,) = Analyser(known).check([parsed.score])
    if error is not None:
        raise locate(error, source)
    return Proxy(source, parsed.type, parsed.score, compile_nodes([parsed.score]))


def compile_nodes(roots: Sequence[Node]) -> Program:
    """One verified program for a population of Score expressions."""
    return assemble(roots, lambda node: False)[0]


def assemble(roots: Sequence[Node], recalled: Callable[[Node], bool]) -> tuple[Program, list[Node]]:
    """The verified program and the node behind each instruction; ``recalled``: Scalars that are read, not computed."""
    order = topological(roots, into=lambda node: not recalled(node))
    order.sort(key=_outside)  # stable: what runs once a layer, then once a network
    program = _assembled(order, roots, {n for n in order if n.type.kind is Kind.SCALAR and recalled(n)})
    verify(program)
    return program, order


def _outside(node: Node) -> bool:
    return node.type.kind is Kind.SCORE


def _assembled(order: list[Node], roots: Sequence[Node], recalled: set[Node]) -> Program:
    """Linear-scan register allocation: a register is free again after the last use of its value."""
    last = dict(zip(order, range(len(order)), strict=True))
    for i, node in enumerate(order):
        if node not in recalled:
            for a in node.args:
                last[a] = i
    last.update(dict.fromkeys(roots, len(order)))
    used = {str(n.attr) for n in order if n.op is STATISTIC}
    names = {name: i for i, name in enumerate(s for s in STATISTICS if s in used)}
    constants: dict[float, int] = {}
    remembered: dict[str, int] = {}
    free: tuple[list[int], list[int], list[int]] = ([], [], [])
    count = [0, 0, 0]
    register: dict[Node, int] = {}
    codes, targets, sources = list[int](), list[int](), list[int]()
    for i, node in enumerate(order):
        args = () if node in recalled else node.args
        if node in recalled:
            code, first, second = CODE["recall.s"], remembered.setdefault(node.digest.hex(), len(remembered)), 0
        elif not args:
            code, first, second = *_leaf(node, names, constants), 0
        else:
            code = CODE_OF[node.op.name, tuple([a.type.kind for a in args])]
            first, second = register[args[0]], register[args[1]] if len(args) > 1 else 0
        kind = node.type.kind
        if free[kind]:  # before the operands are released: a result never overwrites its operand
            target = free[kind].pop()
        else:
            target = count[kind]
            count[kind] += 1
        register[node] = target
        codes.append(code)
        targets.append(target)
        sources += (first, second)
        for k, a in enumerate(args):
            if last[a] == i and a not in args[:k]:
                free[a.type.kind].append(register[a])
    return Program(
        np.array(codes, np.int32),
        np.array(targets, np.int32),
        np.array(sources, np.int32).reshape(-1, 2),
        tuple([(n.type.rows, n.type.cols) for n in order]),
        tuple(constants),
        tuple(names),
        tuple(remembered),
        np.array([register[r] for r in roots], np.int32),
        (count[0], count[1], count[2]),
    )


def _leaf(node: Node, statistics: dict[str, int], constants: dict[float, int]) -> tuple[int, int]:
    """Opcode and table entry of a leaf."""
    if node.op is STATISTIC:
        return CODE["load.m"], statistics[str(node.attr)]
    if node.op is FACT:
        return CODE["fact.x"], FACT_NAMES.index(str(node.attr))
    name = "const.s" if node.type.kind is Kind.SCALAR else "const.x"
    return CODE[name], constants.setdefault(float(node.attr), len(constants))
