"""The loop: a strategy asks, the compiler rejects, the VM scores, the objective judges, the strategy is told.

A strategy draws from a `ValidSpace`: what the compiler rejects is drawn again before the strategy sees it. That is as
sound as the compiler, and the cheapest place: a rejected program costs its compilation and nothing else.
"""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..grammar.analysis import Analyser
from ..grammar.canonical import canonical_pool, hash_of
from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node
from ..grammar.parse import parse
from ..grammar.text import text
from ..vm.result import Result, Status
from .archive import Archive, Known
from .checkpoint import freeze, thaw
from .events import DUPLICATE, REJECTED, Event
from .interrupt import interrupts
from .objective import Objective
from .problem import Problem, Scores
from .result import Best, SearchResult
from .rundir import RunDir, RunError, open_run
from .spaces.base import Genotype
from .spaces.valid import Compiled, ValidSpace
from .strategies.base import Evaluated, Strategy

SCHEMA = 2
"""Part of every run's configuration. Raised when a run's files change, or the numbers that a seed leads to."""
CHECKPOINT_SECONDS = 0.25
"""Time between checkpoints; replacing a file costs milliseconds, as much as some evaluations."""
PHASES = ("compile", "evaluate", "correlate", "strategy", "files", "total")


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every ask. ``step`` of ``steps``: of the strategy. ``best``: the event of the best
    program so far; the counters are those of `SearchResult`."""

    step: int
    steps: int
    evaluations: int
    rejected: int
    duplicates: int
    best: Event | None


def run_search(
    problem: Problem,
    strategy: Strategy[Any],
    *,
    seed: int = 0,
    budget: int | None = None,
    out: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Runs the strategy to its end, or until ``budget`` programs were evaluated.

    ``seed``: with the same problem, strategy and seed every result and every file but ``timing.json`` is the same, byte
    by byte, also when the run was killed and continued. ``out``: the run directory; the same settings continue what is
    there. Without it nothing is written.

    Ctrl-C finishes the step. Raises RunError: kind ``interrupted`` then, kind ``run`` for a directory that cannot be
    used; ProxforgeError ``config`` for a negative seed, an empty budget, or an objective that cannot be computed.
    """
    if seed < 0 or (budget is not None and budget < 1):
        raise ProxforgeError("config", f"the seed is {seed}, the budget {budget}; expected 0 or more, and 1 or more")
    with ExitStack() as stack:
        run = _Run(problem, strategy, seed, budget)
        directory = None if out is None else stack.enter_context(open_run(Path(out), run.config))
        interrupted = stack.enter_context(interrupts())
        return run.to_the_end(directory, interrupted, progress)


class _Run:
    """One session of a run."""

    def __init__(self, problem: Problem, strategy: Strategy[Any], seed: int, budget: int | None) -> None:
        self._clock = dict.fromkeys(PHASES, 0.0)
        self._began = time.perf_counter()
        self._problem = problem
        self._seed = seed
        self._budget = budget
        self._pool = canonical_pool()
        self._space = ValidSpace(strategy.space, self._pool, Analyser(problem.known()).check)
        self._strategy = strategy.over(self._space)
        self._objective = problem.judge(problem.search)
        self._on_test = problem.judge(problem.test)  # made now: a target that cannot be judged is an error at the start
        self._evaluator: Scores | None = None
        self._archive = Archive()
        self._asks = 0
        self._kept = -math.inf  # the first step is kept
        self._state = strategy.init()
        self.config = _config(problem, strategy, seed, budget)

    def to_the_end(
        self, directory: RunDir | None, interrupted: threading.Event, progress: Callable[[Progress], None] | None
    ) -> SearchResult:
        with self._timed("files"):
            if directory is not None:
                self._resume(directory)
        while not self._over():
            events = self._step()
            stop = interrupted.is_set()
            if directory is not None:
                with self._timed("files"):
                    self._keep(directory, events, now=stop or self._over())
            if progress is not None:
                progress(self._progress())
            if stop and not self._over():
                self._total(directory)
                raise _interrupted(directory, self._archive)
        result = self._result(directory)
        if directory is not None:
            directory.finish(result)
        return result

    def _keep(self, directory: RunDir, events: list[Event], *, now: bool) -> None:
        """The events at once, the state when it is due: what a kill takes is computed again, to the same bytes."""
        directory.append(events)
        if now or time.perf_counter() - self._kept >= CHECKPOINT_SECONDS:
            directory.checkpoint({"asks": self._asks, "state": freeze(self._state, self._strategy.space)})
            self._kept = time.perf_counter()

    def _resume(self, directory: RunDir) -> None:
        found = directory.resume()
        if found is None:
            return
        checkpoint, events = found
        try:
            self._asks = int(checkpoint["asks"])
            self._state = thaw(self._strategy.states, checkpoint["state"], self._strategy.space)
        except (KeyError, TypeError, ValueError, ProxforgeError) as error:
            raise RunError(
                f"the checkpoint in {directory.path} is damaged: {error}. Delete the run directory and search again"
            ) from error
        self._archive = Archive(events)

    def _over(self) -> bool:
        done, steps = self._strategy.progress(self._state)
        return done >= steps or (self._budget is not None and self._archive.evaluations >= self._budget)

    def _step(self) -> list[Event]:
        with self._timed("strategy"):
            state, genotypes = self._strategy.ask(self._state, self._generator)
        with self._timed("compile"):
            candidates = [self._space.compiled(g) for g in genotypes]
            new = self._new(candidates)
        outcomes = self._scored(new)
        events = [self._rejected(index, compiled) for index, compiled in enumerate(self._space.refused())]
        for rejected in events:
            self._archive.add(rejected)
        evaluated: list[Evaluated] = []
        for genotype, compiled in zip(genotypes, candidates, strict=True):
            event = self._event(len(events), compiled, outcomes)
            if event is None:  # the budget is used up
                return events
            self._archive.add(event)
            events.append(event)
            evaluated.append(self._told(genotype, event))
        with self._timed("strategy"):
            self._state = self._strategy.tell(state, evaluated)
        self._asks += 1
        return events

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._asks, index])

    def _new(self, candidates: Sequence[Compiled]) -> dict[str, Node]:
        """Hash -> program, of the valid ones that were not scored before, as many as the budget allows."""
        new: dict[str, Node] = {}
        left = None if self._budget is None else self._budget - self._archive.evaluations
        for node, error in candidates:
            if node is not None and error is None and self._archive.known(hash_of(node)) is None:
                if len(new) == left and hash_of(node) not in new:
                    break
                new[hash_of(node)] = node
        return new

    def _scored(self, new: Mapping[str, Node]) -> dict[str, Known]:
        """The outcome of each new program."""
        if not new:
            return {}
        with self._timed("evaluate"):
            if self._evaluator is None:
                self._evaluator = self._problem.evaluator(self._problem.search)
            result = self._evaluator.run(list(new.values()))
        with self._timed("correlate"):
            return dict(zip(new, _outcomes(result, self._objective), strict=True))

    def _rejected(self, index: int, compiled: Compiled) -> Event:
        node, error = compiled
        formula, digest = (None, None) if node is None else (text(node), hash_of(node))
        return Event(self._asks, index, REJECTED, None if error is None else error.kind, formula, digest, None)

    def _event(self, index: int, compiled: Compiled, outcomes: Mapping[str, Known]) -> Event | None:
        node, error = compiled
        if node is None or error is not None:
            return self._rejected(index, compiled)
        formula, digest = text(node), hash_of(node)
        known = self._archive.known(digest)
        if known is not None:
            return Event(self._asks, index, DUPLICATE, None, formula, digest, known.value)
        if digest not in outcomes:
            return None
        return Event(self._asks, index, outcomes[digest].status, None, formula, digest, outcomes[digest].value)

    def _told(self, genotype: Genotype, event: Event) -> Evaluated:
        known = self._archive.known(event.hash) if event.hash is not None else None
        return Evaluated(genotype, event.jcm, event.hash, event.status if known is None else known.status)

    def _result(self, directory: RunDir | None) -> SearchResult:
        archive = self._archive
        best = self._tested(archive.best)
        return SearchResult(
            best=best,
            params={k: v for k, v in self.config.items() if k != "networks"},
            evaluations=archive.evaluations,
            rejected=archive.rejected,
            duplicates=archive.duplicates,
            invalid=archive.invalid,
            seconds=self._total(directory),
            history=tuple(archive.history),
        )

    def _tested(self, best: Event | None) -> Best | None:
        """The best program on the test part, which nothing else ever touches."""
        if best is None or best.formula is None or best.hash is None or best.jcm is None:
            return None
        node = parse(best.formula, self._pool)
        with self._timed("evaluate"):
            result = self._problem.evaluator(self._problem.test).run([node])
        (outcome,) = _outcomes(result, self._on_test)
        return Best(best.formula, best.hash, best.jcm, outcome.value, node.facts.shape_only)

    def _total(self, directory: RunDir | None) -> dict[str, float]:
        """The seconds of this session and of those before it, as far as they are known; written to the directory."""
        spent = self._clock | {"total": time.perf_counter() - self._began}
        if directory is not None:
            earlier = directory.seconds()
            spent = {phase: value + earlier.get(phase, 0.0) for phase, value in spent.items()}
            directory.spent(spent)
        return spent

    def _progress(self) -> Progress:
        done, steps = self._strategy.progress(self._state)
        a = self._archive
        return Progress(done, steps, a.evaluations, a.rejected, a.duplicates, a.best)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._clock[phase] += time.perf_counter() - began


def _outcomes(result: Result, objective: Objective) -> list[Known]:
    """Value and status of every program of a run; a score that orders no two networks of a target is constant."""
    valid = np.flatnonzero(result.status == Status.OK)
    values: dict[int, float | None] = {}
    if len(valid):
        values = dict(zip(valid.tolist(), objective(result.scores[valid]), strict=True))
    outcomes = []
    for i, status in enumerate(result.status):
        value = values.get(i)
        undefined = status == Status.OK and value is None
        outcomes.append(Known(value, Status.CONSTANT.word if undefined else Status(status).word))
    return outcomes


def _config(problem: Problem, strategy: Strategy[Any], seed: int, budget: int | None) -> dict[str, Any]:
    """Everything that decides the result, as plain JSON."""
    return {
        "schema": SCHEMA,
        **problem.describe(),
        "space": strategy.space.describe(),
        "strategy": {"name": strategy.name, **strategy.config.to_dict()},
        "seed": seed,
        "budget": budget,
        "versions": {"python": platform.python_version(), "numpy": version("numpy"), "torch": version("torch")},
    }


def _interrupted(directory: RunDir | None, archive: Archive) -> RunError:
    kept = (
        "nothing was kept: give a run directory to be able to continue"
        if directory is None
        else f"run the same search with the directory {directory.path} again to continue it"
    )
    return RunError(f"interrupted after {archive.evaluations} evaluations; {kept}", "interrupted")
