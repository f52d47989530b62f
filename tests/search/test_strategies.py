"""Every registered strategy against what the loop relies on, and elitism-preserve step by step."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import HashScores, hash_problem

from proxforge.grammar.errors import ProxforgeError
from proxforge.search.checkpoint import freeze, thaw
from proxforge.search.events import dumps
from proxforge.search.loop import run_search
from proxforge.search.spaces import TreeSpace
from proxforge.search.strategies import STRATEGIES, make_strategy
from proxforge.search.strategies.base import Evaluated, best_of

SPACE = TreeSpace(("qkv.w", "fc1.w", "fc2.g"))
FEW = {"steps": 6, "population": 5}


def small(name):
    return make_strategy(name, SPACE, FEW)


@pytest.mark.parametrize("name", STRATEGIES)
def test_any_strategy(name):
    """The best is monotone and was told; values belong to valid programs; the state survives its serialisation."""
    told: list[Evaluated] = []

    class Watched(STRATEGIES[name]):
        def tell(self, state, evaluated):
            told.extend(evaluated)
            after = super().tell(self._again(state), evaluated)
            assert self.progress(after) >= self.progress(state)
            return self._again(after)

        def ask(self, state, rng):
            after, genotypes = super().ask(state, rng)
            assert super().ask(state, rng) == (after, genotypes), "ask depends on more than its arguments"
            assert genotypes
            return after, genotypes

        def _again(self, state):
            text = dumps(freeze(state, SPACE))
            again = thaw(self.states, json.loads(text), SPACE)
            assert again == state
            return again

    for seed in range(3):
        told.clear()
        strategy = Watched(SPACE, small(name).config)
        result = run_search(hash_problem(), strategy, seed=seed)
        curve = [v for v in result.best_so_far() if v is not None]
        assert curve == sorted(curve)
        assert result.asked - result.rejected == len(told)
        assert result.best.jcm_search == curve[-1] == best_of(told).value
        assert {e.status for e in told if e.value is not None} == {"ok"}
        assert {e.status for e in told if e.value is None} <= {"nan", "inf", "constant"}
        assert any(e.value is None for e in told), "the problem has no invalid programs: nothing is tested"


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("budget", [1, 7, 12])
def test_a_budget_is_kept_exactly(name, budget):
    made: list[HashScores] = []
    endless = make_strategy(name, SPACE, {**FEW, "steps": 1000})
    result = run_search(hash_problem(made=made), endless, budget=budget)
    assert result.stopped == "budget"
    assert result.evaluations == budget == sum(map(len, made[0].runs))


@pytest.mark.parametrize("name", STRATEGIES)
def test_options_have_help_and_are_checked(name):
    cls = STRATEGIES[name]
    assert cls.paper
    assert all(f.metadata["help"] for f in cls.options.__dataclass_fields__.values())
    with pytest.raises(ProxforgeError, match="did you mean 'steps'"):
        make_strategy(name, SPACE, {"stesp": 1})
    for bad in (-1, 1.5, "1", True, None):
        with pytest.raises(ProxforgeError, match=r"'steps' is .* expected a whole number"):
            make_strategy(name, SPACE, {"steps": bad})


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ProxforgeError, match="did you mean 'random'"):
        make_strategy("randon", SPACE)


def test_a_state_holds_no_arrays():
    with pytest.raises(TypeError, match="a state holds"):
        freeze(np.float64(1.0), SPACE)


class Scripted:
    """Elitism-preserve with the values in the order in which programs are asked for."""

    def __init__(self, first, **options):
        self.strategy = make_strategy("elitism_preserve", SPACE, {"population": len(first), "top_k": 1, **options})
        self.state = self.strategy.init()
        self.asked = 0
        self.tell(*first)

    def tell(self, *values):
        number = self.asked
        self.asked += 1
        state, genotypes = self.strategy.ask(self.state, lambda i: np.random.default_rng([number, i]))
        assert len(genotypes) == len(values)
        evaluated = [Evaluated(g, v, "x", "ok") for g, v in zip(genotypes, values, strict=True)]
        self.state = self.strategy.tell(state, evaluated)
        return genotypes

    @property
    def values(self):
        return [m.value for m in self.state.members]


ALL = {"sample_ratio": 1.0}


def test_a_child_that_beats_its_parent_by_the_margin_enters_and_the_worst_leaves():
    run = Scripted([0.1, 0.5, 0.2], **ALL)
    run.tell(0.5 + 0.125)
    assert run.values == [0.5, 0.2, 0.625]
    assert run.state.steps == 1


def test_the_margin_is_an_option_and_its_edge_is_inside():
    run = Scripted([0.25, 0.5], margin=0.25, **ALL)
    run.tell(0.75)
    assert run.values == [0.5, 0.75]
    run = Scripted([0.25, 0.5], margin=0.0, **ALL)
    run.tell(0.5)
    assert run.values == [0.5, 0.5]


def test_a_child_below_the_margin_is_replaced_and_the_best_of_the_tries_is_taken():
    run = Scripted([0.1, 0.5, 0.2], tries=4, **ALL)
    for value in (None, 0.55, 0.3):
        run.tell(value)
        assert run.state.steps == 0
        assert run.values == [0.1, 0.5, 0.2]
    parent = run.state.parent
    assert parent.value == 0.5
    run.tell(None)
    assert run.values == [0.5, 0.2, 0.55]
    assert (run.state.steps, run.state.tries, run.state.parent, run.state.child) == (1, 0, None, None)


def test_twenty_tries_by_default_all_of_one_parent():
    run = Scripted([0.5, 0.4, 0.3], top_k=3)
    parents = []
    for _ in range(19):
        run.tell(0.0)
        assert run.state.steps == 0
        parents.append(run.state.parent)
    assert parents == parents[:1] * 19
    run.tell(0.0)
    assert run.state.steps == 1


def test_a_child_worse_than_all_leaves_at_once_and_nothing_enters_without_a_valid_child():
    run = Scripted([0.1, 0.5, 0.2], tries=1, **ALL)
    run.tell(-0.9)
    assert run.values == [0.1, 0.5, 0.2]
    run.tell(None)
    assert run.values == [0.1, 0.5, 0.2]
    assert run.state.steps == 2


def test_invalid_members_are_the_worst_and_any_valid_child_beats_an_invalid_parent():
    run = Scripted([None, -1.0, None], **ALL)
    run.tell(-0.5)
    assert run.values == [-1.0, None, -0.5]
    run = Scripted([None, None], **ALL)
    run.tell(-1.0)
    assert run.values == [None, -1.0]


def test_among_equals_the_oldest_leaves():
    run = Scripted([0.5, 0.1, 0.1], tries=1, **ALL)
    old = run.state.members
    run.tell(0.1)
    assert run.state.members[:2] == (old[0], old[2])


def test_the_parent_is_one_of_the_best_of_the_share():
    ranks = []
    strategy = make_strategy("elitism_preserve", SPACE, {"population": 10, "top_k": 3, "sample_ratio": 0.5})
    rng = np.random.default_rng(0)
    members = tuple(Evaluated(SPACE.sample(rng), v, "x", "ok") for v in np.linspace(0, 0.9, 10).tolist())
    state = replace(strategy.init(), members=members)
    for seed in range(2000):
        after, _ = strategy.ask(state, lambda i, seed=seed: np.random.default_rng([seed, i]))
        ranks.append(9 - members.index(after.parent))
    share = np.bincount(ranks, minlength=10) / 2000
    assert share[0] == pytest.approx(0.5 / 3, abs=0.03)  # in the share of half with probability 1/2, then one of three
    assert share[9] == share[8] == 0
    assert share[7] > 0


def test_the_published_options_are_the_defaults():
    config = make_strategy("elitism_preserve", SPACE).config.to_dict()
    assert config == {
        "steps": 200,
        "population": 20,
        "sample_ratio": 0.9,
        "top_k": 5,
        "mutation": 0.5,
        "margin": 0.1,
        "tries": 20,
    }
