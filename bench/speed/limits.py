"""What the machine allows: its memory, and the instructions of a workload at the speed they have in the first cache."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...vm.backends.cpu import emit, machine
from ...vm.backends.cpu.emit import PAD
from ...vm.backends.cpu.layout import TYPICAL, layout
from ...vm.backends.cpu.plan import plan
from ...vm.backends.cpu.threads import Threads, aligned, available
from .engines import Real, program_of
from .workloads import Workload

_BEST_OF = 9
_REPEATED = 200
_LONG = 2000
Instruction = tuple[int, int]
"""Kind and variant, see `vm.backends.cpu.machine`."""


def machine_facts() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable": available(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    import llvmlite.binding

    name = str(llvmlite.binding.get_host_cpu_name())
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        models = []
    return f"{models[0]} ({name})" if models else platform.processor() or name


def memory_bandwidth(megabytes: int = 512) -> float:
    """How fast one thread reads memory, in GB/s: the machine's own instruction for it, the best of several times."""
    x = np.ones(((megabytes << 18) // TYPICAL, TYPICAL), np.float32)
    found = layout(np.array([len(x)]), np.array([TYPICAL]), 1)
    return x.nbytes / _timed([(machine.TAKE, 0)], [x], found, np.float64, 1) * 1e-9


def instructions_of(workload: Workload) -> Counter[Instruction]:
    """How often the workload's sweeps have each instruction."""
    made = plan(program_of(workload.trees), [10.0] * 3)
    counts: Counter[Instruction] = Counter()
    for sweeps in made.passes:
        for sweep in sweeps:
            counts.update((int(kind), int(variant)) for kind, variant in sweep.code[:, :2])
    return counts


def kernel_seconds(counts: Counter[Instruction], number: Real) -> float:
    """The time per element of so many instructions, each at the speed that it has in the first cache now."""
    return sum(count * instruction_seconds(i, number) for i, count in counts.items())


def instruction_seconds(instruction: Instruction, number: Real) -> float:
    """Seconds per element of one instruction on a tile that stays in the first cache."""
    return _of_one(_ten_and_twenty(instruction, number))


def steady_instruction_seconds(instructions: Sequence[Instruction], number: Real, rounds: int) -> list[float]:
    """The same for many, each timed once in every round: other users of a machine slow it down for seconds."""
    times = [[_ten_and_twenty(i, number) for i in instructions] for _ in range(rounds)]
    return [_of_one(pair) for pair in np.min(times, axis=0)]


def _ten_and_twenty(instruction: Instruction, number: Real) -> tuple[float, float]:
    """Seconds per element of ten and of twenty runs of the instruction, and what goes with them."""
    scale = 8 // np.dtype(number).itemsize
    x = np.random.default_rng(0).normal(0, 1, (2, 16, TYPICAL * scale // 16)).astype(np.float32)
    found = layout(np.array([16]), np.array([x[0].shape[1]]), scale)
    elements = _REPEATED * x[0].size
    ten, twenty = (_timed([instruction] * count, list(x), found, number, _REPEATED) for count in (10, 20))
    return ten / elements, twenty / elements


def _of_one(times: Sequence[float]) -> float:
    ten, twenty = times
    return float(max(twenty - ten, 0.0) / 10)


def thread_gain(threads: int) -> float:
    """How many times as much so many threads do at once as one does, each with numbers of its own in its first cache:
    below their number where they share a core's units, or its clock falls. The median of some turns."""
    if threads == 1:
        return 1.0
    x = np.random.default_rng(0).normal(0, 1, (2, 16, 128)).astype(np.float32)
    found = layout(np.array([16]), np.array([128]), 2)
    instruction = (machine.STEP, emit.STEPS.index("exp.m"))
    pool = Threads(threads)

    def seconds(count: int) -> float:
        ready = [_sweep([instruction] * 20, list(x), found, np.float32, _LONG) for _ in range(count)]
        began = time.perf_counter()
        pool.each(lambda run: run(), ready)
        return time.perf_counter() - began

    seconds(threads)
    return float(np.median([threads * seconds(1) / seconds(threads) for _ in range(_BEST_OF)]))


def _timed(
    instructions: list[Instruction], segments: list[NDArray[np.float32]], found: Any, number: Real, times: int
) -> float:
    """Seconds of one sweep, the best of several."""
    run = _sweep(instructions, segments, found, number, times)

    def once() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    return min(once() for _ in range(_BEST_OF))


def _sweep(
    instructions: list[Instruction], segments: list[NDArray[np.float32]], found: Any, number: Real, times: int
) -> Callable[[], None]:
    """What takes the segments, then runs each instruction on them, so many times."""
    jobs = np.repeat(found.jobs, times, axis=0)
    capacity = 4096 + PAD
    rows, columns = found.new_rows, found.new_columns
    taken = [(machine.TAKE, 0, i, 0, 0, i, 0) for i in range(len(segments))]
    last = len(segments) - 1
    code = np.array(taken + [(kind, variant, 3, 0, last, 0, 0) for kind, variant in instructions], np.int64)
    addresses = np.array([s.ctypes.data for s in segments], np.int64)[:, None]
    scratch = aligned(4 * capacity, number)
    tables = [np.full(columns + PAD, emit.LOWEST, number), *(np.zeros(columns + PAD, number) for _ in range(3))]
    totals, sums = np.zeros((len(jobs), 2)), [np.zeros(columns + PAD), np.zeros(rows + PAD)]
    run = machine.compiled("run", number is np.float64)
    return lambda: run(
        np.zeros(1, np.int64), np.zeros(2, np.int64), 1, np.array([0, len(jobs)]), jobs, code, scratch, capacity,
        addresses, np.ones((1, 1)), totals, tables[0], tables[1], 0, tables[2], tables[3], 0, *sums, 0,
    )  # fmt: skip
