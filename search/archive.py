"""What is known of every program that a run has scored, and the counters. A function of the events alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .events import DUPLICATE, REJECTED, Event


@dataclass(frozen=True, slots=True)
class Known:
    """The outcome of a program that was evaluated."""

    value: float | None
    status: str


class Archive:
    """Grows by events, in order; ``events`` rebuilds one. asked = evaluations + duplicates + rejected, always."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.evaluations = 0
        self.duplicates = 0
        self.rejected = 0
        self.invalid = 0
        """Evaluations without a value: NaN, inf, or one score for all networks."""
        self.best: Event | None = None
        """The first of the largest values."""
        self.stale = 0
        """Evaluations since the best."""
        self.history: list[Event] = []
        """Every evaluation."""
        self._known: dict[str, Known] = {}
        for event in events:
            self.add(event)

    @property
    def asked(self) -> int:
        """Programs drawn so far."""
        return self.evaluations + self.duplicates + self.rejected

    def known(self, digest: str) -> Known | None:
        """The outcome of the program with that canonical hash, if it was evaluated."""
        return self._known.get(digest)

    def better(self, value: float) -> bool:
        """Whether the value is above all so far."""
        return self.best is None or self.best.jcm is None or value > self.best.jcm

    def add(self, event: Event) -> None:
        """Counts the event; an evaluation is remembered."""
        if event.status == DUPLICATE:
            self.duplicates += 1
        elif event.status == REJECTED:
            self.rejected += 1
        else:
            self._evaluated(event)

    def _evaluated(self, event: Event) -> None:
        self.evaluations += 1
        self.stale += 1
        self.history.append(event)
        if event.hash is not None:
            self._known[event.hash] = Known(event.jcm, event.status)
        if event.jcm is None:
            self.invalid += 1
        elif self.better(event.jcm):
            self.best = event
            self.stale = 0
