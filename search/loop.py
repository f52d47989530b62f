"""The loop: a session asks, the VM scores, the objective judges, the session is told; a run directory keeps it all."""

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

from ..grammar.analysis import Analyser
from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node
from ..grammar.parse import parse
from ..vm.evaluate import Evaluator
from .archive import Archive, Known
from .events import Event
from .front import front_of
from .interrupt import interrupts
from .problem import Problem, Scores
from .result import Best, Point, SearchResult
from .rundir import RunDir, RunError, open_run
from .scoring import outcomes
from .session import Session
from .starting import genotypes_of
from .strategies.base import Strategy

SCHEMA = 3
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


Callback = Callable[[Progress], bool | None]
"""Is told after every ask; True ends the run."""


@dataclass(frozen=True)
class Limits:
    """When a run ends before its strategy does. ``budget``: evaluations. ``patience``: evaluations without a better
    best. ``seconds``: of this session; the only limit whose result depends on the machine."""

    budget: int | None = None
    patience: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("budget", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ProxforgeError("config", f"the {name} is {value}; expected 1 or more evaluations")
        if self.seconds is not None and not self.seconds > 0:
            raise ProxforgeError("config", f"the time is {self.seconds} seconds; expected more than 0")


def run_search(
    problem: Problem,
    strategy: Strategy[Any],
    *,
    seed: int = 0,
    budget: int | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    start: Sequence[str] = (),
    out: str | Path | None = None,
    progress: Callback | None = None,
) -> SearchResult:
    """Runs the strategy to its end, or to one of the limits, see `Limits`.

    ``seed``: with the same problem, strategy, seed and limits every result and every file but ``timing.json`` is the
    same, byte by byte, also when the run was killed and continued (a limit in seconds and a callback that ends the run
    apart). ``start``: formulas that take places in the first population. ``out``: the run directory; the same settings
    continue what is there. Without it nothing is written.

    Ctrl-C finishes the step. Raises RunError: kind ``interrupted`` then, kind ``run`` for a directory that cannot be
    used; ProxforgeError ``config`` for a negative seed, an empty limit, an objective that cannot be computed, or a
    starting formula that the space cannot hold.
    """
    if seed < 0:
        raise ProxforgeError("config", f"the seed is {seed}; expected 0 or more")
    limits = Limits(budget, patience, seconds)
    with ExitStack() as stack:
        run = _Run(problem, strategy, seed, limits, tuple(start))
        directory = None if out is None else stack.enter_context(open_run(Path(out), run.config))
        interrupted = stack.enter_context(interrupts())
        return run.to_the_end(directory, interrupted, progress)


class _Run:
    """One session of a run, with its files and its clock."""

    def __init__(
        self, problem: Problem, strategy: Strategy[Any], seed: int, limits: Limits, start: tuple[str, ...]
    ) -> None:
        self._clock = dict.fromkeys(PHASES, 0.0)
        self._began = time.perf_counter()
        self._problem = problem
        self._limits = limits
        self._pool = canonical_pool()
        self._session = Session(
            strategy,
            seed=seed,
            budget=limits.budget,
            patience=limits.patience,
            start=genotypes_of(strategy.space, start),
            pool=self._pool,
            check=Analyser(problem.known()).check,
        )
        self._objective = problem.evaluated()
        self._whole = problem.judge(problem.search)
        self._on_test = problem.judge(problem.test)  # made now: a target that cannot be judged is an error at the start
        self._evaluator: Scores | None = None
        self._kept = -math.inf  # the first step is kept
        self.config = _config(problem, strategy, seed, limits, start)

    def to_the_end(
        self, directory: RunDir | None, interrupted: threading.Event, progress: Callback | None
    ) -> SearchResult:
        with self._timed("files"):
            if directory is not None:
                self._resume(directory)
        ended = None
        while not self._session.over and ended is None:
            events = self._step()
            ended = self._late()
            stop = interrupted.is_set()
            if directory is not None:
                with self._timed("files"):
                    self._keep(directory, events, now=stop or self._session.over or ended is not None)
            if progress is not None and progress(self._progress()) is True:
                ended = "callback"
                if directory is not None:
                    self._keep(directory, [], now=True)
            if stop and not self._session.over and ended is None:
                self._total(directory)
                raise _interrupted(directory, self._session.archive)
        result = self._result(directory, self._session.stopped or ended or "")
        if directory is not None:
            directory.finish(result)
        return result

    def _late(self) -> str | None:
        limit = self._limits.seconds
        return "seconds" if limit is not None and time.perf_counter() - self._began >= limit else None

    def _keep(self, directory: RunDir, events: list[Event], *, now: bool) -> None:
        """The events at once, the state when it is due: what a kill takes is computed again, to the same bytes."""
        directory.append(events)
        if now or time.perf_counter() - self._kept >= CHECKPOINT_SECONDS:
            directory.checkpoint(self._session.frozen())
            self._kept = time.perf_counter()

    def _resume(self, directory: RunDir) -> None:
        found = directory.resume()
        if found is None:
            return
        try:
            self._session.resume(*found)
        except (KeyError, TypeError, ValueError, ProxforgeError) as error:
            raise RunError(
                f"the checkpoint in {directory.path} is damaged: {error}. Delete the run directory and search again"
            ) from error

    def _step(self) -> list[Event]:
        before = self._session.space.seconds
        with self._timed("strategy"):
            new = self._session.ask()
        found = self._scored(new)
        with self._timed("strategy"):
            events = self._session.tell(found)
        compiling = self._session.space.seconds - before
        self._clock["strategy"] -= compiling
        self._clock["compile"] += compiling
        return events

    def _scored(self, new: Mapping[str, Node]) -> dict[str, Known]:
        """The outcome of each new program."""
        if not new:
            return {}
        programs = list(new.values())
        with self._timed("evaluate"):
            result = self._searched().run(programs)
        with self._timed("correlate"):
            return dict(zip(new, outcomes(result, self._objective, programs), strict=True))

    def _searched(self) -> Scores:
        if self._evaluator is None:
            self._evaluator = self._problem.evaluator(self._problem.search)
        return self._evaluator

    def _result(self, directory: RunDir | None, stopped: str) -> SearchResult:
        archive = self._session.archive
        best, front = self._tested(archive)
        return SearchResult(
            best=best,
            params={k: v for k, v in self.config.items() if k != "networks"},
            evaluations=archive.evaluations,
            rejected=archive.rejected,
            duplicates=archive.duplicates,
            invalid=archive.invalid,
            seconds=self._total(directory),
            counters=self._evaluator.counters.to_dict() if isinstance(self._evaluator, Evaluator) else {},
            history=tuple(archive.history),
            front=front,
            stopped=stopped,
        )

    def _tested(self, archive: Archive) -> tuple[Best | None, tuple[Point, ...]]:
        """The best program and the front on the test part, which nothing else ever touches, and on all networks of
        the search part, where an evaluation sees only some of them."""
        best = archive.best
        if best is None or best.formula is None or best.hash is None or best.jcm is None:
            return None, ()
        chosen = {e.hash: e for e in (best, *front_of(archive.history)) if e.hash is not None and e.formula is not None}
        nodes = [parse(e.formula, self._pool) for e in chosen.values() if e.formula is not None]
        with self._timed("evaluate"):
            result = self._problem.evaluator(self._problem.test).run(nodes)
        test = dict(zip(chosen, outcomes(result, self._on_test, nodes), strict=True))
        search = {digest: Known(e.jcm, e.status) for digest, e in chosen.items()}
        if self._problem.sample is not None:
            with self._timed("evaluate"):
                whole = self._searched().run(nodes)
            search = dict(zip(chosen, outcomes(whole, self._whole, nodes), strict=True))
        points = {
            digest: Point(
                e.formula or "", digest, e.complexity or 0, search[digest].value, test[digest].value, n.facts.shape_only
            )
            for (digest, e), n in zip(chosen.items(), nodes, strict=True)
        }
        front = tuple(points[e.hash] for e in front_of(archive.history) if e.hash is not None)
        found = points[best.hash]
        return Best(best.formula, best.hash, found.search, found.test, found.shape_only), front

    def _total(self, directory: RunDir | None) -> dict[str, float]:
        """The seconds of this session and of those before it, as far as they are known; written to the directory."""
        spent = self._clock | {"total": time.perf_counter() - self._began}
        if directory is not None:
            earlier = directory.seconds()
            spent = {phase: value + earlier.get(phase, 0.0) for phase, value in spent.items()}
            directory.spent(spent)
        return spent

    def _progress(self) -> Progress:
        done, steps = self._session.strategy.progress(self._session.state)
        a = self._session.archive
        return Progress(done, steps, a.evaluations, a.rejected, a.duplicates, a.best)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._clock[phase] += time.perf_counter() - began


def _config(
    problem: Problem, strategy: Strategy[Any], seed: int, limits: Limits, start: tuple[str, ...]
) -> dict[str, Any]:
    """Everything that decides the result, as plain JSON."""
    return {
        "schema": SCHEMA,
        **problem.describe(),
        "space": strategy.space.describe(),
        "strategy": {"name": strategy.name, **strategy.config.to_dict()},
        "seed": seed,
        "budget": limits.budget,
        "patience": limits.patience,
        "time": limits.seconds,
        "start": list(start),
        "versions": {"python": platform.python_version(), "numpy": version("numpy"), "torch": version("torch")},
    }


def _interrupted(directory: RunDir | None, archive: Archive) -> RunError:
    kept = (
        "nothing was kept: give a run directory to be able to continue"
        if directory is None
        else f"run the same search with the directory {directory.path} again to continue it"
    )
    return RunError(f"interrupted after {archive.evaluations} evaluations; {kept}", "interrupted")
