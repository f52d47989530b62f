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
from .limits import beyond
from .tree_count import count_trees, joins_of

LIMIT = 1_000_000
"""Well-typed programs of a space that is counted one by one."""
BATCH = 1000
JOINED, OF_JOIN = 5e-5, 130
"""Seconds to make a join of branches and to find out whether it compiles, and bytes of memory to know it again."""


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


def refusal(space: SearchSpace, minutes: float) -> str | None:
    """Why counting is not begun that would not end within the limit or this memory; None if it would. A rough guess,
    within a factor of two or three. Of spaces that are counted one by one there is nothing to say: they are small."""
    if not (isinstance(space, TreeSpace) and space.branches == 2):
        return None
    joins = joins_of(space)
    needed, size = joins * JOINED / 60, joins * OF_JOIN
    found = beyond(size, needed, minutes)
    if not found:
        return None
    return (
        f"counting would make about {joins:,} joins and take {size / 1e9:.3g} GB of memory and {needed:,.0f} minutes; "
        f"{', '.join(found)}: choose fewer --inputs, fewer --ops or fewer --unaries, or a higher limit"
    )


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
