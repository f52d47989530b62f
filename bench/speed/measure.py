"""Workloads on engines, interleaved, their values compared: one table of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .engines import ENGINES, Prepared, missing
from .limits import kernel_seconds, machine_facts, memory_bandwidth
from .workloads import Workload, evolved_workload, expected, random_workload

TOLERANCE = 1e-3
"""The largest relative difference of a mean from that in float64; float32 engines add up in float32."""
OURS = ("proxforge", "proxforge-float32")
SECONDS = 20.0
"""An engine that needs longer for its repeats gets fewer, one at least."""


@dataclass(frozen=True)
class Row:
    """One engine on one workload with so many threads.

    ``gpops``: 10^9 operator nodes times elements a second, the median; ``spread``: of the middle half of the repeats,
    relative to it. ``prepare_s``: of compilation. ``ratio_torch``, ``ratio_operon``: with the same number of threads,
    None where that was not measured. ``of_limit``: of what the instructions would reach in the first cache.
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
    for count in elements:
        workloads = [random_workload(programs, count)] if programs else []
        workloads += [evolved_workload(evolved, count)] if evolved else []
        for workload in workloads:
            found = _measured(workload, threads, present, repeats, tell)
            limits = {}
            for engine, number in (("proxforge", np.float64), ("proxforge-float32", np.float32)):
                if engine in present:
                    limits[engine] = workload.nodes * count / kernel_seconds(workload, number) * 1e-9
                    kernel[f"{engine} {workload.name} {count:g}"] = limits[engine]
            rows += _with_ratios(found, limits)
    sums = {"kernel_sum_gpops": next(iter(kernel.values()), None), "kernel_sums": kernel}
    left = [f"{e} ({ENGINES[e][1]} is not installed)" for e in engines if e not in present]
    return Report(machine_facts(), {"memory_gbs": memory_bandwidth(), **sums}, [asdict(r) for r in rows], left)


def _measured(
    workload: Workload, threads: Sequence[int], engines: Sequence[str], repeats: int, tell: Callable[[str], None]
) -> list[Row]:
    """One row per engine and number of threads; the repeats of all take turns."""
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
            # in float32 a difference can be 0, and its logarithm infinite: then there is nothing to compare
            wrong = ~((np.abs(means - wanted) <= TOLERANCE * np.abs(wanted)) | (np.isinf(means) & (engine not in OURS)))
            assert not wrong.any(), (engine, [str(t) for t, w in zip(workload.trees, wrong, strict=True) if w][:3])
            prepared.run()  # once more: what was compiled is loaded, what is remembered is remembered
            ready[engine, count] = prepared, seconds
    times: dict[tuple[str, int], list[float]] = {key: [] for key in ready}
    for turn in range(repeats):
        tell(f"{workload.name}, {workload.elements:g} elements: turn {turn + 1} of {repeats}")
        for key, (prepared, _) in ready.items():
            if sum(times[key]) < SECONDS or not times[key]:
                began = time.perf_counter()
                prepared.run()
                times[key].append(time.perf_counter() - began)
    work = workload.nodes * workload.elements * 1e-9
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
    ]


def _with_ratios(rows: list[Row], limits: dict[str, float]) -> list[Row]:
    speed = {(r.engine, r.threads): r.gpops for r in rows}

    def ratio(row: Row, other: str) -> float | None:
        return row.gpops / speed[other, row.threads] if (other, row.threads) in speed else None

    return [
        Row(
            **{
                **asdict(r),
                "ratio_torch": ratio(r, "torch"),
                "ratio_operon": ratio(r, "operon"),
                "of_limit": r.gpops / (limits[r.engine] * r.threads) if r.engine in limits else None,
            }
        )
        for r in rows
    ]
