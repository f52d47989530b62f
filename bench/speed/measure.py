"""Workloads on engines, interleaved, their values compared: one table of one run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .engines import ENGINES, Prepared, Real, missing
from .limits import instructions_of, kernel_seconds, machine_facts, memory_bandwidth, thread_gain
from .workloads import Workload, delicate, evolved_workload, expected, random_workload

TOLERANCE = 1e-3
"""The largest relative difference of a mean from that in float64; float32 engines add up in float32."""
OURS: dict[str, Real] = {"proxforge": np.float64, "proxforge-float32": np.float32}
"""Our engines, and the format of their tiles."""
SECONDS = 20.0
"""An engine that needs longer for its repeats gets fewer, one at least."""
TURN = 0.1
"""Seconds of a turn at least: a search, too, evaluates one population after the other."""


@dataclass(frozen=True)
class Row:
    """One engine on one workload with so many threads.

    ``gpops``: 10^9 operator nodes times elements a second, the median; ``spread``: of the middle half of the repeats,
    relative to it. ``prepare_s``: of compilation. ``ratio_torch``, ``ratio_operon``: with the same number of threads,
    None where that was not measured. ``of_limit``: of what the instructions reach in the first cache, measured in the
    same turns, on as many threads as `limits.thread_gain` says that they are.
    """

    workload: str
    elements: int
    shared: float
    engine: str
    threads: int
    gpops: float
    spread: float
    prepare_s: float
    repeats: int
    ratio_torch: float | None = None
    ratio_operon: float | None = None
    of_limit: float | None = None


@dataclass(frozen=True)
class Report:
    """The machine, its limits and the rows, as plain JSON values."""

    machine: dict[str, Any]
    limits: dict[str, Any]
    rows: list[dict[str, Any]]
    left_out: list[str]


def measure(
    elements: Sequence[int],
    programs: int,
    evolved: int,
    threads: Sequence[int],
    engines: Sequence[str],
    repeats: int = 5,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Every engine on ``programs`` random programs, and on ``evolved`` evolved ones (0: none), for each number of
    elements. Raises AssertionError where an engine computes something else."""
    tell = progress or (lambda text: None)
    rows: list[Row] = []
    kernel: dict[str, float] = {}
    present = [e for e in engines if not missing(e)]
    gain = {count: thread_gain(count) for count in threads}
    for count in elements:
        workloads = [random_workload(programs, count)] if programs else []
        workloads += [evolved_workload(evolved, count)] if evolved else []
        for workload in workloads:
            found, limits = _measured(workload, threads, present, repeats, tell)
            kernel |= {f"{engine} {workload.name} {count:g}": gpops for engine, gpops in limits.items()}
            rows += _with_ratios(found, limits, gain)
    facts = {
        "memory_gbs": memory_bandwidth(),
        "thread_gain": {str(count): times for count, times in gain.items()},
        "kernel_sum_gpops": next(iter(kernel.values()), None),
        "kernel_sums": kernel,
    }
    left = [f"{e} ({ENGINES[e][1]} is not installed)" for e in engines if e not in present]
    return Report(machine_facts(), facts, [asdict(r) for r in rows], left)


def _measured(
    workload: Workload, threads: Sequence[int], engines: Sequence[str], repeats: int, tell: Callable[[str], None]
) -> tuple[list[Row], dict[str, float]]:
    """One row per engine and number of threads, and by engine the kernel sum of one thread in GPops/s; the repeats of
    all take turns."""
    wanted = expected(workload)
    ready: dict[tuple[str, int], tuple[Prepared, float]] = {}
    for engine in engines:
        prepare, _, parallel = ENGINES[engine]
        for count in threads if parallel else threads[:1]:
            tell(f"{workload.name}, {workload.elements:g} elements: {engine}, {count} threads")
            began = time.perf_counter()
            prepared = prepare(workload, count)
            means = prepared.means()
            seconds = time.perf_counter() - began
            with np.errstate(invalid="ignore"):
                wrong = ~(np.abs(means - wanted) <= TOLERANCE * np.abs(wanted))
            if engine not in OURS:  # in float32 a difference can be 0, and its logarithm infinite
                wrong &= ~np.isinf(means)
            if wrong.any():
                chosen = np.flatnonzero(wrong)
                few = replace(workload, trees=tuple(workload.trees[i] for i in chosen))
                wrong[chosen] = ~delicate(few, wanted[chosen], TOLERANCE)
            assert not wrong.any(), (engine, [str(t) for t, w in zip(workload.trees, wrong, strict=True) if w][:3])
            prepared.run()  # once more: what was compiled is loaded, what is remembered is remembered
            ready[engine, count] = prepared, seconds
    times: dict[tuple[str, int], list[float]] = {key: [] for key in ready}
    sums: dict[str, list[float]] = {engine: [] for engine in engines if engine in OURS}
    taken = dict.fromkeys(ready, 0.0)
    instructions = instructions_of(workload) if sums else Counter()
    for turn in range(repeats):
        tell(f"{workload.name}, {workload.elements:g} elements: turn {turn + 1} of {repeats}")
        for key, (prepared, _) in ready.items():
            if taken[key] < SECONDS:
                times[key].append(_turn(prepared))
                taken[key] += max(times[key][-1], TURN)
        for engine, kernels in sums.items():
            kernels.append(workload.elements * kernel_seconds(instructions, OURS[engine]))
    work = workload.nodes * workload.elements * 1e-9
    limits = {engine: work / float(np.median(kernels)) for engine, kernels in sums.items()}
    return [
        Row(
            workload.name,
            workload.elements,
            round(workload.shared, 3),
            engine,
            count,
            work / float(np.median(times[engine, count])),
            float(np.subtract(*np.percentile(times[engine, count], [75, 25])) / np.median(times[engine, count])),
            ready[engine, count][1],
            len(times[engine, count]),
        )
        for engine, count in ready
    ], limits


def _turn(prepared: Prepared) -> float:
    """Seconds of one evaluation, the mean of a turn."""
    began, done, taken = time.perf_counter(), 0, 0.0
    while taken < TURN:
        prepared.run()
        done += 1
        taken = time.perf_counter() - began
    return taken / done


def _with_ratios(rows: list[Row], limits: dict[str, float], gain: dict[int, float]) -> list[Row]:
    speed = {(r.engine, r.threads): r.gpops for r in rows}

    def ratio(row: Row, other: str) -> float | None:
        return row.gpops / speed[other, row.threads] if (other, row.threads) in speed else None

    return [
        Row(
            **{
                **asdict(r),
                "ratio_torch": ratio(r, "torch"),
                "ratio_operon": ratio(r, "operon"),
                "of_limit": r.gpops / (limits[r.engine] * gain[r.threads]) if r.engine in limits else None,
            }
        )
        for r in rows
    ]
