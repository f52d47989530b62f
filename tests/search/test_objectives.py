"""The objectives against their definitions, and how one is chosen."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.parse import parse
from proxforge.search.correlation import partial_kendall
from proxforge.search.objectives import OBJECTIVES, Choice

RNG = np.random.default_rng(3)
SCORES = RNG.normal(size=(5, 12))
SCORES[1] = np.round(SCORES[1])
TARGETS = {"a": RNG.normal(size=12), "b": np.where(np.arange(12) % 5 == 0, np.nan, RNG.normal(size=12))}
FACTS = {"params": np.round(RNG.normal(size=12) * 3)}
POOL = canonical_pool()
PROGRAMS = [
    parse(f, POOL) for f in ("qkv.w", "abs(qkv.w)", "qkv.w + fc1.w * 0 + fc2.g * 0", "fc1.w", "fc2.w") if "0" not in f
]


def made(name, **options):
    return Choice(name, **options).factory()(TARGETS, FACTS)


def each(function):
    return [[function(s, y) for y in TARGETS.values()] for s in SCORES]


def tau(s, y):
    keep = ~np.isnan(y)
    return stats.kendalltau(s[keep], y[keep]).statistic


def test_worst_is_the_smallest_tau():
    assert made("worst")(SCORES) == pytest.approx([min(row) for row in each(tau)], abs=1e-12)
    only = made("worst", weights={"b": 0.0})(SCORES)
    assert only == pytest.approx([row[0] for row in each(tau)], abs=1e-12)


def test_partial_is_tau_given_params():
    expected = each(lambda s, y: partial_kendall(s, y, FACTS["params"]))
    assert made("partial")(SCORES) == pytest.approx([np.mean(row) for row in expected], abs=1e-12)
    assert made("partial")(FACTS["params"][None]) == [None]


def test_spearman():
    def rho(s, y):
        keep = ~np.isnan(y)
        return stats.spearmanr(s[keep], y[keep]).statistic

    assert made("spearman")(SCORES) == pytest.approx([np.mean(row) for row in each(rho)], abs=1e-12)


def test_top_is_the_expected_precision_over_the_ways_to_break_ties():
    scores, target = np.array([[3.0, 1.0, 1.0, 1.0, 0.0]]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    objective = Choice("top", share=0.4).factory()({"a": target}, {})
    found = []
    for order in permutations(range(5)):
        chosen = sorted(order, key=lambda i: -scores[0, i])[:2]
        found.append(len({0, 1} & set(chosen)) / 2)
    assert objective(scores) == pytest.approx([np.mean(found)])
    assert objective(np.ones((1, 5))) == [None]
    assert objective(target[None]) == [1.0]


def test_the_penalty_is_taken_off_for_every_node():
    plain, fined = made("jcm")(SCORES[:2]), made("jcm", penalty=0.01)(SCORES[:2], PROGRAMS[:2])
    assert np.subtract(plain, fined) == pytest.approx([0.03, 0.04])  # statistic, (abs,) mean, layer_mean
    assert made("jcm", penalty=0.01).describe()["penalty"] == 0.01


def test_an_objective_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def best(scores, targets, facts):\n    return None if scores[0] < 0 else float(scores @ facts['params'])\n"
    )
    found = made(f"{file}:best")(SCORES)
    assert found == [None if s[0] < 0 else pytest.approx(float(s @ FACTS["params"]), rel=1e-9) for s in SCORES]
    assert made("math:dist").describe()["name"] == "math:dist"
    for name, words in ((f"{file}:worst", "no function"), ("no.such.module:f", "cannot be loaded")):
        with pytest.raises(ProxforgeError, match=words):
            made(name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jcn", {}, "did you mean 'jcm'"),
        ("top", {"share": 0.0}, "share"),
        ("jcm", {"penalty": -1.0}, "penalty"),
        ("worst", {"weights": {"c": 1.0}}, "a weight is given"),
    ],
)
def test_a_wrong_choice_is_refused(name, options, words):
    with pytest.raises(ProxforgeError, match=words):
        made(name, **options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_value_is_none_for_every_objective(name):
    assert made(name)(np.ones((1, 12))) == [None]
