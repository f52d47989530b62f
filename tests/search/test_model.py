"""The Gaussian process of `probe_model`: two forms of one model, and the same model however it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from proxforge.search.model import NOTHING, Model
from proxforge.search.probes import PAIRS, orders


@dataclass(frozen=True)
class Settings:
    prior: float = 1.3
    noise: float = 0.14
    kappa: float = 0.5


class Primal(Model):
    """Always by the matrix of the entries."""

    @property
    def _dual(self):
        return False


class Dual(Model):
    """Always by the kernel."""

    @property
    def _dual(self):
        return True


def drawn(count, seed):
    """Orders of which some are alike and some the same, and values."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(-1, 2, (count, PAIRS)).astype(np.int8)
    signs[1::4] = signs[::4][: len(signs[1::4])]
    signs[1::4, :40] *= -1
    signs[2::4] = signs[::4][: len(signs[2::4])]
    return orders(signs), rng.normal(size=count)


def made(cls, *data):
    """A model of the class that has learnt the data; `Model.learnt` makes models of its own class."""
    model = cls(Settings())
    for x, y in data:
        model = model.learnt(x, y)
    return model


@pytest.mark.parametrize("count", [1, 7, 100, PAIRS, PAIRS + 40])
def test_both_forms_predict_the_same(count):
    x, y = drawn(count, 0)
    new = drawn(50, 1)[0]
    for a, b in zip(made(Dual, (x, y)).predicted(new), made(Primal, (x, y)).predicted(new), strict=True):
        assert np.abs(a - b).max() < 1e-11
    ours = made(Model, (x, y))
    assert ours.promise(new) == made(Dual if count <= PAIRS else Primal, (x, y)).promise(new)


def test_the_prediction_is_that_of_the_textbook():
    s, (x, y), new = Settings(), drawn(60, 2), drawn(20, 3)[0]
    known = s.prior**2 * x @ x.T + s.noise**2 * np.eye(60)
    cross = s.prior**2 * new @ x.T
    mean = cross @ np.linalg.solve(known, y)
    covariance = s.prior**2 * new @ new.T - cross @ np.linalg.solve(known, cross.T)
    found = made(Model, (x, y)).predicted(new)
    assert np.abs(found[0] - mean).max() < 1e-11
    assert np.abs(found[1] - np.sqrt(np.diag(covariance))).max() < 1e-11
    assert made(Model, (x, y)).promise(new) == pytest.approx(list(found[0] + s.kappa * found[1]), abs=1e-9)


def test_it_is_the_same_however_often_it_was_asked_on_the_way():
    x, y = drawn(PAIRS + 30, 4)
    new = drawn(9, 5)[0]
    for count in (40, PAIRS, PAIRS + 30):
        at_once = made(Model, (x[:count], y[:count]))
        cuts = [0, 20, 21, 33, min(count, 250), count]
        in_steps = made(Model, *((x[a:b], y[a:b]) for a, b in pairwise(cuts)))
        for a, b in zip(at_once.predicted(new), in_steps.predicted(new), strict=True):
            assert a.tobytes() == b.tobytes()


def test_nothing_learnt_is_the_prior():
    new = drawn(3, 6)[0]
    mean, spread = Model(Settings()).predicted(new)
    assert not mean.any()
    assert spread == pytest.approx([1.3] * 3)
    assert Model(Settings()).promise(new[:0]) == []


def test_programs_without_a_value_teach_nothing():
    """As where none of the first population has one."""
    rows, values = drawn(5, 1)
    nothing = Model(Settings()).learnt(rows[:0], values[:0])
    assert nothing.promise(rows) == Model(Settings()).promise(rows)
    assert nothing.learnt(rows, values).promise(rows) == Model(Settings()).learnt(rows, values).promise(rows)


def test_a_program_without_an_order_promises_nothing():
    x, y = drawn(5, 7)
    new = np.concatenate((x[:1], np.zeros((1, PAIRS))))
    first, second = made(Model, (x, y)).promise(new)
    assert first > second == NOTHING


def test_an_order_has_length_one_or_none():
    found = orders(np.array([[1, -1] * (PAIRS // 2), [0] * PAIRS, [1, *[0] * (PAIRS - 1)]], np.int8))
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 0, 1])
