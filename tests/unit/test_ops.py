"""The op table: what it promises, and each definition against a computation written separately."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from proxforge.grammar.op_sets import PUBLISHED_SETS
from proxforge.grammar.ops import CALLABLE, OP_SETS, OPS, Form
from proxforge.grammar.reference import EPS, FLOAT32_MAX, FLOAT32_TINY, in_range
from proxforge.grammar.types import ALIASES, AUTOPROX_INPUTS, STATISTICS, Kind

X = np.array([[0.5, -2.0, 0.0], [3.0, 1e-3, -0.25]])
FLAT = [0.5, -2.0, 0.0, 3.0, 1e-3, -0.25]
POSITIVE = np.abs(X) + 0.1

MEAN = sum(FLAT) / 6
STD = math.sqrt(sum((v - MEAN) ** 2 for v in FLAT) / 5)


def by_hand(f):
    return np.array([[f(v) for v in row] for row in X.tolist()])


def columns(f):
    """f(column) -> column, for each column of X."""
    return np.array([f(c) for c in X.T.tolist()]).T


def soft(column):
    return [math.exp(v) / sum(math.exp(w) for w in column) for v in column]


EXPECTED = {
    "abslog": by_hand(lambda v: math.log(abs(v)) if v else 0.0),
    "abs": by_hand(abs),
    "square": by_hand(lambda v: v * v),
    "exp": by_hand(math.exp),
    "normalize": by_hand(lambda v: (v - MEAN) / STD),
    "relu": by_hand(lambda v: max(v, 0.0)),
    "inv": by_hand(lambda v: 1 / (v + 1e-9)),
    "sigmoid": by_hand(lambda v: 1 / (1 + math.exp(-v))),
    "softmax": columns(soft),
    "log_softmax": columns(lambda c: [math.log(p) for p in soft(c)]),
    "sqrt": by_hand(lambda v: math.sqrt(max(v, 0.0))),
    "neg": by_hand(lambda v: -v),
    "min_max": by_hand(lambda v: (v + 2.0) / (5.0 + 1e-9)),
    "identity": X,
    "sign": by_hand(lambda v: (v > 0) - (v < 0)),
    "frobenius": math.sqrt(sum(v * v for v in FLAT)),
    "normalized_sum": sum(FLAT) / (6 + 1e-9),
    "l1_norm": sum(map(abs, FLAT)) / (6 + 1e-9),
    "mean": MEAN,
    "std": STD,
    "sum": sum(FLAT),
    "min": -2.0,
    "max": 3.0,
    "tanh": by_hand(math.tanh),
    "mish": by_hand(lambda v: v * math.tanh(math.log(1 + math.exp(v)))),
    "leaky_relu": by_hand(lambda v: v if v > 0 else 0.01 * v),
    "pow4": by_hand(lambda v: v * v * v * v),
    "heaviside": by_hand(lambda v: float(v > 0)),
    "gram": np.array([[sum(a * b for a, b in zip(u, v, strict=True)) / 6 for v in X.tolist()] for u in X.tolist()]),
    "nuclear_norm": sum(math.sqrt(e) for e in np.linalg.eigvalsh(X @ X.T)),
    "slogdet": math.log(np.linalg.det(X @ X.T / 3 + 1e-9 * sum(v * v for v in FLAT) / 6 * np.eye(2))),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_definition(name):
    np.testing.assert_allclose(OPS[name].reference(X), EXPECTED[name], rtol=1e-14, atol=1e-300)


def test_log_of_positive_and_negative():
    np.testing.assert_allclose(OPS["log"].reference(POSITIVE), np.log(POSITIVE + EPS), rtol=1e-15)
    assert np.isnan(OPS["log"].reference(np.array([[-1e-30]]))).all()
    assert OPS["log"].reference(np.zeros((1, 1))) == pytest.approx(math.log(1e-9))


def test_every_unary_op_has_a_definition_here():
    unary = {op.name for op in OPS.values() if op.arity == 1 and op.form is not Form.LAYERS}
    assert unary == set(EXPECTED) | {"log"}


def test_binaries():
    y = X[::-1] + 0.7
    for name, expected in {"+": X + y, "-": X - y, "*": X * y, "/": X / y}.items():
        np.testing.assert_array_equal(OPS[name].reference(X, y), expected)
    np.testing.assert_allclose(OPS["@"].reference(X, y.T), np.einsum("rk,ck->rc", X, y), rtol=1e-14)


def test_dot_is_the_sum_of_products():
    y = X[::-1] + 0.7
    assert OPS["dot"].reference(X, y) == pytest.approx(sum(a * b for a, b in zip(FLAT, y.ravel(), strict=True)))
    assert OPS["dot"].reference(np.asarray(3.0), np.asarray(-2.0)) == -6.0


def test_a_determinant_of_every_shape():
    """More rows than columns: by Sylvester's identity each row beyond the columns counts ln(eps mean(x^2))."""
    slogdet = OPS["slogdet"].reference
    least = 1e-9 * np.mean(X * X)
    wide = math.log(np.linalg.det(X @ X.T / 2 + least * np.eye(2)))  # c is 2 for X^T
    assert slogdet(X.T) == pytest.approx(wide + math.log(least), rel=1e-12)
    assert slogdet(1e-12 * X) == pytest.approx(slogdet(X) + 2 * 2 * math.log(1e-12), rel=1e-12)
    assert slogdet(1e30 * X) == pytest.approx(slogdet(X) + 2 * 2 * math.log(1e30), rel=1e-12)
    assert slogdet(np.asarray(-3.0)) == pytest.approx(math.log(9.0))
    with np.errstate(divide="ignore"):
        assert slogdet(np.zeros((2, 3))) == slogdet(np.asarray(0.0)) == -math.inf


@pytest.mark.parametrize("name", [op.name for op in OPS.values() if op.form is not Form.LAYERS])
def test_nan_stays_and_operands_are_not_changed(name):
    op = OPS[name]
    holed = X.copy()
    holed[0, 1] = np.nan
    for x, other in ((holed, X), (np.asarray(np.nan), np.asarray(2.0))):
        if op.no_scalar and not x.ndim:
            continue
        second = other.T if name == "@" else other
        given = (x, second)[: op.arity]
        before = [g.copy() for g in given]
        with np.errstate(all="ignore"):
            value = np.asarray(op.reference(*given))
        assert np.isnan(value).any()
        if op.elementwise:
            assert np.isnan(value[np.isnan(x)]).all()
        for g, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(g, b)


def test_norms_of_infinite_matrices():
    infinite = np.array([[np.inf, 1.0], [0.0, -2.0]])
    assert OPS["nuclear_norm"].reference(infinite) == np.inf
    with np.errstate(all="ignore"):
        assert OPS["slogdet"].reference(infinite) == np.inf
        assert np.isnan(OPS["slogdet"].reference(np.array([[np.inf, np.nan]])))


@pytest.mark.parametrize("name", sorted(op.name for op in OPS.values() if op.form is not Form.LAYERS))
def test_scalars_of_many_layers_at_once(name):
    op = OPS[name]
    if op.no_scalar:
        return
    first, second = np.array([0.5, -2.0, 3.0, 0.25]), np.array([1.5, 2.0, -0.5, 4.0])
    with np.errstate(all="ignore"):
        found = op.each(*(first, second)[: op.arity])
        pairs = zip(first, second, strict=True)
        expected = [float(op.reference(*map(np.asarray, pair[: op.arity]))) for pair in pairs]
    np.testing.assert_array_equal(found, expected)


def test_constant_segments():
    constant = np.full((2, 3), 0.1)
    assert (OPS["normalize"].reference(constant) == 0).all()
    assert (OPS["min_max"].reference(constant) == 0).all()
    assert np.isnan(OPS["std"].reference(np.ones((1, 1))))


def test_the_core_is_24_unary_4_binary_56_signatures():
    core = [OPS[n] for n in OP_SETS["autoprox"]]
    assert sum(op.arity == 1 for op in core) == 24
    assert [op.name for op in core if op.arity == 2] == ["+", "-", "*", "@"]
    assert sum(len(op.signatures) for op in core) == 56
    assert sum(op.form is Form.REDUCE for op in core) == 8
    assert sum(op.form is Form.MAP for op in core) == 16


PAPERS = {
    "autodas": "exp mish leaky_relu relu tanh softmax sigmoid square pow4 log abslog sqrt l1_norm neg min_max mean std "
    "inv normalize normalized_sum identity + - * / dot",
    "eznas": "+ * @ log abslog abs square exp normalize relu sign heaviside inv frobenius slogdet normalized_sum "
    "l1_norm softmax sigmoid",
    "automl_zero": "+ - * / abs inv exp log heaviside frobenius dot @ mean std",
    "extended": "/ tanh mish leaky_relu pow4 heaviside gram nuclear_norm slogdet dot",
    "layer": "layer_mean layer_sum layer_min layer_max layer_std",
}


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_named_sets(name):
    assert sorted(OP_SETS[name]) == sorted(PAPERS[name].split())


def test_every_op_is_in_a_set_and_every_set_is_described():
    assert set(OP_SETS) == set(PUBLISHED_SETS) == set().union(*(op.sets for op in OPS.values()))
    core = set(OP_SETS["autoprox"])
    assert core | set(OP_SETS["extended"]) | set(OP_SETS["layer"]) == set(OPS)
    assert not core & set(OP_SETS["extended"])
    assert len(OP_SETS["autodas"]) == 21 + 5


def test_what_stands_for_an_op_of_a_paper_compiles():
    """The formulas in the notes of the sets, with statistics for their operands."""
    from proxforge.grammar.parse import parse

    names = {"a": "qkv.w", "b": "qkv.g", "x": "qkv.w"}
    formulas = [
        formula
        for about in PUBLISHED_SETS.values()
        for note in (*about.otherwise.values(), *about.missing.values())
        for formula in re.findall(r"`([^`]+)`", note)
        if "(" in formula
    ]
    assert len(formulas) > 10
    for formula in formulas:
        written = re.sub(r"\b[abx]\b", lambda m: names[m[0]], formula)
        parse(f"params + layer_sum({written})")


def test_how_an_op_is_written():
    assert [OPS[n].usage for n in ("abs", "dot", "+", "layer_sum")] == ["abs(x)", "dot(a, b)", "a + b", "layer_sum(x)"]
    assert [OPS[n].infix for n in ("abs", "dot", "+", "@")] == [False, False, True, True]
    assert set(CALLABLE) == {n for n in OPS if n.isidentifier()}
    assert OPS["gram"].signatures == ("Matrix[r, c] -> Matrix[r, r]", "Scalar -> Scalar")
    assert OPS["dot"].signatures == ("Matrix[r, c], Matrix[r, c] -> Scalar", "Scalar, Scalar -> Scalar")


def test_signatures_name_the_axes():
    assert OPS["mean"].signatures == ("Matrix[r, c] -> Scalar", "Scalar -> Scalar")
    assert OPS["@"].signatures == ("Matrix[r, k], Matrix[k, c] -> Matrix[r, c]", "Scalar, Scalar -> Scalar")
    assert OPS["layer_sum"].signatures == ("Scalar -> Score",)


def test_statistics():
    assert len(STATISTICS) == 19
    assert AUTOPROX_INPUTS == ("qkv.w", "qkv.g", "fc1.w", "fc1.g", "fc2.w", "fc2.g", "hidden.a", "hidden.g")
    assert (ALIASES["F1"], ALIASES["F3g"], ALIASES["F4"]) == ("qkv.w", "fc2.g", "hidden.a")
    assert {str(s.type) for s in STATISTICS.values() if s.site == "fc2"} == {"Matrix[d, m]"}
    assert all(s.type.kind is Kind.MATRIX for s in STATISTICS.values())


def test_in_range():
    given = np.array([FLOAT32_MAX, FLOAT32_MAX * 1.01, -1e39, FLOAT32_TINY, FLOAT32_TINY * 0.99, -1e-39, 0.0, np.nan])
    expected = [FLOAT32_MAX, np.inf, -np.inf, FLOAT32_TINY, 0.0, 0.0, 0.0, np.nan]
    np.testing.assert_array_equal(in_range(given), expected)
