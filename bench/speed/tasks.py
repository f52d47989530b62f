"""What a user waits for: a search, a population, the first call of a process; and the memory that it takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.canonical import canonical_pool
from ...search.loop import run_search
from ...search.problem import Problem
from ...search.spaces import TreeSpace
from ...search.strategies import make_strategy
from ...stats_cache.source import Source
from ...vm.evaluate import Evaluator
from ..truth.base import Benchmark
from .rebuild import BUDGET, STRATEGY

_STATUS = Path("/proc/self/status")
_EVERY = 0.005
"""Seconds between two looks at the memory."""
_FIRST = (
    "import time; began = time.perf_counter(); "
    "from proxforge.bench.speed.engines import proxforge; "
    "from proxforge.bench.speed.workloads import random_workload; "
    "loaded = time.perf_counter(); proxforge(random_workload(1, 1000), 1).run(); "
    "print(loaded - began, time.perf_counter() - loaded)"
)


@dataclass(frozen=True)
class Search:
    """One search: ``seconds`` by phase, ``evaluations``, and ``networks`` of the search part. ``counters``: what the
    evaluator did and recalled."""

    seed: int
    networks: int
    evaluations: int
    seconds: dict[str, float]
    counters: dict[str, int]


def searches(benchmark: Benchmark, source: Source, seeds: Sequence[int] = (0, 1, 2)) -> list[Search]:
    """The strategy of Auto-Prox with the published budget over cached statistics, for each seed."""
    split = [part.tolist() for part in benchmark.split(0)]
    targets = {name: benchmark.targets[name] for name in benchmark.default_targets}
    found = []
    for seed in seeds:
        problem = Problem.of(source, targets, (split[0], split[1]))
        result = run_search(problem, make_strategy(STRATEGY, TreeSpace(), None), seed=seed, budget=BUDGET)
        found.append(Search(seed, len(split[0]), result.evaluations, dict(result.seconds), dict(result.counters)))
    return found


@dataclass(frozen=True)
class Population:
    """Random tree programs, drawn and compiled (``compile_s``), on all networks (``evaluate_s``). ``peak_mb``: memory
    of this process that is no page of a file, above what it was before; None where the system does not tell."""

    programs: int
    networks: int
    backend: str
    compile_s: float
    evaluate_s: float
    peak_mb: float | None


def population(source: Source, programs: int, seed: int = 0) -> Population:
    """Programs of the tree space over all networks of the source, in one call."""
    space, rng, pool = TreeSpace(), np.random.default_rng(seed), canonical_pool()
    began = time.perf_counter()
    roots = [pool.score(space.expression(space.sample(rng), pool)) for _ in range(programs)]
    compiled = time.perf_counter() - began
    evaluator = Evaluator(source, range(len(source.networks)))
    with _peak() as peak:
        began = time.perf_counter()
        evaluator.run(roots)
        seconds = time.perf_counter() - began
    return Population(programs, len(source.networks), evaluator.backend, compiled, seconds, peak())


def first_call(times: int = 3) -> tuple[float, float]:
    """(seconds to import what evaluates, seconds of the first evaluation) in a fresh process, the medians; what numba
    compiles is on the disk."""
    root = Path(__file__).resolve().parents[2]
    lines = [
        subprocess.run([sys.executable, "-c", _FIRST], cwd=root, capture_output=True, text=True, check=True).stdout
        for _ in range(times + 1)
    ]
    found = [tuple(map(float, line.split())) for line in lines[1:]]
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


@contextmanager
def _peak() -> Iterator[Callable[[], float | None]]:
    """Looks at the memory of this process, again and again, and gives the most that it grew, in MB."""
    before = _anonymous()
    most, over = [before or 0.0], threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            most.append(max(most.pop(), _anonymous() or 0.0))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: None if before is None else most[0] - before
    finally:
        over.set()
        watcher.join()


def _anonymous() -> float | None:
    """MB of memory that are no pages of files."""
    try:
        text = _STATUS.read_text(encoding="utf-8")
    except OSError:
        return None
    fields: dict[str, Any] = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return float(fields["RssAnon"].split()[0]) / 1000 if "RssAnon" in fields else None
