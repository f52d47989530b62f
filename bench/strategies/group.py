"""Runs of several strategies and seeds in one process, in lock-step: each program is scored once for all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ...grammar.canonical import canonical_pool
from ...grammar.parse import parse
from ...search.events import Event
from ...search.problem import Scores
from ...search.session import Session
from ...search.together import Together, judged
from .plan import Plan, Run, Step

GARBAGE = 200_000
"""Objects that are made before Python looks for circles among them (its own number is 700)."""


class Group:
    """Runs the pairs (strategy, seed) of a plan; what was scored for some is known for the next ones.

    ``scores``, ``on_test``: what runs programs on the search part and on the test part; the evaluators of the plan's
    problem if None. Another source of the same scores, such as a table of a whole space, may stand in their place.
    """

    def __init__(self, plan: Plan, scores: Scores | None = None, on_test: Scores | None = None) -> None:
        self._plan = plan
        self._problem = plan.problem()
        self._space = plan.made_space()
        self._together = Together(self._problem, scores)
        self._on_test = on_test
        self._tested: dict[str, tuple[float | None, bool]] = {}

    def run(self, pairs: Sequence[tuple[str, int]], told: Callable[[int], None] | None = None) -> list[Run]:
        """The runs, in the order of the pairs. ``told``: evaluations done so far, over all of them."""
        budget = self._plan.budgets[-1]
        sessions = [
            Session(
                self._plan.strategy(name, self._space),
                seed=seed,
                budget=budget,
                pool=self._together.pool,
                check=self._together.check,
                brief=True,
                fingerprinter=self._together.fingerprinter,
            )
            for name, seed in pairs
        ]
        seconds = dict.fromkeys(sessions, 0.0)
        count = 0

        def stepped(session: Session, spent: float) -> None:
            nonlocal count
            seconds[session] += spent
            count += 1
            if told is not None and count % 1000 == 0:
                told(sum(s.archive.evaluations for s in sessions))

        with _rarely_collected():
            self._together.run(sessions, stepped)
        better = [_better(session.archive.history) for session in sessions]
        self._test([event for events in better for _, event in events])
        return [
            Run(
                strategy=name,
                seed=seed,
                evaluations=session.archive.evaluations,
                rejected=session.archive.rejected,
                duplicates=session.archive.duplicates,
                invalid=session.archive.invalid,
                seconds=round(seconds[session], 4),
                best=tuple(self._step(n, event) for n, event in events),
            )
            for (name, seed), session, events in zip(pairs, sessions, better, strict=True)
        ]

    def _test(self, events: Sequence[Event]) -> None:
        """Scores what was best at some time on the test part; no run ever sees it."""
        new = list(dict.fromkeys(e.formula for e in events if e.formula is not None and e.formula not in self._tested))
        if not new:
            return
        if self._on_test is None:
            self._on_test = self._problem.evaluator(self._problem.test)
        pool = canonical_pool()
        nodes = [parse(formula, pool) for formula in new]
        found = judged(self._on_test, self._problem.judge(self._problem.test), nodes)
        for formula, node, known in zip(new, nodes, found, strict=True):
            self._tested[formula] = known.value, node.facts.shape_only

    def _step(self, evaluations: int, event: Event) -> Step:
        assert event.formula is not None
        assert event.jcm is not None
        test, shape_only = self._tested[event.formula]
        return Step(evaluations, event.jcm, test, event.formula, event.complexity or 0, shape_only)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Python looks less often for garbage in circles: it would look through all programs again and again."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _better(history: Sequence[Event]) -> list[tuple[int, Event]]:
    """Every better best, and after how many evaluations."""
    found: list[tuple[int, Event]] = []
    for i, event in enumerate(history, start=1):
        if event.jcm is not None and (not found or event.jcm > (found[-1][1].jcm or 0.0)):
            found.append((i, event))
    return found
