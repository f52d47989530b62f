"""The torch backend on a CUDA device: every op, both kinds, and random programs against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxforge.grammar.expr import Pool
from proxforge.grammar.types import Kind
from tests.backend.test_backends import CASES, SOURCES, agree, operands
from tests.random_programs import random_score

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_op_of_every_kind(source):
    pool = Pool()
    usable = [o for o in CASES if not (o.op.no_scalar and o.operands == (Kind.SCALAR,))]
    nodes = [pool.score(pool.apply(o.op, *args)) for o in usable for args in operands(pool, o.op, o.operands)]
    agree(SOURCES[source], nodes, "cuda")


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_random_population(source):
    rng = np.random.default_rng(0)
    pool = Pool()
    assert agree(SOURCES[source], [random_score(rng, pool, 4) for _ in range(500)], "cuda") > 0
