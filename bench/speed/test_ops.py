"""Every op on a Matrix, by the cpu backend and by torch: `make bench`. The values are compared first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from proxforge.grammar.expr import Pool
from proxforge.grammar.op import Form
from proxforge.grammar.ops import OPS
from proxforge.grammar.types import Kind
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.backends import backend
from proxforge.vm.compile import compile_nodes
from proxforge.vm.program import Program

SHAPE = (384, 256)
NAMES = [name for name, op in OPS.items() if Kind.MATRIX in op.kinds]


@cache
def source() -> MemoryCache:
    """One layer of Gaussian noise."""
    rng = np.random.default_rng(0)
    shapes = {"fc1": SHAPE, "fc2": SHAPE[::-1]}
    return MemoryCache([{f"{s}.{k}": [rng.normal(0, 1, shape)] for s, shape in shapes.items() for k in "wg"}])


def program(name: str) -> Program:
    """The op on a statistic and its smallest element: a reduction that no rule takes apart."""
    pool, op = Pool(), OPS[name]
    second = "fc2.w" if op.form is Form.PRODUCT else "fc1.g"
    value = pool.apply(op, *(pool.statistic(s) for s in ("fc1.w", second)[: op.arity]))
    return compile_nodes([pool.score(pool.apply(OPS["min"], value) if value.type.kind is Kind.MATRIX else value)])


@pytest.mark.parametrize("engine", ["cpu", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_op(benchmark: Callable[..., object], name: str, engine: str) -> None:
    """The op, reading its operands and a reduction."""
    made = program(name)
    expected = backend("reference", source(), [0]).run(made)[0]
    chosen = backend(engine, source(), [0], "cpu")
    np.testing.assert_allclose(chosen.run(made)[0], expected, rtol=1e-9)
    benchmark(chosen.run, made)
