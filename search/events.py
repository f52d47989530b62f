"""What a search did, one line of JSON per program drawn. No clock in it: the same search writes the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

DUPLICATE = "duplicate"
"""The program was scored before, in this run: its value is known and cost nothing."""
REJECTED = "rejected"
"""The compiler proved it invalid: no tensor was touched."""


@dataclass(frozen=True, slots=True)
class Event:
    """One program that was drawn.

    ``ask``: number of the ask it came from, ``index``: its place there, first what was rejected, then the candidates.
    ``status``: ``ok``, ``nan``, ``inf`` or ``constant`` of a program that was evaluated, else ``duplicate`` or
    ``rejected``. ``kind``: of the ProxyError of a rejected one. ``formula`` (canonical) and ``hash``: None where it
    does not type-check. ``jcm``: the value of the objective, None where there is none. ``complexity``: ops and leaves
    of the canonical form, each shared part once; None of a rejected program.
    """

    ask: int
    index: int
    status: str
    kind: str | None
    formula: str | None
    hash: str | None
    jcm: float | None
    complexity: int | None = None

    @property
    def evaluated(self) -> bool:
        """Whether it cost an evaluation."""
        return self.status not in (DUPLICATE, REJECTED)

    def to_line(self) -> str:
        """The line of the event log."""
        return dumps({name: getattr(self, name) for name in self.__slots__}) + "\n"

    @staticmethod
    def from_line(line: str) -> Event:
        """The inverse of `to_line`. ValueError, TypeError or KeyError for anything else."""
        return Event(**json.loads(line))


def dumps(value: Any) -> str:
    """Compact JSON, keys in the order given, no NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
