"""Correlations of a population, and one by one with scipy: `make bench`. The values are compared first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from proxforge.bench.speed.correlations import MEASURES, population


@pytest.mark.parametrize("networks", [36, 400])
@pytest.mark.parametrize("how", ["proxforge", "scipy"])
@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_correlation(benchmark: Callable[..., object], measure: str, how: str, networks: int) -> None:
    """A population of 200 programs with one target."""
    x, y = population(networks)
    many, one = MEASURES[measure]
    expected = [one(row, y[0]).statistic for row in x]
    np.testing.assert_allclose(many(x, y)[:, 0], expected, rtol=0, atol=1e-12)
    benchmark((lambda: many(x, y)) if how == "proxforge" else lambda: [one(row, y[0]) for row in x])
