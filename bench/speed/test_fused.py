"""A population on a GPU, by the fused kernel and op by op.

To run it: `python -m pytest bench/speed/test_fused.py --benchmark-only -n 0`. The table of pytest-benchmark gives the
ratios in parentheses. The values are compared before anything is timed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from proxforge.bench.speed.engines import program_of, source_of
from proxforge.bench.speed.test_population import population, statistics
from proxforge.bench.speed.workloads import evolved_workload, random_workload
from proxforge.stats_cache.source import Source
from proxforge.vm.backends.torch import TorchBackend
from proxforge.vm.compile import compile_nodes
from proxforge.vm.program import Program

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


@cache
def workload(name: str) -> tuple[Program, Source]:
    """A merged program and what it is run on: float32 arrays of so many elements, or 64 layers of small segments."""
    if name == "layers":
        return compile_nodes(population()), statistics()
    kind, programs, elements = name.split("-")
    make = {"random": random_workload, "evolved": evolved_workload}[kind]
    made = make(int(programs), int(elements))
    return program_of(made.trees), source_of(made)


@pytest.mark.parametrize("path", ["op by op", "fused"])
@pytest.mark.parametrize("name", ["random-100-100000", "random-100-4000000", "evolved-1000-100000", "layers"])
def test_population_on_a_gpu(benchmark: BenchmarkFixture, name: str, path: str) -> None:
    program, source = workload(name)
    networks = range(len(source.networks))
    fused, plain = TorchBackend(source, networks, "cuda"), TorchBackend(source, networks, "cuda", None)
    assert fused.device == "cuda, fused kernel"
    np.testing.assert_allclose(fused.run(program)[0], plain.run(program)[0], rtol=1e-9)
    chosen = fused if path == "fused" else plain
    benchmark.group = name
    benchmark(lambda: chosen.run(program))
