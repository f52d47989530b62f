"""Rank aggregation, and the texts of ensembles."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from proxforge.bench.proxies import beside
from proxforge.bench.proxies.ensembles import ENSEMBLES, aggregate, members_of, parse_ensemble, ranks
from proxforge.cli import run
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.types import CONVOLUTION_SITES, TRANSFORMER_SITES


def test_ranks_average_ties_and_put_minus_infinity_last():
    assert ranks(np.array([3.0, -math.inf, 3.0, 1.0, -math.inf])).tolist() == [4.5, 1.5, 4.5, 3.0, 1.5]


def test_the_published_rules():
    scores = np.array([[1.0, 2.0, 3.0], [10.0, 30.0, 20.0]])
    third = [1 / 3, 2 / 3, 1.0]
    assert aggregate(scores, "log") == pytest.approx(
        [2 * math.log(third[0]), math.log(third[1]) + math.log(third[2]), math.log(third[2]) + math.log(third[1])]
    )
    assert aggregate(scores, "linear") == pytest.approx([1 / 3, 5 / 6, 5 / 6])


def test_a_network_that_is_bad_at_one_thing_is_ranked_lower_by_logarithms():
    even, uneven, rest = [3.0, 3.0], [1.0, 5.0], [[2.0, 2.0], [4.0, 4.0], [5.0, 1.0]]
    scores = np.array([even, uneven, *rest]).T
    assert aggregate(scores, "linear")[0] == pytest.approx(aggregate(scores, "linear")[1])
    assert aggregate(scores, "log")[0] > aggregate(scores, "log")[1]


def test_a_failure_stays_a_failure():
    found = aggregate(np.array([[1.0, math.nan, 3.0], [1.0, 2.0, -math.inf]]), "log")
    assert np.isnan(found).tolist() == [False, True, False]


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20), st.sampled_from(["log", "linear"]))
def test_only_the_order_counts(values, rule):
    scores = np.array([values, values[::-1]], np.float64)
    assert aggregate(scores, rule) == pytest.approx(aggregate(np.exp(scores) * 7, rule))


def test_texts():
    assert members_of("SNIP, dot(qkv.w, qkv.g) ,params") == ["SNIP", "dot(qkv.w, qkv.g)", "params"]
    found = parse_ensemble("linear: SNIP, dot(qkv.w, qkv.g)")
    assert (found.rule, found.members) == ("linear", ("SNIP", "dot(qkv.w, qkv.g)"))
    assert parse_ensemble("SNIP, NWOT").rule == "log"
    assert parse_ensemble("AZ-NAS") is ENSEMBLES["AZ-NAS"]


def test_az_nas_has_no_progressivity_on_transformers():
    assert "Progressivity" in ENSEMBLES["AZ-NAS"].of(CONVOLUTION_SITES)
    assert ENSEMBLES["AZ-NAS"].of(TRANSFORMER_SITES) == ("Expressivity", "Trainability", "flops")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SNIP", "needs two different proxies"),
        ("SNIP, SNIP", "needs two different proxies"),
        ("SNIP,", "needs two different proxies"),
        ("", "needs two different proxies"),
        ("cubic: SNIP, NWOT", "expected log or linear"),
    ],
)
def test_what_is_no_ensemble(text, message):
    with pytest.raises(ProxforgeError, match=message):
        parse_ensemble(text)


def test_a_search_for_a_member(tmp_path, capsys):
    args = ["search", "-b", "digits:30", "--strategy", "random", "--budget", "8", "--target", "full", "--json"]
    args += ["--objective", "proxforge.bench.proxies.beside:flops", "--cache", str(tmp_path)]
    assert run(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["proxy"]


def test_beside_is_tau_of_the_ensemble():
    scores, truth, size = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0]), np.array([4.0, 3.0, 9.0, 1.0])
    facts = {"params": size, "flops": -size, "depth": size, "width": np.ones(4)}
    expected = kendalltau(aggregate(np.stack([scores, size]), "log"), truth).statistic
    assert beside.params(scores, {"a": truth}, facts) == pytest.approx(expected)
    assert beside.depth_width(scores, {"a": truth, "b": truth}, facts) == pytest.approx(expected)
    other = kendalltau(aggregate(np.stack([scores, -size]), "log"), truth).statistic
    assert beside.flops(scores, {"a": truth}, facts) == pytest.approx(other)
    assert beside.flops(scores, {"a": np.full(4, 1.0)}, facts) is None
