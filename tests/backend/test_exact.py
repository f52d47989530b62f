"""Values that are known without rounding, in every backend: of equal numbers, of infinite ones, at the range's ends."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.parse import parse
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.result import Status
from tests.emulation import Emulation, use

BACKENDS = ["reference", "cpu", "cpu-float32", "torch", "fused"]
LAYERS = 7
SHAPE = 77, 101
"""Of several tiles in each backend; sums of so many equal numbers are rounded."""


@pytest.fixture(params=BACKENDS)
def run(request, monkeypatch):
    """Scores of formulas on the layers of one network, and their statuses."""
    if request.param == "fused":
        use(monkeypatch, Emulation())

    def scored(layers: dict[str, list[np.ndarray]], formulas: list[str]):
        name = "torch" if request.param == "fused" else request.param
        pool = canonical_pool()
        evaluator = Evaluator(MemoryCache([layers]), [0], backend_name=name, device="cpu")
        return evaluator.run([parse(f, pool) for f in formulas])

    return scored


@pytest.mark.parametrize("number", [0.1, -3.3e-5, 1e30, 0.0])
def test_equal_numbers_do_not_deviate(run, number):
    layers = {"qkv.w": [np.full(SHAPE, number, np.float32)] * LAYERS}
    formulas = ["std(qkv.w)", "std(tanh(qkv.w) / 7)", "layer_std(mean(qkv.w))", "layer_std(sum(sigmoid(qkv.w)))"]
    np.testing.assert_array_equal(run(layers, formulas).scores, 0.0)


def test_numbers_that_hardly_differ_deviate(run):
    numbers = np.full(SHAPE, 1.0, np.float32)
    numbers[-1, -1] += np.float32(2**-20)
    expected = 2**-20 / np.sqrt(numbers.size)
    np.testing.assert_allclose(run({"qkv.w": [numbers]}, ["std(qkv.w * 1.5)"]).scores, 1.5 * expected, rtol=1e-3)


def test_float64_tiles_tell_numbers_apart_that_differ_in_their_last_digits():
    """In fewer than the rounding of a mean may change."""
    source = MemoryCache([{"qkv.w": [np.random.default_rng(0).normal(0, 1e-14, SHAPE).astype(np.float32)]}])
    found = Evaluator(source, [0], backend_name="cpu").run([parse("std(sigmoid(qkv.w))")]).scores
    np.testing.assert_allclose(found, 2.5e-15, rtol=0.05)


def test_infinite_numbers_have_no_deviation(run):
    found = run({"qkv.w": [np.full(SHAPE, np.inf, np.float32)] * 2}, ["std(qkv.w)", "layer_std(mean(qkv.w))"])
    assert np.isnan(found.scores).all()


def test_a_logarithm_beyond_the_range_is_infinite(run):
    numbers = np.tile(np.array([[3e38], [-3e38]], np.float32), (1, 40))
    found = run({"qkv.w": [numbers]}, [f"{name}(log_softmax(qkv.w))" for name in ("min", "mean", "max")])
    np.testing.assert_array_equal(found.scores[:, 0], [-np.inf, -np.inf, 0.0])
    assert found.status.tolist() == [Status.INF, Status.INF, Status.OK]


def test_the_logarithms_of_one_row_are_0(run):
    layers = {"qkv.w": [np.random.default_rng(0).normal(0, 1, (1, 3001)).astype(np.float32)]}
    formulas = ["sum(log_softmax(qkv.w))", "sum(abs(log_softmax(qkv.w / 3)))", "mean(log_softmax(exp(qkv.w) * 2))"]
    np.testing.assert_array_equal(run(layers, formulas).scores, 0.0)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, np.inf), (0.0, np.nan), (-0.5, np.nan), (-1.0, np.nan)])
def test_an_infinite_factor_times_no_number_or_numbers_of_both_signs(run, factor, expected):
    """Σ (a b) over all rows and columns is not what follows from the sums of a's columns and b's rows there."""
    first, second = np.ones((20, 9), np.float32), np.full((9, 20), 2.0, np.float32)
    first[3, 4], second[4, 7] = factor, np.inf
    layers = {"fc2.w": [first], "fc1.w": [second]}
    found = run(layers, ["sum(sign(fc2.w) @ abslog(fc1.w))", "sum(fc2.w @ fc1.w)"])
    np.testing.assert_array_equal(found.scores, expected)
