"""The facts of segments against their plain definitions, and that they do not depend on what is walked beside them."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.stats_cache import facts
from proxforge.stats_cache.facts import facts_of, facts_of_all
from proxforge.stats_cache.source import witness_places

SIZES = (1, 2, 3, 100, 4095, 4096, 8192, 8193, 65536, 65537, 200_001)


def plain(x: np.ndarray) -> dict[str, float | int | None]:
    """Straight from the definitions, in float64."""
    flat = x.ravel()
    finite = flat[np.isfinite(flat)]
    whole = finite.size == flat.size and flat.size > 0
    wide = flat.astype(np.float64)
    return {
        "low": finite.min() if finite.size else None,
        "high": finite.max() if finite.size else None,
        "above": finite[finite > 0].min() if (finite > 0).any() else None,
        "below": finite[finite < 0].max() if (finite < 0).any() else None,
        "zeros": int((finite == 0).sum()),
        "nonfinite": flat.size - finite.size,
        "mean": wide.mean() if whole else None,
        "std": wide.std(ddof=1) if whole and flat.size > 1 else None,
        "mean_abs": np.abs(wide).mean() if whole else None,
    }


def check(x: np.ndarray) -> None:
    found, expected = facts_of(x), plain(x)
    for name, value in expected.items():
        got = getattr(found, name)
        if value is None or name in ("low", "high", "above", "below", "zeros", "nonfinite"):
            assert got == value, name
        else:
            assert got == pytest.approx(value, rel=1e-12, abs=1e-12 * (expected["mean_abs"] or 0)), name
    assert found.witnesses == tuple(float(x.ravel()[i]) for i in witness_places(x.size)) or found.nonfinite
    assert (found.rows, found.cols) == x.shape


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["normal", "positive", "negative", "far", "zeros", "minus zeros", "constant", "tiny"])
def test_facts_are_those_of_the_definitions(size, kind):
    rng = np.random.default_rng(size)
    x = rng.normal(size=size) * 1e-3
    if kind == "positive":
        x = np.abs(x)
    elif kind == "negative":
        x = -np.abs(x)
    elif kind == "far":  # the squares cancel
        x = 1e4 + x
    elif kind in ("zeros", "minus zeros"):
        x[rng.integers(size, size=3)] = 0.0 if kind == "zeros" else -0.0
    elif kind == "constant":
        x[:] = rng.choice([0.0, -0.0, 3.0])
    elif kind == "tiny":
        x[rng.integers(size, size=4)] = 1e-45 * rng.choice([-1, 1], size=4)
    check(x.astype(np.float32)[None])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted_apart(size, value):
    x = np.random.default_rng(size).normal(size=(1, size)).astype(np.float32)
    x[0, size // 2] = value
    check(x)
    x[0, -1] = -value
    check(x)


def test_facts_do_not_depend_on_what_is_walked_beside():
    rng = np.random.default_rng(0)
    segments = [rng.normal(size=(int(rng.integers(1, 200)), 24)).astype(np.float32) for _ in range(60)]
    segments[7][0, 0] = np.nan
    segments.insert(20, np.zeros((0, 4), np.float32))
    together = facts_of_all(segments)
    for part in (facts_of_all(segments[3:31]), [facts_of(s) for s in segments[3:31]]):
        assert [f.to_json() for f in part] == [f.to_json() for f in together[3:31]]


def test_the_largest_float32_numbers_overflow_nothing():
    check(np.full((1, 9000), np.finfo(np.float32).max, np.float32))
    check(np.array([[3e38, -3e38]], np.float32))


def test_a_chunk_is_of_whole_blocks():
    assert facts._CHUNK % facts._BLOCK == 0
    assert facts._SMALL <= facts._BLOCK < 10_000, "BLAS shares longer products out among threads"
