"""Many sessions on one problem, in lock-step: what they ask for is scored together, and never twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from ..grammar.analysis import Analyser
from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxyError
from ..grammar.expr import Node, Pool
from ..vm.fingerprint import Fingerprinter
from .archive import Known
from .objective import Objective
from .problem import Problem, Scores
from .scoring import outcomes
from .session import Session
from .spaces import SearchSpace
from .strategies.base import Wanted

ROOM = 300_000
"""Nodes of a pool before the sessions get a new one: those of all programs do not fit into memory."""
MEMORY = 1_000_000
"""Programs of which it is remembered at most whether they compile, and what became of them."""


class Together:
    """What sessions share: the pool, fingerprints, the compiler's analysis, the evaluator, and the outcome of every
    program.

    A session's result does not depend on the others: the analysis and the scores of a program are a function of the
    program, and each session counts its own evaluations. ``scores``: what runs programs on the search part; the
    problem's own evaluator if None.
    """

    def __init__(self, problem: Problem, scores: Scores | None = None) -> None:
        self.problem = problem
        self.scored = 0
        """Programs that were run, once each as long as they are remembered."""
        self._scores = problem.evaluator(problem.search) if scores is None else scores
        self._objective = problem.evaluated()
        self._analyser = Analyser(problem.known())
        self._valued = problem.valued
        self._guess = None if problem.valued is None else ProxyError("constant", "it has no score")
        self.fingerprinter = Fingerprinter()
        self._pool = canonical_pool()
        self._outcomes: dict[bytes, Known] = {}
        self._refused: dict[bytes, ProxyError | None] = {}
        self._unknown: dict[bytes, Node] = {}

    @property
    def pool(self) -> Pool:
        """Where sessions make their programs."""
        return self._pool

    def check(self, roots: Sequence[Node]) -> list[ProxyError | None]:
        """Why each program is rejected, or None; of those of which it is not known yet a guess, see `_draw`."""
        for root in roots:
            if root.digest not in self._refused:
                if self._valued is not None and self._valued(root):
                    self._refused[root.digest] = None
                else:
                    self._unknown[root.digest] = root
        return [self._refused.get(r.digest, self._guess) for r in roots]

    def run(self, sessions: Sequence[Session], told: Callable[[Session, float], None] | None = None) -> None:
        """Runs the sessions, made with `pool` and `check`, until each is over.

        ``told``: is called with a session after each of its steps, and the seconds that the step took it: its own, and
        its share of the common evaluation.
        """
        alive = [s for s in sessions if not s.over]
        while alive:
            if len(self._refused) > MEMORY:
                self._refused = {}
            if len(self._outcomes) > MEMORY:
                self._outcomes = {}
            if len(self._pool) > ROOM:
                self._pool = canonical_pool()
                for session in alive:
                    session.move(self._pool)
            spent = self._draw(alive)
            wanted = [session.new() for session in alive]
            began = time.perf_counter()
            self._score(wanted)
            share = (time.perf_counter() - began) / max(1, sum(map(len, wanted)))
            for i, session in enumerate(alive):
                began = time.perf_counter()
                session.tell({digest: self._outcomes[node.digest] for digest, node in wanted[i].items()})
                if told is not None:
                    told(session, spent[i] + share * len(wanted[i]) + time.perf_counter() - began)
            alive = [s for s in alive if not s.over]

    def _draw(self, sessions: Sequence[Session]) -> list[float]:
        """Lets the sessions draw, and the seconds that each took.

        Analysing programs one by one takes several times as long as together. So each session draws as if what is not
        known compiled, or, where it is known which programs have a score, as if the others did not; then all that is
        not known is analysed at once, and the sessions for which that was wrong draw again. As drawing changes nothing,
        they end with what they would have drawn one by one.
        """
        spent = [0.0] * len(sessions)
        left = list(range(len(sessions)))
        while left:
            drawn = self._drawn({i: sessions[i].drawing() for i in left}, spent)
            began = time.perf_counter()
            unknown = {digest: node for _, mine in drawn for digest, node in mine.items()}
            self._refused.update(zip(unknown, self._analyser.check(list(unknown.values())), strict=True))
            share = (time.perf_counter() - began) / max(1, sum(len(mine) for _, mine in drawn))
            for i, mine in drawn:
                spent[i] += share * len(mine)
            wrong = {digest for digest in unknown if (self._refused[digest] is None) != (self._guess is None)}
            left = [i for i, mine in drawn if not wrong.isdisjoint(mine)]
            for i, mine in drawn:
                if mine and wrong.isdisjoint(mine) and self._guess is not None:
                    sessions[i].settle()
        return spent

    def _drawn(
        self, drawing: dict[int, Generator[Wanted, NDArray[Any], None]], spent: list[float]
    ) -> list[tuple[int, dict[bytes, Node]]]:
        """Lets the sessions draw, part by part, and the programs that each drew and that are not known yet."""
        unknown: dict[int, dict[bytes, Node]] = {i: {} for i in drawing}
        answers: dict[int, Any] = dict.fromkeys(drawing)
        while answers:
            wanted: dict[int, Wanted] = {}
            for i, answer in answers.items():
                began = time.perf_counter()
                self._unknown = unknown[i]
                with suppress(StopIteration):  # it has drawn
                    wanted[i] = drawing[i].send(answer)
                spent[i] += time.perf_counter() - began
            answers = self._answered(wanted, spent)
        return list(unknown.items())

    def _answered(self, wanted: Mapping[int, Wanted], spent: list[float]) -> dict[int, NDArray[Any]]:
        """What the sessions want to know, of all their genotypes at once."""
        groups: dict[tuple[Any, SearchSpace], list[int]] = {}
        for i, w in wanted.items():
            groups.setdefault((w.of, w.space), []).append(i)
        answers: dict[int, NDArray[Any]] = {}
        for (of, space), mine in groups.items():
            began = time.perf_counter()
            found = of(space, [g for i in mine for g in wanted[i].genotypes])
            share = (time.perf_counter() - began) / max(1, len(found))
            for i in mine:
                count = len(wanted[i].genotypes)
                answers[i], found = found[:count], found[count:]
                spent[i] += share * count
        return answers

    def _score(self, wanted: Sequence[Mapping[str, Node]]) -> None:
        new = {n.digest: n for asked in wanted for n in asked.values() if n.digest not in self._outcomes}
        if new:
            programs = list(new.values())
            found = outcomes(self._scores.run(programs), self._objective, programs)
            self._outcomes.update(zip(new, found, strict=True))
            self.scored += len(new)


def judged(scores: Scores, objective: Objective, programs: Sequence[Node]) -> list[Known]:
    """The outcomes of programs on other networks, such as those of the test part."""
    return outcomes(scores.run(programs), objective, programs) if programs else []
