"""Correlations against scipy, on ties, missing values and everything undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from proxforge.search import correlation
from proxforge.search.correlation import (
    kendall,
    kendall_interval,
    kendall_many,
    partial_kendall,
    pearson,
    pearson_many,
    settled,
    spearman,
    spearman_many,
)

TIED = st.integers(-3, 3).map(float)
ANY = st.floats(-1e30, 1e30, allow_subnormal=False)


@st.composite
def pairs_of_vectors(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(2, 25))
    x, y = (draw(st.lists(draw(st.sampled_from([TIED, ANY])), min_size=count, max_size=count)) for _ in range(2))
    return np.array(x), np.array(y)


def varies(*vectors: np.ndarray) -> bool:
    return all(np.ptp(v) > 0 for v in vectors)


@given(pairs_of_vectors())
def test_kendall_and_spearman_are_scipys(pair):
    x, y = pair
    if not varies(x, y):
        assert kendall(x, y) is None
        assert spearman(x, y) is None
        return
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_pearson_is_scipys():
    rng = np.random.default_rng(0)
    for scale in (1e-30, 1.0, 1e30):
        x, y = rng.normal(size=(2, 50))
        x = (x + 0.5 * y) * scale
        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert pearson([1.0, 2.0], [3.0, 4.0]) == pytest.approx(1.0)


def test_ties_are_exact():
    """Numbers that differ in the last bit are apart, and differences that overflow or underflow have their sign."""
    one = np.nextafter(1.0, 2.0)
    assert kendall([1.0, one, one], [1.0, 2.0, 2.0]) == 1.0
    assert kendall([1.0, 1.0, one], [1.0, 2.0, 3.0]) == pytest.approx(2 / np.sqrt(2 * 3))
    assert kendall([-1.7e308, 1.7e308, 0.0], [1.0, 3.0, 2.0]) == 1.0
    assert kendall([5e-324, 1e-323, 0.0], [2.0, 3.0, 1.0]) == 1.0


def test_many_against_many_is_one_by_one():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, (7, 19)).astype(float), rng.normal(size=(3, 19))
    y[1, [2, 5, 6]] = np.nan
    x[3, 2] = np.nan  # only where target 1 was not measured
    x[4] = 1.0
    found = kendall_many(x, y)
    for p in range(7):
        for t in range(3):
            keep = ~np.isnan(y[t])
            expected = np.nan
            if p != 4 and np.isfinite(x[p, keep]).all():
                expected = stats.kendalltau(x[p, keep], y[t, keep]).statistic
            assert found[p, t] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isnan(found[4]).all()
    assert not np.isnan(found[3, 1])
    assert np.array_equal(kendall_many(x, y[1]), found[:, 1], equal_nan=True)


def test_what_is_not_measured_is_left_out():
    x, y = np.array([1.0, 2.0, 9.0, 4.0, 0.0]), np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    keep = ~np.isnan(y)
    assert kendall(x, y) == kendall(x[keep], y[keep])
    assert spearman(x, y) == spearman(x[keep], y[keep])
    assert pearson(x, y) == pearson(x[keep], y[keep])
    assert partial_kendall(x, y, x**2 % 5) == partial_kendall(x[keep], y[keep], (x**2 % 5)[keep])
    assert kendall_interval(x, y, resamples=50) == kendall_interval(x[keep], y[keep], resamples=50)


@pytest.mark.parametrize("measure", [kendall, spearman, pearson, kendall_interval])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]),
        ([1.0, np.inf, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0]),
        ([1.0], [2.0]),
        ([], []),
        ([1.0, 2.0, 3.0], [1.0, np.nan, np.nan]),
    ],
)
def test_the_undefined_is_none(measure, x, y):
    assert measure(x, y) is None


def test_vectors_of_unequal_length_are_an_error():
    for measure in (kendall, spearman, pearson):
        with pytest.raises(ValueError, match="got"):
            measure([1.0, 2.0], [1.0, 2.0, 3.0])


def test_partial_kendall():
    rng = np.random.default_rng(2)
    z = rng.integers(0, 5, 40).astype(float)
    x, y = z + rng.normal(size=40), z + rng.normal(size=40)
    xy, xz, yz = (stats.kendalltau(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_kendall(x, y, z) == pytest.approx(expected, abs=1e-12)
    assert abs(expected) < abs(xy), "the example shows nothing: z must explain a part of tau"


def test_partial_kendall_is_undefined_where_nothing_is_left():
    x, y = np.random.default_rng(3).normal(size=(2, 30))
    assert partial_kendall(x, y, x) is None
    assert partial_kendall(x, y, -np.exp(x)) is None
    assert partial_kendall(x, y, y) is None
    assert partial_kendall(x, y, np.ones(30)) is None


def test_the_interval_is_that_of_explicit_resamples():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 9, 30).astype(float), rng.normal(size=30)
    drawn = np.random.default_rng(7).integers(0, 30, (200, 30))
    taus = [stats.kendalltau(x[i], y[i]).statistic for i in drawn]
    low, high = np.quantile(taus, [0.05, 0.95])
    assert kendall_interval(x, y, resamples=200, level=0.9, seed=7) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_is_repeatable_and_narrows():
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    wide, narrow = kendall_interval(x[:40], y[:40]), kendall_interval(x, y)
    assert kendall_interval(x, y) == narrow
    assert kendall_interval(x, y, seed=1) != narrow
    assert narrow[0] < kendall(x, y) < narrow[1]
    assert narrow[1] - narrow[0] < 0.5 * (wide[1] - wide[0])


def test_resamples_without_a_tau_are_left_out():
    low, high = kendall_interval([0.0, 1.0], [0.0, 1.0], resamples=100)
    assert (low, high) == (1.0, 1.0)


@settings(max_examples=200)
@given(st.floats(-1e38, 1e38, allow_subnormal=False))
def test_settled_keeps_twelve_digits_and_ties_the_rest(value):
    x = np.array([value, value * (1 + 1e-15), value * (1 + 1e-9)])
    close = settled(x)
    assert close[0] == pytest.approx(value, rel=1e-12)
    assert value == 0 or abs(value) < 1e-290 or close[2] != close[0]
    assert settled(close).tolist() == close.tolist()


def test_settled_ties_rounding_noise():
    assert len(np.unique(settled(np.array([0.1 + 0.2, 0.3, 0.3 - 1e-16])))) == 1
    assert np.isnan(settled(np.array([np.nan])))[0]
    assert settled(np.array([np.inf, -np.inf])).tolist() == [np.inf, -np.inf]


def scipys(function, x, y) -> np.ndarray:
    """One by one, on the measured networks, NaN where it is not defined."""
    found = np.full((len(x), len(y)), np.nan)
    for p, row in enumerate(x):
        for t, target in enumerate(y):
            a, b = row[~np.isnan(target)], target[~np.isnan(target)]
            if np.isfinite(a).all() and len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
                found[p, t] = function(a, b).statistic
    return found


@pytest.mark.parametrize("count", [2, 3, 7, 8, 9, 33, 100])
@pytest.mark.parametrize(
    ("many", "one"),
    [(kendall_many, stats.kendalltau), (spearman_many, stats.spearmanr), (pearson_many, stats.pearsonr)],
)
def test_populations_are_scipys(many, one, count):
    """Ties in both, networks that are not measured, rows without a value, rows that are all ties."""
    rng = np.random.default_rng(count)
    x = np.concatenate((rng.integers(0, 4, (20, count)), rng.normal(size=(20, count)) * 1e20)).astype(np.float64)
    y = np.stack((rng.integers(0, 3, count), rng.normal(size=count), rng.normal(size=count))).astype(np.float64)
    y[2, rng.random(count) < 0.3] = np.nan
    x[0], x[1, 0], x[2, -1] = 5.0, np.nan, np.inf
    np.testing.assert_allclose(many(x, y), scipys(one, x, y), rtol=0, atol=1e-12)


def test_very_many_networks_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (6, 300)).astype(np.float64), rng.integers(0, 9, (2, 300)).astype(np.float64)
    x[0], x[1, 3], y[1, 5] = 1.0, np.inf, np.nan
    wanted = kendall_many(x, y)
    monkeypatch.setattr(correlation, "MANY", 299)
    np.testing.assert_allclose(kendall_many(x, y), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("many", [spearman_many, pearson_many])
def test_shapes_that_do_not_fit(many):
    with pytest.raises(ValueError, match=r"expected x \[P, A\]"):
        many(np.zeros((2, 3)), np.zeros((2, 4)))


def test_arrays_that_cannot_be_written_to_are_taken():
    x, y = np.random.default_rng(0).normal(size=(2, 3, 12))
    expected = kendall_many(x, y)
    for array in (x, y):
        array.flags.writeable = False
    np.testing.assert_array_equal(kendall_many(x, y), expected)
