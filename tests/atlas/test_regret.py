"""Regret against the optimum of a space, and the best share of its programs."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.atlas import analysis
from proxforge.bench.atlas.lookup import problem_of
from proxforge.bench.atlas.store import Atlas
from proxforge.bench.strategies import whole as module
from proxforge.bench.strategies.plan import Run, Step
from proxforge.bench.strategies.statistics import compare
from proxforge.bench.strategies.whole import Whole, whole_of
from proxforge.grammar.canonical import canonical_pool

from . import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas") / "a"
    small.build(folder, small.task("scalars"))
    return folder


def values_of_all(folder):
    """The values on the search part of all programs that are drawn, each once, from the best."""
    atlas = Atlas(folder)
    problem, pool, rng = problem_of(atlas, small.targets()), canonical_pool(), np.random.default_rng(0)
    nodes = {}
    for _ in range(30_000):
        node = atlas.space.expression(atlas.space.sample(rng), pool)
        if atlas.find(node) is not None:
            nodes[node.digest] = node
    found = problem.judge(problem.search)(problem.evaluator(problem.search).run(list(nodes.values())).scores)
    return sorted((v for v in found if v is not None), reverse=True)


def test_the_optimum_and_the_top_are_those_of_all_programs(folder, monkeypatch):
    values = values_of_all(folder)
    monkeypatch.setattr(module, "TOP", 0.02)
    whole = whole_of(folder)
    assert whole.programs == len(values)
    assert whole.optimum == pytest.approx(values[0], abs=1e-12)
    last = int(0.02 * len(values))
    assert whole.top == pytest.approx(values[last - 1], abs=1e-6)
    assert whole.at_top(values[last - 1])
    assert not whole.at_top(next(v for v in values if v < whole.top - 1e-4))
    assert analysis.TOP == 1e-4


def test_the_regret_of_a_strategy_is_below_the_optimum():
    def run(strategy, seed, value):
        return Run(strategy, seed, 10, 0, 0, 0, 0.1, (Step(3, value, 0.1, "f", 2, False),))

    runs = [run("random", seed, 0.5 + 0.01 * seed) for seed in range(4)]
    (row,) = compare(runs, 10, Whole(1000, 0.8, 0.7, 0.52)).rows
    assert row.regret[0] == pytest.approx(0.8 - 0.515)
    assert row.regret[1] <= row.regret[0] <= row.regret[2]
    assert row.top[0] == 0.5
    (row,) = compare(runs, 10).rows
    assert row.regret is None
    assert row.top is None
