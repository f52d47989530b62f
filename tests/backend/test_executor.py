"""Scoring spread over an executor: the same bytes, whatever runs the parts."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import proxforge
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.expr import Pool
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.evaluate import Evaluator
from tests.random_programs import random_score, random_source

SHAPES = [(4, 6, 5, 2), (8, 6, 3, 3), (4, 10, 5, 1), (1, 1, 1, 2), (5, 7, 1, 2)]
SOURCE = random_source(3, SHAPES, special=True)


@pytest.mark.parametrize("pool", [Pool, canonical_pool])
@pytest.mark.parametrize("parts", [1, 2, 5, 9])
def test_parts_change_no_byte(parts, pool):
    made, rng = pool(), np.random.default_rng(1)
    roots = [random_score(rng, made) for _ in range(40)]
    whole = Evaluator(SOURCE, range(5), backend_name="cpu").run(roots)
    with ThreadPoolExecutor(2) as executor:
        evaluator = Evaluator(SOURCE, range(5), backend_name="cpu", executor=executor, parts=parts)
        for _ in range(2):
            spread = evaluator.run(roots)
            for name in ("scores", "status", "network"):
                np.testing.assert_array_equal(getattr(spread, name), getattr(whole, name))
    assert evaluator.counters.programs == 80


def test_no_programs():
    with ThreadPoolExecutor(2) as executor:
        assert Evaluator(SOURCE, range(5), backend_name="cpu", executor=executor).run([]).scores.shape == (0, 5)


def test_other_processes_open_the_cache_themselves(tmp_path):
    """The digits: what is sent is the path of the cache, and the programs as plain data."""
    formulas = ["mean(abs(fc1.w))", "sum(square(qkv.w)) + max(fc2.w)"]
    alone = proxforge.score(formulas, "digits:6", cache=tmp_path)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        spread = proxforge.score(formulas, "digits:6", cache=tmp_path, executor=executor)
    assert spread == alone
    for name, scores in alone.scores.items():
        np.testing.assert_array_equal(spread.scores[name], scores)


def test_an_error_of_a_part_is_the_caller_s():
    broken = MemoryCache([{"qkv.w": [np.ones((2, 3))]}, {"qkv.w": [np.ones((2, 3))]}])
    pool = canonical_pool()
    with ThreadPoolExecutor(2) as executor, pytest.raises(Exception, match=r"qkv\.g"):
        Evaluator(broken, range(2), backend_name="cpu", executor=executor).run([pool.score(pool.statistic("qkv.g"))])
