"""The Pareto front of a run: for every complexity what is better than all that is simpler."""

from __future__ import annotations

from collections.abc import Iterable

from .events import Event


def front_of(history: Iterable[Event]) -> list[Event]:
    """The evaluations that no other one beats in complexity and value, the simplest first; the first of equals."""
    valid = [e for e in history if e.jcm is not None and e.complexity is not None]
    front: list[Event] = []
    for event in sorted(valid, key=_order):  # stable: the first of equals stays the first
        if not front or (front[-1].jcm or 0.0) < (event.jcm or 0.0):
            front.append(event)
    return front


def _order(event: Event) -> tuple[int, float]:
    return event.complexity or 0, -(event.jcm or 0.0)
