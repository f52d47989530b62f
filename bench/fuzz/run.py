"""Runs hostile inputs and reports what became of them."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ...grammar.errors import ProxyError
from ...grammar.parse import parse
from ...vm.compile import compile_text
from .inputs import CHUNK, chunk

LIMIT = 0.05
"""Seconds of processor time that reading an input may take."""


@dataclass(frozen=True)
class Slow:
    """An input by its number: its characters, the processor seconds that it took (the best of three where that is
    beyond the limit), and what became of it."""

    index: int
    characters: int
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Report:
    """``outcomes``: program, or the kind of error -> inputs. ``seconds``: of processor time for reading all inputs.
    ``slowest``: the five slowest. ``beyond_limit``: how many took more than `LIMIT`."""

    count: int
    seed: int
    outcomes: dict[str, int]
    seconds: float
    beyond_limit: int
    slowest: tuple[Slow, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def fuzz(count: int, seed: int = 0, *, workers: int = 1, progress: Callable[[int], None] | None = None) -> Report:
    """The inputs 0 to ``count`` of a seed. What is neither a program nor a ProxyError is raised, with its number.

    Of a program also its texts, its listing and reading its text again are tried. ``workers``: processes; the report
    does not depend on them but for the times.
    """
    tasks = [(seed, i, min(CHUNK, count - i * CHUNK)) for i in range(-(-count // CHUNK))]
    outcomes: Counter[str] = Counter()
    seconds, beyond, slowest, done = 0.0, 0, list[Slow](), 0
    for found, spent, late, slow in _results(tasks, workers):
        outcomes += found
        seconds, beyond, done = seconds + spent, beyond + late, done + found.total()
        slowest = sorted([*slowest, *slow], key=lambda s: -s.seconds)[:5]
        if progress is not None:
            progress(done)
    return Report(count, seed, dict(sorted(outcomes.items())), seconds, beyond, tuple(slowest))


_Task = tuple[int, int, int]
_Result = tuple[Counter[str], float, int, list[Slow]]


def _results(tasks: list[_Task], workers: int) -> Iterator[_Result]:
    if workers == 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_run, tasks)


def _run(task: _Task) -> _Result:
    """Outcomes, seconds, how many were beyond the limit, the slowest inputs of a chunk."""
    seed, number, count = task
    compile_text("qkv.w")  # the grammar is compiled before anything is timed
    outcomes: Counter[str] = Counter()
    slow = []
    for i, source in zip(range(count), chunk(seed, number), strict=False):
        try:
            outcome, seconds = _try(source)
            if seconds > LIMIT:  # a collection of garbage, or a neighbour in the caches
                seconds = min(seconds, _try(source)[1], _try(source)[1])
        except Exception as error:  # any: a crash is what is looked for; it goes on, with the text that caused it
            error.add_note(f"input {number * CHUNK + i} of seed {seed}: {source[:200]!r}")
            raise
        outcomes[outcome] += 1
        slow.append(Slow(number * CHUNK + i, len(source), seconds, outcome))
    slow.sort(key=lambda s: -s.seconds)
    return outcomes, sum(s.seconds for s in slow), sum(s.seconds > LIMIT for s in slow), slow[:5]


def _try(source: str) -> tuple[str, float]:
    """What becomes of an input, and the seconds that reading it takes: to the expression, or to the shown error."""
    start = time.process_time()
    try:
        node = parse(source)
    except ProxyError as error:
        str(error)
        return error.kind, time.process_time() - start
    seconds = time.process_time() - start
    try:
        proxy = compile_text(source)
    except ProxyError as error:
        return error.kind, seconds
    proxy.latex, proxy.statistics, proxy.disassemble()
    if parse(proxy.canonical).digest != node.digest:
        raise AssertionError(f"the text of the program reads as another one: {proxy.canonical[:200]!r}")
    return "program", seconds
