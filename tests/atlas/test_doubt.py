"""Joins whose elements may be out of float32's range: run by the VM where that can change something, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.atlas.ranks import CONSTANT, NONFINITE, OK, Order, rank_joins

TIMES = 2
PARTS = ([0, 1], [2, 3], [0, 1, 2, 3])


def ranked(matrix, largest, scalar, op=TIMES):
    """A join of a matrix, of which the means and the largest elements are given, and a Scalar, on four networks."""
    values = np.array([matrix, scalar], np.float64)
    size = np.array([largest, np.zeros(4)], np.float64)
    order = Order.of([np.arange(4.0)], PARTS)
    joins = np.array([[op, 0, 1]], np.int16)
    made, doubtful = rank_joins(joins, values, size, np.array([True, False]), np.arange(5), order, True)
    return made, bool(doubtful[0])


def test_elements_that_vanish_beside_larger_scores_change_nothing():
    made, doubtful = ranked([1.0, 2.0, 3.0, 4.0], np.ones(4), [1.0, 1e-30, 1e-10, 1.0])
    assert not doubtful
    assert (made.status[0] == OK).all()


def test_a_score_of_what_vanishes_is_run():
    small = np.array([3e-38, 4e-38, 5e-38, 6e-38])
    assert ranked(np.ones(4), np.ones(4), small)[1]


@pytest.mark.parametrize(("second", "expected"), [(1e-29, False), (1e-36, False), (1.9e-38, True)])
def test_small_scores_are_ranked_where_they_are_apart(second, expected):
    assert ranked(np.ones(4), np.ones(4), [1.0, second, 0.5, 2e-38])[1] == expected


def test_small_scores_that_are_equal_but_for_their_last_digits_are_run():
    assert ranked(np.ones(4), np.ones(4), [1.0, 1e-29, 0.5, 1e-29 * (1 + 1e-12)])[1]


def test_what_may_overflow_is_run_unless_something_else_is_infinite():
    largest = np.array([1.0, 1e9, 1.0, 1.0])
    assert ranked([1.0, 2.0, 3.0, 4.0], largest, [1.0, 1e30, 1.0, 1.0])[1]
    made, doubtful = ranked([np.inf, 2.0, 3.0, 4.0], largest, [1.0, 1e30, 1.0, 1.0])
    assert not doubtful
    assert made.status[0, 0].tolist() == [NONFINITE, OK, NONFINITE]


def test_an_infinite_network_of_the_other_part_decides_nothing():
    largest = np.array([1.0, 1e9, 1.0, 1.0])
    assert ranked([1.0, 2.0, np.inf, 4.0], largest, [1.0, 1e30, 1.0, 1.0])[1]


def test_what_is_exactly_zero_is_known():
    made, doubtful = ranked(np.ones(4), np.ones(4), np.zeros(4))
    assert not doubtful
    assert (made.status[0] == CONSTANT).all()
