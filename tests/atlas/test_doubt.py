"""Joins whose elements may be out of float32's range: run by the VM where that can change something, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.atlas.order import Order
from proxforge.bench.atlas.ranks import CONSTANT, NONFINITE, OK, rank_joins

MINUS, TIMES = 1, 2
ELEMENTS = 49_152.0
PARTS = ([0, 1], [2, 3], [0, 1, 2, 3])


def ranked(matrix, largest, scalar, op=TIMES, elements=0.0):
    """A join of a matrix, of which the means and the largest elements are given, and a Scalar, on four networks."""
    values = np.array([matrix, scalar], np.float64)
    size = np.array([largest, np.zeros(4)], np.float64)
    order = Order.of([np.arange(4.0)], PARTS)
    joins = np.array([[op, 0, 1]], np.int16)
    counted = np.full((2, 4), elements)
    made, doubtful = rank_joins(joins, values, size, counted, np.array([True, False]), np.arange(5), order, True)
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


def test_a_count_of_elements_is_exact_however_it_is_written():
    """Of `1 - x` with x one but for a few elements."""
    counts = np.array([1.0, 2.0, 3.0, 5.0])
    kept = 1.0 - counts / ELEMENTS
    assert not np.array_equal(1.0 - kept, counts / ELEMENTS)  # else there is nothing to see
    made, doubtful = ranked(kept, np.ones(4), np.ones(4), MINUS, ELEMENTS)
    assert not doubtful
    assert np.array_equal(-made.scores[0, 1], counts / ELEMENTS)
    made, _ = ranked(kept, np.ones(4), np.ones(4), MINUS)
    assert not np.array_equal(-made.scores[0, 1], counts / ELEMENTS)


@pytest.mark.parametrize(("apart", "expected"), [(1e-16, True), (1e-10, False), (0.0, False)])
def test_differences_that_are_nearly_tied_and_have_lost_digits_are_run(apart, expected):
    first = 0.5 + np.array([1e-6, 2e-6, 3e-6, 3e-6]) / 7
    first[3] += apart
    assert ranked(first, np.ones(4), np.full(4, 0.5), MINUS)[1] == expected


def test_what_has_lost_no_digits_is_not_run():
    assert not ranked([0.7, 0.8, 0.9, 0.9 + 2e-16], np.ones(4), np.full(4, 0.5), MINUS)[1]


def test_what_is_rounding_in_the_matrix_too_is_not_run():
    assert not ranked(0.5 + np.array([1e-16, 2e-16, 3e-16, 4e-16]), np.ones(4), np.full(4, 0.5), MINUS)[1]
