"""``bench sampling``: counts what it draws, and sees a space that draws what does not compile."""

from __future__ import annotations

import json

import pytest

from proxforge.bench import sampling
from proxforge.bench.sampling import measure_sampling
from proxforge.cli import run
from proxforge.search.spaces import make_space


@pytest.mark.parametrize("name", ["tree", "expression", "memory"])
def test_all_compile(name):
    document = measure_sampling(make_space(name), 60, seed=1).to_dict()
    assert document["samples"] == document["compiled"] == 60
    assert document["by_origin"] == {
        "drawn": {"programs": 48, "compiled": 48},
        "mutated": {"programs": 6, "compiled": 6},
        "crossed": {"programs": 6, "compiled": 6},
    }
    assert document["failures"] == []
    assert 1 < document["distinct"] <= 60


def test_what_does_not_compile_is_listed(monkeypatch, capsys):
    """Without the check that a search makes, the rejected ones come through."""
    plain = make_space("tree")
    monkeypatch.setattr(sampling, "ValidSpace", lambda space, pool: Unchecked(space))
    found = measure_sampling(plain, 200, seed=0)
    document = found.to_dict()
    assert document["samples"] == 200
    assert document["compiled"] == 200 - len(found.failures) < 200
    assert all("error: " in failure["error"] for failure in document["failures"])
    assert run(["bench", "sampling", "--samples", "200", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["compiled"] == document["compiled"]


class Unchecked:
    """A space that passes on whatever type-checks."""

    def __init__(self, space):
        self._space = space

    def samples(self, rng, count):
        return [self._space.sample(rng) for _ in range(count)]

    def mutate(self, genotype, rng):
        return self._space.mutate(genotype, rng)

    def crossover(self, first, second, rng):
        return self._space.crossover(first, second, rng)

    def refused(self):
        return []
