"""Functional equivalence: equal programs have equal fingerprints, different ones do not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from proxforge.grammar.canonical import CanonicalPool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool
from proxforge.grammar.parse import parse
from proxforge.grammar.types import NETWORK_FACTS, STATISTICS
from proxforge.vm import fingerprint as module
from proxforge.vm.fingerprint import Distinct, Fingerprinter, distinct, fingerprint
from tests.algebra import canonical
from tests.random_programs import random_score
from tests.unit.test_rules_together import degenerate, respelled


def of(formula: str) -> bytes | None:
    return fingerprint([parse(formula)])[0]


def drawn(seed: int, depth: int) -> Node | None:
    try:
        return random_score(np.random.default_rng(seed), Pool(), depth)
    except ProxyError:
        return None


def test_canonically_equal_programs_have_one_fingerprint():
    """Programs as drawn, spelled otherwise, and in canonical form."""
    rng, pool = random.Random(1), CanonicalPool()
    found = [n for seed in range(400) if (n := drawn(seed, 2 + seed % 3)) is not None]
    kept = [n for n in found if not degenerate(canonical(n, pool)) and canonical(n, pool).facts.value is None]
    prints = [fingerprint([n, respelled(n, rng), canonical(n, pool)]) for n in kept]
    usable = [p for p in prints if p[0] is not None]
    assert len(usable) > 200
    assert sum(len(set(p)) > 1 for p in usable) <= 1  # a score at the border of two rounded numbers


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("softmax(mean(qkv.w)) * fc1.w", "fc1.w"),
        ("qkv.w + (qkv.g + qkv.v)", "(qkv.w + qkv.g) + qkv.v"),
        ("mean(qkv.w)", "normalized_sum(qkv.w)"),
        ("max(normalize(normalize(qkv.w)))", "max(normalize(qkv.w))"),
        ("max(log_softmax(3 + qkv.w))", "max(log_softmax(qkv.w))"),
        ("sqrt(square(fc1.g))", "abs(fc1.g)"),
        ("layer_sum(2 * std(qkv.w))", "layer_sum(std(qkv.w)) * 2"),
        ("layer_sum(std(qkv.w)) / depth", "layer_mean(std(qkv.w))"),
        ("frobenius(qkv.w) / frobenius(qkv.w) * fc1.w", "fc1.w"),
    ],
)
def test_equal_programs_that_canonical_form_does_not_know(one, other):
    assert parse(one).digest != parse(other).digest
    assert of(one) == of(other) is not None


@pytest.mark.parametrize(
    "formulas",
    [
        ("qkv.w", "qkv.g", "fc1.w", "qkv.w + 1e-4", "1.0001 * qkv.w"),
        ("inv(qkv.w)", "1 / qkv.w", "inv(abs(qkv.w))"),
        ("log(abs(qkv.w))", "abslog(qkv.w)"),
        ("sum(qkv.w)", "mean(qkv.w)", "layer_sum(sum(qkv.w))"),
        ("layer_min(std(qkv.w))", "layer_max(std(qkv.w))", "layer_std(std(qkv.w))", "layer_mean(std(qkv.w))"),
        tuple(NETWORK_FACTS),
        ("sigmoid(qkv.w)", "sigmoid(-qkv.w)", "1 - sigmoid(qkv.w) * 2"),
        ("softmax(qkv.w) * qkv.w", "softmax(2 * qkv.w) * qkv.w"),
        ("mean(relu(qkv.w))", "mean(mish(qkv.w))", "mean(leaky_relu(qkv.w))"),
        ("std(fc2.w @ fc1.w)", "std(fc1.w @ fc2.w)"),
    ],
)
def test_different_programs_differ(formulas):
    prints = [of(f) for f in formulas]
    assert None not in prints
    assert len(set(prints)) == len(formulas)


def test_every_leaf_has_a_probe_of_its_own():
    leaves = [parse(name) for name in (*STATISTICS, *NETWORK_FACTS)]
    assert len(set(fingerprint(leaves))) == len(leaves)


@pytest.mark.parametrize("formula", ["log(-1 - abs(qkv.w))", "exp(1000 + abs(qkv.w))", "qkv.w / (qkv.g - qkv.g)"])
def test_without_a_finite_score_there_is_none(formula):
    assert of(formula) is None


def test_a_score_that_is_finite_on_some_probes_is_enough():
    """Of a logarithm those with positive numbers; what is not finite belongs to the fingerprint."""
    assert of("log(qkv.w)") not in (None, of("log(abs(qkv.w))"))


def test_what_is_remembered_changes_nothing(monkeypatch):
    nodes = [n for seed in range(60) if (n := drawn(seed, 3)) is not None]
    kept = Fingerprinter()
    together = kept.of(nodes)
    assert kept.of(nodes[::-1]) == together[::-1]
    monkeypatch.setattr(module, "MEMORY", 10)
    forgetful = Fingerprinter()
    assert [forgetful.of([n])[0] for n in nodes] == together
    assert len(forgetful._values) < 100
    monkeypatch.setattr(module, "BATCH", 7)
    assert fingerprint(nodes) == together


def test_digits_are_what_counts(monkeypatch):
    assert of("1.000000001 * qkv.w") == of("qkv.w")
    monkeypatch.setattr(module, "DIGITS", 12)
    assert of("1.000000001 * qkv.w") != of("qkv.w")


def test_distinct_counts_programs():
    formulas = ("mean(qkv.w)", "qkv.w * 1", "normalized_sum(qkv.w)", "abs(fc1.w)", "log(-1 - abs(qkv.w))")
    assert distinct(map(parse, formulas)) == Distinct(programs=5, canonical=4, functional=2, invalid=1)
