"""Whether a backend agrees with the float64 reference, on digits and on statuses."""

from __future__ import annotations

from proxforge.bench.agreement.compare import Agreement, compare
from proxforge.grammar.expr import Node
from proxforge.vm.result import Status


def agree(name: str, source, nodes: list[Node], bound: float) -> int:
    """The backend's scores are the reference's, to ``bound`` of the largest, and its statuses, beyond what rounding can
    do to them. Returns how many programs have a score and were compared."""
    found = Agreement()
    compare(found, "source", source, nodes, name, bound)
    assert not found.wrong, found.wrong[:5]
    return found.statuses[Status.OK.word]
