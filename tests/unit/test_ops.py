"""The op table: what it promises, and each definition against a computation written separately."""

from __future__ import annotations

import math

import numpy as np
import pytest

from proxforge.grammar.ops import OP_SETS, OPS, Form
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
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_definition(name):
    np.testing.assert_allclose(OPS[name].reference(X), EXPECTED[name], rtol=1e-14, atol=1e-300)


def test_log_of_positive_and_negative():
    np.testing.assert_allclose(OPS["log"].reference(POSITIVE), np.log(POSITIVE + EPS), rtol=1e-15)
    assert np.isnan(OPS["log"].reference(np.array([[-1e-30]]))).all()
    assert OPS["log"].reference(np.zeros((1, 1))) == pytest.approx(math.log(1e-9))


def test_every_unary_op_has_a_definition_here():
    unary = {n for n in OP_SETS["autoprox"] if OPS[n].arity == 1}
    assert unary == set(EXPECTED) | {"log"}


def test_binaries():
    y = X[::-1] + 0.7
    for name, expected in {"+": X + y, "-": X - y, "*": X * y, "/": X / y}.items():
        np.testing.assert_array_equal(OPS[name].reference(X, y), expected)
    np.testing.assert_allclose(OPS["@"].reference(X, y.T), np.einsum("rk,ck->rc", X, y), rtol=1e-14)


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


def test_signatures_name_the_axes():
    assert OPS["mean"].signatures == ("Matrix[r, c] -> Scalar", "Scalar -> Scalar")
    assert OPS["@"].signatures == ("Matrix[r, k], Matrix[k, c] -> Matrix[r, c]", "Scalar, Scalar -> Scalar")
    assert OPS["layer_sum"].signatures == ("Scalar -> Score",)


def test_statistics():
    assert len(STATISTICS) == 14
    assert AUTOPROX_INPUTS == ("qkv.w", "qkv.g", "fc1.w", "fc1.g", "fc2.w", "fc2.g", "hidden.a", "hidden.g")
    assert (ALIASES["F1"], ALIASES["F3g"], ALIASES["F4"]) == ("qkv.w", "fc2.g", "hidden.a")
    assert {str(s.type) for s in STATISTICS.values() if s.site == "fc2"} == {"Matrix[d, m]"}
    assert all(s.type.kind is Kind.MATRIX for s in STATISTICS.values())


def test_in_range():
    given = np.array([FLOAT32_MAX, FLOAT32_MAX * 1.01, -1e39, FLOAT32_TINY, FLOAT32_TINY * 0.99, -1e-39, 0.0, np.nan])
    expected = [FLOAT32_MAX, np.inf, -np.inf, FLOAT32_TINY, 0.0, 0.0, 0.0, np.nan]
    np.testing.assert_array_equal(in_range(given), expected)
