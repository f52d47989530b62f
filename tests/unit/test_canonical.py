"""Canonical form and what the compiler knows: every rule against the reference on hostile data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool, topological
from proxforge.grammar.parse import parse
from proxforge.vm.result import Status
from tests.algebra import canonical
from tests.random_programs import random_score, random_source
from tests.rounding import reference_run, rounding

SAME = [
    ("identity(abs(qkv.w))", "abs(qkv.w)"),
    ("abs(abs(qkv.w))", "abs(qkv.w)"),
    ("abs(square(qkv.w))", "square(qkv.w)"),
    ("abs(exp(-qkv.w))", "exp(-qkv.w)"),
    ("-(-qkv.w)", "qkv.w"),
    ("mean(mean(qkv.w))", "mean(qkv.w)"),
    ("sum(max(qkv.w))", "max(qkv.w)"),
    ("frobenius(mean(qkv.w))", "abs(mean(qkv.w))"),
    ("l1_norm(min(qkv.w))", "abs(min(qkv.w))"),
    ("mean(qkv.w) @ mean(fc1.w)", "mean(fc1.w) * mean(qkv.w)"),
    ("qkv.g + qkv.w", "qkv.w + qkv.g"),
    ("-qkv.w + qkv.g", "qkv.g - qkv.w"),
    ("qkv.w - -qkv.g", "qkv.g + qkv.w"),
    ("qkv.w * 1 + 0", "qkv.w"),
    ("square(-qkv.w)", "square(qkv.w)"),
    ("abslog(abs(qkv.w))", "abslog(qkv.w)"),
    ("relu(sigmoid(qkv.w))", "sigmoid(qkv.w)"),
    ("frobenius(-fc1.w)", "frobenius(fc1.w)"),
    ("sign(sign(qkv.w))", "sign(qkv.w)"),
    ("(2 + 3) * params", "params * 5"),
    ("qkv.w / 1", "qkv.w"),
    ("abs(qkv.g - qkv.w)", "abs(qkv.w - qkv.g)"),
    ("square(mean(fc2.w @ -fc1.w))", "square(mean(fc2.w @ fc1.w))"),
    ("-(qkv.g - qkv.w)", "qkv.w - qkv.g"),
    ("layer_sum(mean(-qkv.w))", "-layer_sum(qkv.w)"),
    ("layer_max(-std(qkv.w)) + depth", "depth - layer_min(std(qkv.w))"),
    ("max(-qkv.w)", "-min(qkv.w)"),
    ("-3 * mean(qkv.w)", "-(mean(qkv.w) * 3)"),
    ("qkv.w - 2", "-2 + qkv.w"),
    ("2 - qkv.w", "-(qkv.w - 2)"),
    ("qkv.w + qkv.w", "2 * qkv.w"),
    ("params + params", "2 * params"),
    ("qkv.w * qkv.w", "square(qkv.w)"),
    ("qkv.w / 4", "0.25 * qkv.w"),
    ("qkv.w / -3", "-(qkv.w / 3)"),
    ("abs(qkv.w) * abs(qkv.g)", "abs(qkv.w * qkv.g)"),
    ("frobenius(qkv.w / abs(qkv.g))", "frobenius(qkv.w / qkv.g)"),
    ("l1_norm(sigmoid(qkv.w))", "normalized_sum(sigmoid(qkv.w))"),
    ("normalized_sum(abs(qkv.w))", "l1_norm(qkv.w)"),
    ("abs(log_softmax(qkv.w))", "-log_softmax(qkv.w)"),
    ("max(exp(qkv.w))", "exp(max(qkv.w))"),
    ("max(square(qkv.w))", "square(max(abs(qkv.w)))"),
    ("square(square(qkv.w))", "pow4(qkv.w)"),
    ("sqrt(sign(qkv.w))", "heaviside(qkv.w)"),
    ("qkv.w * sign(qkv.w)", "abs(qkv.w)"),
    ("sign(qkv.w) * abs(qkv.w)", "qkv.w"),
    ("softmax(3) * qkv.w", "qkv.w"),
]


@pytest.mark.parametrize(("written", "canonical"), SAME)
def test_same_program_same_hash(written, canonical):
    assert parse(written).digest == parse(canonical).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqrt(square(qkv.w))", "abs(qkv.w)"),  # the square leaves float32's range
        ("mean(qkv.w)", "normalized_sum(qkv.w)"),  # epsilon in the denominator
        ("relu(qkv.w)", "qkv.w"),
        ("qkv.w - qkv.g", "qkv.g - qkv.w"),
        ("layer_sum(qkv.w)", "layer_mean(qkv.w)"),
        ("qkv.w", "qkv.g"),
        ("qkv.w / -qkv.g", "-(qkv.w / qkv.g)"),  # the pole where qkv.g is 0 has one sign
        ("qkv.w + (qkv.g + qkv.v)", "(qkv.w + qkv.g) + qkv.v"),  # what cancels on the way
        ("qkv.w * softmax(mean(qkv.w))", "qkv.w"),  # not where infinite
        ("max(normalize(normalize(qkv.w)))", "max(normalize(qkv.w))"),
        ("max(abs(qkv.w))", "abs(max(qkv.w))"),
    ],
)
def test_different_programs_differ(one, other):
    assert parse(one).digest != parse(other).digest


def test_a_number_reduced_over_the_layers_is_no_number():
    """layer_std(2) is 0, but has no value for a network of one layer: the sum must keep it."""
    kept = parse("layer_std(2) + params")
    assert kept.digest != parse("params").digest
    one_layer = reference_run(random_source(1, [(4, 6, 5, 1), (4, 6, 5, 2)]), [kept])
    assert np.isnan(one_layer.scores[0, 0])
    assert np.isfinite(one_layer.scores[0, 1])


def test_hash_is_the_same_in_every_process():
    assert parse("frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))").digest.hex() == (
        "059d3802bb236329e140e449dfd0b3fe"
    )


def both_forms(seed: int, depth: int) -> tuple[Node, Node] | None:
    """One random program as drawn, and in canonical form; None where canonical form rejects it."""
    try:
        drawn = random_score(np.random.default_rng(seed), Pool(), depth)
        return drawn, canonical(drawn, canonical_pool())
    except ProxyError as error:
        assert error.kind == "nonfinite"
        return None


SOURCE = random_source(3, [(4, 6, 5, 2), (8, 6, 3, 3), (4, 10, 5, 1), (4, 6, 5, 3)], special=True)
PLAIN = random_source(4, [(4, 6, 5, 2), (8, 6, 3, 3), (4, 10, 5, 2)])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_canonical_form_computes_the_same(seed, depth):
    """Also with zeros, huge, tiny and constant segments: the same validity, and the same scores up to rounding."""
    pair = both_forms(seed, depth)
    if pair is None or _jumps_at_zero(pair[1]):
        return
    for source in (SOURCE, PLAIN):
        found = reference_run(source, list(pair)).scores
        noise, steady = rounding(source, list(pair), found)
        certain = steady.all(axis=0)
        np.testing.assert_array_equal(*np.isfinite(found[:, certain]))
        usable = np.isfinite(found).all(axis=0) & certain
        drawn, canonical = found[:, usable]
        assert (np.abs(drawn - canonical) <= 1e-9 * np.abs(drawn) + noise[:, usable].max(axis=0)).all()


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_what_is_called_constant_is_constant_when_run(seed, depth):
    try:
        node = random_score(np.random.default_rng(seed), canonical_pool(), depth)
    except ProxyError:
        return
    value = node.facts.value
    if value is None or _jumps_at_zero(node):
        return
    for source in (SOURCE, PLAIN):
        found = reference_run(source, [node]).scores
        noise, steady = rounding(source, [node], found)
        usable = np.isfinite(found) & steady
        assert (np.abs(found - value)[usable] <= 1e-9 * abs(value) + 1e-13 + noise[usable]).all()


def _jumps_at_zero(node: Node) -> bool:
    """Whether a sum that is 0 by algebra, and a rounding error when run, meets an op that tells the two apart."""
    for n in topological([node]):
        last = n.args[-1] if n.args else n
        if n.op.name in {"sign", "abslog", "log", "inv", "/"} and last.facts.value == 0 and not last.numeric:
            return True
    return False


SHAPE_ONLY = [
    ("params", True),
    ("depth * width", True),
    ("frobenius(sign(qkv.w))", True),
    ("sum(abs(sign(fc1.g)))", True),
    ("frobenius(normalize(qkv.w))", True),
    ("std(normalize(qkv.w))", True),
    ("mean(softmax(fc2.w))", True),
    ("layer_sum(l1_norm(softmax(fc2.w)))", True),
    ("frobenius(square(sign(hidden.g)))", True),
    ("softmax(qkv.w) + sign(abs(qkv.g))", True),
    ("frobenius(sign(sqrt(abs(qkv.w))))", True),
    ("sum(square(sign(qkv.w))) * mean(softmax(hidden.a))", True),
    ("frobenius(sign(sign(qkv.w) + sign(qkv.g)))", False),  # +1 and -1 make 0
    ("l1_norm(sign(qkv.w - relu(qkv.w)))", False),
    ("frobenius(sign(qkv.w + abs(qkv.w)))", False),
    ("abs(sign(abs(qkv.w) - qkv.w))", False),
    ("frobenius(sign(sign(fc2.w) @ sign(fc1.w)))", False),
    ("frobenius(qkv.w)", False),
    ("frobenius(softmax(qkv.w))", False),
    ("mean(sign(qkv.w))", False),
    ("max(normalize(qkv.w))", False),
    ("params * layer_mean(qkv.w)", False),
    ("frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))", False),
]


@pytest.mark.parametrize(("formula", "expected"), SHAPE_ONLY)
def test_shape_only(formula, expected):
    """The flag, and the truth: other weights of the same shapes leave a shape-only score as it is."""
    node = parse(formula)
    assert node.facts.shape_only is expected
    shapes = [(4, 6, 5, 2), (8, 6, 3, 3), (4, 10, 5, 2)]
    runs = [reference_run(random_source(seed, shapes), [node]).scores[0] for seed in (1, 2)]
    assert np.allclose(*runs, rtol=1e-6) is expected


@pytest.mark.parametrize(
    "formula",
    [
        "abs(sign(mean(sign(qkv.w))))",
        "sign(exp(-square(inv(qkv.w))))",
        "sign(softmax(inv(qkv.w)))",
        "abs(sign(exp(inv(qkv.w))))",
        "abs(sign(square(square(square(qkv.g)))))",
        "frobenius(normalize(relu(qkv.w - 3)))",
        "std(normalize(sign(qkv.v)))",
    ],
)
def test_what_can_fall_to_0_or_be_constant_is_not_called_shape_only(formula):
    assert not parse(formula).facts.shape_only


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_shape_only_programs_do_not_see_the_weights(seed, depth):
    try:
        node = random_score(np.random.default_rng(seed), canonical_pool(), depth)
    except ProxyError:
        return
    if not node.facts.shape_only:
        return
    shapes = [(4, 6, 5, 2), (8, 6, 3, 3)]
    one, two = (reference_run(random_source(s, shapes), [node]) for s in (1, 2))
    if one.status[0] == two.status[0] == Status.OK:
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4, atol=1e-9)
