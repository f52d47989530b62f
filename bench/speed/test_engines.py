"""100 random programs on every engine that is installed: `make bench`. The values are compared first.

`proxforge bench speed` gives the same as a table with ratios, for more sizes, threads and evolved populations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from proxforge.bench.speed.engines import ENGINES, missing
from proxforge.bench.speed.measure import TOLERANCE
from proxforge.bench.speed.workloads import Workload, expected, random_workload

PROGRAMS = 100


@cache
def workload(elements: int) -> Workload:
    """The same programs for every engine."""
    return random_workload(PROGRAMS, elements)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "torch-compile"])
@pytest.mark.parametrize("elements", [100_000])
def test_random_programs(benchmark: Callable[..., object], elements: int, engine: str) -> None:
    """One thread each."""
    if missing(engine):
        pytest.skip(f"{ENGINES[engine][1]} is not installed")
    prepared = ENGINES[engine][0](workload(elements), 1)
    np.testing.assert_allclose(prepared.means(), expected(workload(elements)), rtol=TOLERANCE)
    benchmark(prepared.run)
