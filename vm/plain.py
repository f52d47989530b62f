"""Programs as plain data, for another process: nodes belong to the pool that made them and cannot be pickled."""

from __future__ import annotations

from collections.abc import Sequence

from ..grammar.expr import Node, Pool, topological
from ..grammar.ops import FACT, NUMBER, OPS, STATISTIC
from ..grammar.types import Kind

Row = tuple[str, str | float, int, tuple[int, ...]]
"""An op's name, the attribute of a leaf, the kind of the result, the rows of the operands."""
Plain = tuple[tuple[Row, ...], tuple[int, ...]]
"""The values in order, and which of them are the programs."""


def packed(roots: Sequence[Node]) -> Plain:
    """The expressions as rows; a value that they share is one row."""
    place: dict[Node, int] = {}
    rows = []
    for node in topological(roots):
        rows.append((node.op.name, node.attr, int(node.type.kind), tuple(place[a] for a in node.args)))
        place[node] = len(place)
    return tuple(rows), tuple(place[root] for root in roots)


def unpacked(plain: Plain) -> list[Node]:
    """The same expressions in a pool of their own, with the same digests."""
    pool = Pool()
    nodes: list[Node] = []
    for name, attr, kind, args in plain[0]:
        if name == STATISTIC.name:
            nodes.append(pool.statistic(str(attr)))
        elif name == FACT.name:
            nodes.append(pool.fact(str(attr)))
        elif name == NUMBER.name:
            nodes.append(pool.number(float(attr), Kind(kind)))
        else:
            nodes.append(pool.plain(OPS[name], tuple([nodes[a] for a in args])))
    return [nodes[i] for i in plain[1]]
