"""What a search returns."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .events import Event

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Best:
    """The best program of a run.

    ``proxy``: canonical formula; ``hash``: its canonical hash. ``jcm_search``: the value of the objective on the search
    part (all of its networks), ``jcm_test``: on the test part, None where it has none there. ``shape_only``: the score
    is a function of the networks' shapes alone. ``rows``: of the table with this proxy and the baselines, filled in by
    who makes tables.
    """

    proxy: str
    hash: str
    jcm_search: float | None
    jcm_test: float | None
    shape_only: bool
    rows: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Point:
    """A program of the Pareto front: ``complexity`` (ops and leaves), the objective on the search part and on the test
    part."""

    proxy: str
    hash: str
    complexity: int
    search: float | None
    test: float | None
    shape_only: bool


@dataclass(frozen=True)
class SearchResult:
    """The end of a search. ``best`` is None when no program had a value.

    ``params``: the resolved configuration. ``evaluations``: programs scored, ``invalid`` of them without a value;
    those ``rejected`` by the compiler, which no strategy sees, and ``duplicates`` cost none. ``seconds``: spent in
    ``collect``, ``compile``, ``evaluate``, ``correlate``, ``strategy``, ``files`` and in ``total``. ``counters``: of
    the evaluator, in this session (see `vm.evaluate.Counters`). ``history``: every evaluation in order. ``front``: the
    programs that no other one beats in complexity and value. ``stopped``: why it ended: ``steps``, ``budget``,
    ``patience``, ``seconds`` or ``callback``.
    """

    best: Best | None
    params: dict[str, Any]
    evaluations: int
    rejected: int
    duplicates: int
    invalid: int
    seconds: dict[str, float]
    counters: dict[str, int] = field(repr=False)
    history: tuple[Event, ...] = field(repr=False)
    front: tuple[Point, ...] = ()
    stopped: str = "steps"

    @property
    def asked(self) -> int:
        """Programs drawn: evaluations + rejected + duplicates."""
        return self.evaluations + self.rejected + self.duplicates

    def best_so_far(self) -> tuple[float | None, ...]:
        """The best value after each evaluation; None as long as none had a value."""
        best, curve = -math.inf, []
        for event in self.history:
            best = best if event.jcm is None else max(best, event.jcm)
            curve.append(None if best == -math.inf else best)
        return tuple(curve)

    def to_dict(self, *, clock: bool = True) -> dict[str, Any]:
        """Plain JSON. Without the ``clock`` it is the same for the same search."""
        best = None if self.best is None else asdict(self.best) | {"rows": list(self.best.rows)}
        found = {
            "best": best,
            "params": self.params,
            "evaluations": self.evaluations,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "invalid": self.invalid,
            "front": [asdict(point) for point in self.front],
            "stopped": self.stopped,
        }
        return found | ({"seconds": self.seconds, "counters": self.counters} if clock else {})

    def to_frame(self) -> pandas.DataFrame:
        """One row per evaluation: evaluation (from 1), ask, formula, hash, status, jcm, best (so far)."""
        import pandas

        columns = ("evaluation", "ask", "formula", "hash", "status", "jcm", "best")
        rows = [
            (i, e.ask, e.formula, e.hash, e.status, e.jcm, best)
            for i, (e, best) in enumerate(zip(self.history, self.best_so_far(), strict=True), start=1)
        ]
        return pandas.DataFrame(rows, columns=list(columns))
