"""How many programs of a space compile, and how many of these are different: exact numbers, not estimates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log10
from typing import Any

from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxforgeError, ProxyError
from ..grammar.expr import Node, Pool
from ..search.spaces import SearchSpace, TreeSpace
from ..search.spaces.valid import Check, refusals
from .tree_count import count_trees

LIMIT = 1_000_000
"""Well-typed programs of a space that is counted one by one."""
BATCH = 1000


@dataclass(frozen=True, slots=True)
class SpaceCount:
    """Programs of a space. ``raw``: all genotypes; ``typed``: those that type-check; ``valid``: those that compile
    without data; ``distinct``: canonical programs among these."""

    raw: int
    typed: int
    valid: int
    distinct: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def count_programs(
    space: SearchSpace, check: Check = refusals, told: Callable[[float], None] | None = None
) -> SpaceCount:
    """The exact numbers. ``check``: what compiles. ``told``: is told the share that is done.

    ProxforgeError ``size`` for a space, other than of trees, with more than a million programs that type-check.
    """
    told = told or (lambda share: None)
    if isinstance(space, TreeSpace) and space.branches == 2:
        valid, distinct = count_trees(space, check, told)
    else:
        valid, distinct = _one_by_one(space, check, told)
    return SpaceCount(space.size(), space.typed_size(), valid, distinct)


def _one_by_one(space: SearchSpace, check: Check, told: Callable[[float], None]) -> tuple[int, int]:
    total = space.typed_size()
    if total > LIMIT:
        shown = f"{total:,}" if total < 10**12 else f"about 1e{int(total.bit_length() * log10(2))}"
        raise ProxforgeError(
            "size",
            f"{shown} programs of the space '{space.name}' type-check, and they are compiled one by one, at most "
            f"{LIMIT:,}: choose a smaller depth or length, fewer inputs or fewer ops",
        )
    valid = 0
    distinct: set[bytes] = set()
    for start in range(0, total, BATCH):
        pool = canonical_pool()  # one for all programs would not fit into memory
        made = Counter(filter(None, (_expression(space, i, pool) for i in range(start, min(start + BATCH, total)))))
        for (node, many), error in zip(made.items(), check(list(made)), strict=True):
            if error is None:
                valid += many
                distinct.add(node.digest)
        told(min(start + BATCH, total) / total)
    return valid, len(distinct)


def _expression(space: SearchSpace, index: int, pool: Pool) -> Node | None:
    try:
        return space.expression(space.unrank(index), pool)
    except ProxyError:
        return None
