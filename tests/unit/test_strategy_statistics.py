"""The statistics of a comparison of strategies, against their definitions and another library."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from proxforge.bench.strategies.plan import Run, Step
from proxforge.bench.strategies.statistics import _holm, a12, compare, curves, ecdf, interval


def run(strategy, seed, *best, evaluations=100):
    steps = tuple(Step(n, value, test, "f", 5, False) for n, value, test in best)
    return Run(strategy, seed, evaluations, 3, 1, 0, 0.5, steps)


RNG = np.random.default_rng(0)
FINALS = {name: np.round(RNG.normal(mean, 0.1, 30), 2) for name, mean in (("random", 0.5), ("good", 0.6), ("bad", 0.3))}
RUNS = [
    run(name, seed, (1, value - 0.3, None), (10, value - 0.1, value - 0.2), (50, value, value - 0.05))
    for name, values in FINALS.items()
    for seed, value in enumerate(values.tolist())
]


def test_the_best_at_some_time_is_the_last_step_before_it():
    one = RUNS[0]
    assert one.at(0) is None
    assert [one.at(n).evaluations for n in (1, 9, 10, 49, 50, 1000)] == [1, 1, 10, 10, 50, 50]
    assert Run.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_significance_is_that_of_mann_and_whitney_on_the_test_part():
    found = compare(RUNS, 100)
    rows = {r.strategy: r for r in found.rows}
    for name in ("good", "bad"):
        x, y = FINALS[name] - 0.05, FINALS["random"] - 0.05
        expected = stats.mannwhitneyu(x.round(9), y.round(9))
        assert rows[name].p_vs_random == pytest.approx(expected.pvalue)
        assert rows[name].effect == pytest.approx(expected.statistic / 900)
    assert rows["random"].p_vs_random is None
    assert rows["good"].effect > 0.5 > rows["bad"].effect
    assert [rows[n].seeds for n in FINALS] == [30, 30, 30]
    assert rows["good"].rank < rows["random"].rank < rows["bad"].rank
    assert sum(r.rank for r in rows.values()) == pytest.approx(1 + 2 + 3)


def test_pairs_have_a_difference_with_its_interval_and_a_corrected_p():
    pairs = {(p.a, p.b): p for p in compare(RUNS, 100).pairs}
    assert set(pairs) == {("random", "good"), ("random", "bad"), ("good", "bad")}
    p = pairs["good", "bad"]
    assert p.difference_search[0] == pytest.approx(FINALS["good"].mean() - FINALS["bad"].mean())
    assert 0 < p.difference_search[1] < p.difference_search[0] < p.difference_search[2]
    assert all(p.p_test <= p.holm_test <= 1 for p in pairs.values())


def test_a_budget_looks_at_what_was_known_then():
    early = {r.strategy: r for r in compare(RUNS, 10).rows}
    assert early["good"].jcm_search[0] == pytest.approx(FINALS["good"].mean() - 0.1)
    assert (early["good"].seconds, early["good"].rejected, early["good"].duplicates) == (None, None, None)
    whole = {r.strategy: r for r in compare(RUNS, 100).rows}
    assert (whole["good"].seconds, whole["good"].rejected, whole["good"].duplicates) == (0.5, 3, 1)
    assert early["good"].jcm_test[0] == pytest.approx(FINALS["good"].mean() - 0.2)
    none = {r.strategy: r for r in compare(RUNS, 5).rows}
    assert none["good"].jcm_test is None  # no value on the test part


def test_evaluations_to_the_target_are_a_median_in_which_never_is_infinite():
    runs = [run("random", s, (20, 0.5, 0.5)) for s in range(4)]
    runs += [run("a", s, (5 + s, 0.5, 0.5)) for s in range(3)] + [run("a", 3, (1, 0.2, 0.2))]
    runs += [run("b", s, (5, 0.1 if s < 2 else 0.9, 0.1)) for s in range(4)]
    found = compare(runs, 100)
    assert found.target == 0.5
    assert {r.strategy: r.evaluations_to_target for r in found.rows} == {"random": 20, "a": 6.5, "b": None}


def test_holm():
    assert _holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert _holm([0.5, 0.9]) == [1.0, 1.0]


def test_a12():
    a, b = np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0])
    assert a12(a, b) == pytest.approx((1 + 1.5 + 1.5) / 6)


def test_the_interval_of_the_mean_covers_it():
    hits = 0
    for seed in range(200):
        mean, low, high = interval(np.random.default_rng(seed).normal(1.0, 2.0, 40))
        assert low < mean < high
        hits += low <= 1.0 <= high
    assert 175 <= hits <= 198
    assert interval(np.array([1.0, np.nan])) is None


def test_curves_and_ecdf():
    mine = [r for r in RUNS if r.strategy == "good"]
    mean, low, high = curves(mine, [1, 50])
    assert mean == pytest.approx([FINALS["good"].mean() - 0.3, FINALS["good"].mean()])
    assert (low < mean).all()
    assert (mean < high).all()
    runs = [run("a", 0, (2, 0.2, 0.1), (4, 0.6, 0.1)), run("a", 1, (3, 0.4, 0.1))]
    assert ecdf(runs, [0.2, 0.5], [1, 2, 3, 4]) == pytest.approx([0, 0.25, 0.5, 0.75])
