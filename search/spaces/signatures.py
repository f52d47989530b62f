"""Which op takes which types: found by applying every op once, so a new op needs no entry here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ...grammar.errors import ProxyError
from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS
from ...grammar.types import Type
from .base import config

MAX_TYPES = 64
"""Types that the ops of a space can make of its inputs; their number grows with the axes of the inputs, squared."""


@dataclass(frozen=True, slots=True)
class Signature:
    """``op`` of operands of these types is a value of the type ``result``."""

    op: str
    operands: tuple[Type, ...]
    result: Type


def leaves(inputs: Sequence[str], numbers: Sequence[str], pool: Pool) -> dict[str, Node]:
    """The nodes of statistics and numbers by the names that genotypes have for them."""
    return {name: pool.statistic(name) for name in inputs} | {text: pool.number(float(text)) for text in numbers}


def number_names(numbers: Sequence[float]) -> tuple[str, ...]:
    """Numbers as they stand in a genotype. ProxyError for one outside float32's range."""
    pool = Pool()
    return tuple(repr(float(pool.number(float(value)).attr)) for value in numbers)


def signatures(ops: Sequence[str], given: Mapping[str, Node]) -> tuple[Signature, ...]:
    """The signatures of the ops over all types that they can make of the leaves.

    Whether an op takes its operands depends on their types alone, so one example of each type decides.
    """
    pool = Pool()
    examples: dict[Type, Node] = {}
    for node in given.values():
        examples.setdefault(node.type, node)
    found: dict[tuple[str, tuple[Type, ...]], Signature] = {}
    before = -1
    while len(examples) > before:
        before = len(examples)
        for name in ops:
            for types in product(tuple(examples), repeat=OPS[name].arity):
                if (name, types) in found:
                    continue
                made = _applied(pool, name, [examples[t] for t in types])
                if made is not None:
                    found[name, types] = Signature(name, types, made.type)
                    examples.setdefault(made.type, made)
        if len(examples) > MAX_TYPES:
            raise config(f"these ops make more than {MAX_TYPES} types of the inputs; choose fewer ops or inputs")
    return tuple(found.values())


def _applied(pool: Pool, name: str, operands: list[Node]) -> Node | None:
    try:
        return pool.apply(OPS[name], *operands)
    except ProxyError:
        return None
