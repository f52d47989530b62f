"""The cpu backend by number of programs, elements, threads, and share of common sub-expressions: `make bench`.

The values are compared first; the column ``gpops`` counts a shared node for every program.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from proxforge.bench.speed.engines import proxforge
from proxforge.bench.speed.measure import TOLERANCE
from proxforge.bench.speed.workloads import Workload, evolved_workload, expected, random_workload

CASES = {
    **{f"{n}-programs": ("random", n, 100_000, 1) for n in (1, 10, 100, 1000)},
    **{f"{n}-elements": ("random", 100, n, 1) for n in (1000, 10_000, 1_000_000)},
    "2-threads": ("random", 100, 1_000_000, 2),
    **{f"evolved-{n}-programs": ("evolved", n, 100_000, 1) for n in (100, 1000)},
}


@cache
def workload(kind: str, programs: int, elements: int) -> Workload:
    """Each is drawn once."""
    return (random_workload if kind == "random" else evolved_workload)(programs, elements)


@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES)
def test_scaling(benchmark: Any, case: str, number: type) -> None:
    """One population, its plan made."""
    kind, programs, elements, threads = CASES[case]
    made = workload(kind, programs, elements)
    prepared = proxforge(made, threads, number)
    np.testing.assert_allclose(prepared.means(), expected(made), rtol=TOLERANCE)
    benchmark.extra_info["shared"] = round(made.shared, 3)
    benchmark(prepared.run)
    if benchmark.stats is not None:
        benchmark.extra_info["gpops"] = made.nodes * elements / benchmark.stats.stats.median * 1e-9
