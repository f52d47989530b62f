"""Text -> expression: both forms, and every kind of error with its place."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Pool
from proxforge.grammar.ops import OPS
from proxforge.grammar.parse import MAX_LENGTH, MAX_NAMES, parse
from proxforge.grammar.text import latex, text
from tests.random_programs import random_score


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("mean(qkv.w)", "qkv.w"),
        ("layer_mean(mean(qkv.w))", "qkv.w"),
        ("a = qkv.w\nb = a * a\nb", "qkv.w * qkv.w"),
        ("a = qkv.w; a = abs(a); a", "abs(qkv.w)"),
        ("  # nothing\n\n abs( qkv.w ) # all of it\n;", "abs(qkv.w)"),
        ("(qkv.w\n +\n qkv.g)", "qkv.w + qkv.g"),
        ("F1 * F1g", "qkv.w * qkv.g"),
        ("qkv.w - qkv.g - qkv.v", "(qkv.w - qkv.g) - qkv.v"),
        ("qkv.w + qkv.g * 2", "qkv.w + (qkv.g * 2)"),
        ("-qkv.w * 2", "(-qkv.w) * 2"),
        ("layer_sum(abs(qkv.w))", "layer_sum(mean(abs(qkv.w)))"),
        ("1.5e1 * params", "15 * params"),
        ("params * (1 / 2)", "params * 0.5"),
        ("layer_sum(qkv.w) * exp(0)", "layer_sum(qkv.w)"),
    ],
)
def test_two_ways_to_write_one_program(written, same):
    assert parse(written).digest == parse(same).digest


def test_precedence_is_not_flat():
    assert parse("qkv.w - (qkv.g - qkv.v)").digest != parse("qkv.w - qkv.g - qkv.v").digest
    assert parse("(qkv.w + qkv.g) * 2").digest != parse("qkv.w + qkv.g * 2").digest


ERRORS = [
    ("", "syntax", 1, 1, "empty"),
    ("# only a comment", "syntax", 1, 17, "too early"),
    ("abs(qkv.w", "syntax", 1, 10, "expected an operator, ',' or ')'"),
    ("abs qkv.w", "syntax", 1, 5, "'qkv.w' is out of place"),
    ("qkv.w)", "syntax", 1, 6, "')' is out of place"),
    ("qkv.w ? 2", "syntax", 1, 7, "'?' has no meaning"),
    ("a = qkv.w\nb = abs(a)", "syntax", 2, 1, "last line"),
    ("qkv.w\nfc1.w", "syntax", 2, 1, "only the last line"),
    ("abs + 2", "syntax", 1, 1, "parentheses"),
    ("frobenus(qkv.w)", "name", 1, 1, "did you mean 'frobenius'?"),
    ("abs(qkw.w)", "name", 1, 5, "did you mean 'qkv.w'?"),
    ("x = qkv.w\nabs(y)", "name", 2, 5, "'y' is not known"),
    ("parms * depth", "name", 1, 1, "did you mean 'params'?"),
    ("log = qkv.w\nlog", "name", 1, 1, "cannot be assigned"),
    ("abs(qkv.w, fc1.w)", "type", 1, 1, "takes 1 operand, 2 were given"),
    ("abs()", "type", 1, 1, "takes 1 operand, 0 were given"),
    ("params + qkv.w", "type", 1, 8, "cannot join Score and Matrix[3q, d]"),
    ("qkv.w @ mean(fc1.w)", "type", 1, 7, "use '*' to scale"),
    ("log(params)", "type", 1, 1, "Scores combine with"),
    ("layer_sum(params)", "type", 1, 1, "inside a layer"),
    ("abs(qkv.w + fc1.w)", "shape", 1, 11, "got Matrix[3q, d] and Matrix[m, d]"),
    ("fc1.w @ fc1.w", "shape", 1, 7, "d columns meet m rows"),
    ("3", "constant", 1, 1, "the score is 3"),
    ("abs(qkv.w) * 0", "constant", 1, 1, "the score is 0"),
    ("mean(normalize(fc1.g))", "constant", 1, 1, "the score is 0"),
    ("softmax(mean(qkv.w))", "constant", 1, 1, "the score is 1"),
    ("qkv.w - qkv.w", "constant", 1, 1, "the score is 0"),
    ("normalize(qkv.w) * mean(abs(fc1.g))", "constant", 1, 1, "the score is 0"),
    ("-normalize(qkv.w) / std(fc1.g)", "constant", 1, 1, "the score is 0"),
    ("sqrt(2) * exp(1)", "constant", 1, 1, "the score is 3.84"),
    ("min(min_max(qkv.w))", "constant", 1, 1, "the score is 0"),
    ("std(mean(qkv.w))", "nonfinite", 1, 1, "no unbiased standard deviation"),
    ("1e400 * qkv.w", "nonfinite", 1, 1, "the number 1e400 exceeds float32"),
    ("(" * 400 + "qkv.w", "size", 1, 301, "parentheses"),
    ("qkv.w" + " + qkv.w * qkv.g" * 900, "size", 1, None, "nested operations"),
    ("x" * (MAX_LENGTH + 1), "size", None, None, "characters"),
]


@pytest.mark.parametrize(
    ("formula", "kind", "line", "column", "part"), ERRORS, ids=[e[0][:24] or "empty" for e in ERRORS]
)
def test_errors_say_what_where_and_what_to_do(formula, kind, line, column, part):
    with pytest.raises(ProxyError) as caught:
        parse(formula)
    error = caught.value
    assert error.kind == kind
    assert part in error.message
    assert error.line == line
    if column is not None:
        assert error.column == column


def test_the_caret_stands_under_the_place():
    with pytest.raises(ProxyError) as caught:
        parse("a = qkv.w\n  abs(a) + fc1.w")
    assert str(caught.value).splitlines()[-3:] == ["  line 2, column 10", "      abs(a) + fc1.w", "             ^"]


def test_a_megabyte_of_parentheses_is_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(ProxyError) as caught:
        parse("(" * 1_000_000)
    assert caught.value.kind == "size"
    assert time.perf_counter() - start < 1.0  # a hang guard, three orders of magnitude above what it takes


def test_many_names_and_long_chains():
    lines = "\n".join(f"v{i} = v{i - 1} * 1.5" if i else "v0 = qkv.w" for i in range(200))
    assert parse(f"{lines}\nv199").depth > 200
    with pytest.raises(ProxyError, match="names are assigned"):
        parse("\n".join(f"v{i} = qkv.w" for i in range(MAX_NAMES + 1)) + "\nv0")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="qkv.w fc1g()+-*/@=;\n#123absmean_hidden", max_size=60))
def test_any_text_is_a_program_or_a_proxy_error(formula):
    try:
        parse(formula)
    except ProxyError as error:
        assert error.message
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_unicode_is_a_program_or_a_proxy_error(formula):
    try:
        parse(formula)
    except ProxyError as error:
        assert error.message


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_text_of_a_random_program_parses_to_the_same_program(seed, depth):
    node = random_score(np.random.default_rng(seed), canonical_pool(), depth)
    if node.facts.value is None:
        assert parse(text(node)).digest == node.digest


@pytest.mark.parametrize(
    "formula",
    [
        "qkv.w - qkv.g",
        "qkv.g - qkv.w",
        "2 - qkv.w",
        "qkv.w - 2",
        "-qkv.w",
        "-(2 + qkv.w)",
        "exp(qkv.g - qkv.w)",
        "exp(0.5 - qkv.w)",
        "params - depth",
        "-layer_sum(mean(qkv.w))",
        "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))",
    ],
)
def test_canonical_text_is_as_people_write_it(formula):
    """Inside, a difference has one order and a sign stands before it."""
    assert text(parse(formula)) == formula
    assert latex(parse(formula)).count("-") == formula.count("-")


def test_the_text_of_the_deepest_and_longest_programs_can_be_read_again():
    for step in ("a = sigmoid(a)", "a = qkv.g - a", "a = -relu(a)"):
        node = parse("a = qkv.w\n" + f"{step}\n" * 120 + "a")
        assert node.depth > 100
        assert parse(text(node)).digest == node.digest
    deep = parse("a = qkv.w\n" + "a = qkv.g - a\n" * 250 + "a")
    assert parse(text(deep)).digest == deep.digest
    terms = [f"F4g * {k}" for k in range(1, 1000)]
    while len(terms) > 1:
        terms = [f"({a} + {b})" for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
    wide = parse(terms[0])
    assert len(text(wide)) > 16_384
    assert parse(text(wide)).digest == wide.digest


def test_shared_parts_are_named_when_the_formula_is_long():
    pool = canonical_pool()
    node = pool.statistic("qkv.w")
    for _ in range(40):
        node = pool.apply(OPS["*"], node, node)
    written = text(pool.score(node))
    assert len(written) < 1500  # written out it would have 2^40 factors
    assert parse(written).digest == pool.score(node).digest


def test_what_saturates_is_not_rejected():
    """1e30 * 1e30 is infinite, but its sigmoid is 1: only the run can tell."""
    for formula in ("sigmoid(1e30 * 1e30) * qkv.w", "inv(1e30 * 1e30) + qkv.w", "sigmoid(1 / (qkv.v - qkv.v)) * qkv.w"):
        assert parse(formula).facts.value is None


@pytest.mark.parametrize("name", sorted(OPS))
def test_latex_of_every_op_is_balanced(name):
    op = OPS[name]
    pool = Pool()
    operands = ("qkv.w", "qkv.g") if name != "@" else ("fc2.w", "fc1.w")
    node = pool.score(pool.apply(op, *(pool.statistic(s) for s in operands[: op.arity])))
    shown = latex(node)
    assert shown.count("{") == shown.count("}")
    assert shown.count(r"\left") == shown.count(r"\right")
    assert "{0}" not in shown
    assert "W_" in shown


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("inner", ["+", "-"])
def test_repeated_signs_before_a_sum_can_be_written(times, inner):
    """No canonical form, but a space draws it."""
    pool = Pool()
    node = pool.apply(OPS[inner], pool.statistic("qkv.w"), pool.statistic("qkv.g"))
    for _ in range(times):
        node = pool.apply(OPS["neg"], node)
    root = pool.score(node)
    assert latex(root)
    written, expected = parse(text(root)), parse(f"{'-' * times}(qkv.w {inner} qkv.g)")
    assert written.digest == expected.digest
