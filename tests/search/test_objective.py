"""The Joint Correlation Metric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from proxforge.grammar.errors import ProxforgeError
from proxforge.search.objective import JCM

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 15))
TARGETS = {"a": RNG.normal(size=15), "b": np.where(np.arange(15) % 4 == 0, np.nan, RNG.normal(size=15))}


def tau(x, y):
    keep = ~np.isnan(y)
    return stats.kendalltau(x[keep], y[keep]).statistic


def test_it_is_the_mean_of_tau_over_the_targets_as_far_as_measured():
    expected = [(tau(x, TARGETS["a"]) + tau(x, TARGETS["b"])) / 2 for x in X]
    assert JCM(TARGETS)(X) == pytest.approx(expected, abs=1e-12)


def test_weights():
    expected = [(3 * tau(x, TARGETS["a"]) + tau(x, TARGETS["b"])) / 4 for x in X]
    assert JCM(TARGETS, {"a": 3.0})(X) == pytest.approx(expected, abs=1e-12)
    only = JCM(TARGETS, {"a": 0.0})
    assert only(X) == pytest.approx([tau(x, TARGETS["b"]) for x in X], abs=1e-12)
    assert only.describe() == {"name": "jcm", "weights": {"a": 0.0, "b": 1.0}}


def test_undefined_is_none_and_no_number():
    scores = np.array([np.ones(15), np.where(np.isnan(TARGETS["b"]), np.arange(15.0), 7.0), X[0]])
    assert [v is None for v in JCM(TARGETS)(scores)] == [True, True, False]


def test_rounding_noise_does_not_rank():
    exact = np.repeat([0.1, 0.7, 0.3, 1.9, 2.3], 3)
    noisy = exact * (1 + 1e-15 * np.tile([-1, 1, 0], 5))
    expected = (tau(exact, TARGETS["a"]) + tau(exact, TARGETS["b"])) / 2
    assert tau(noisy, TARGETS["a"]) != tau(exact, TARGETS["a"])
    assert JCM(TARGETS)(noisy[None]) == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize(
    ("targets", "weights", "words"),
    [
        (TARGETS, {"aa": 1.0}, "did you mean 'a'|aa"),
        (TARGETS, {"a": -1.0}, "0 or more"),
        (TARGETS, {"a": float("nan")}, "0 or more"),
        (TARGETS, {"a": 0.0, "b": 0.0}, "sum to 0"),
        ({}, None, "sum to 0"),
        ({"a": np.ones(15)}, None, "fewer than two"),
        ({"a": np.full(15, np.nan)}, None, "fewer than two"),
    ],
)
def test_what_cannot_be_judged_is_refused(targets, weights, words):
    with pytest.raises(ProxforgeError, match=words):
        JCM(targets, weights)
