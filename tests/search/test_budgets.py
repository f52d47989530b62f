"""When a run ends, what it starts from, what it may use, and what it reports of its front."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tiny import SEARCH, hash_problem, real_problem, targets

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.expr import topological
from proxforge.grammar.parse import parse
from proxforge.search.constraints import constrained
from proxforge.search.events import Event
from proxforge.search.front import front_of
from proxforge.search.loop import run_search
from proxforge.search.objective import JCM
from proxforge.search.spaces import ExpressionSpace, MemorySpace, TreeSpace, make_space
from proxforge.search.starting import genotypes_of
from proxforge.search.strategies import STRATEGIES, make_strategy

SPACE = TreeSpace(("qkv.w", "fc1.w", "fc2.g"))
FORMULA = "abs(qkv.w) * softmax(mean(fc2.g))"


def endless(name="evolution", space=SPACE):
    return make_strategy(name, space, {"steps": 10_000, "population": 10})


def test_patience_counts_evaluations_since_the_best():
    result = run_search(hash_problem(), endless(), patience=25)
    curve = result.best_so_far()
    assert result.stopped == "patience"
    assert curve[-26] == curve[-1] == result.best.jcm_search
    assert len(curve) == 26 or curve[-27] is None or curve[-27] < curve[-26]


def test_a_callback_ends_the_run_when_it_says_true_and_the_run_can_go_on(tmp_path):
    told = []

    def enough(progress):
        told.append(progress)
        return len(told) == 7

    stopped = run_search(hash_problem(), endless(), budget=60, out=tmp_path / "run", progress=enough)
    assert stopped.stopped == "callback"
    assert len(told) == 7
    assert stopped.evaluations < 60
    again = run_search(hash_problem(), endless(), budget=60, out=tmp_path / "run")
    assert again.history == run_search(hash_problem(), endless(), budget=60).history
    assert again.stopped == "budget"


def test_a_time_budget_ends_after_the_step_and_is_continued(tmp_path):
    first = run_search(hash_problem(0.001), endless(), budget=50, seconds=0.02, out=tmp_path)
    assert first.stopped == "seconds"
    assert 0 < first.evaluations < 50
    second = run_search(hash_problem(0.001), endless(), budget=50, seconds=0.02, out=tmp_path)
    assert second.evaluations > first.evaluations


def test_the_front_is_what_nothing_simpler_beats():
    values = [(5, 0.3), (3, 0.1), (4, 0.1), (5, 0.4), (3, 0.2), (9, 0.4), (7, None), (8, 0.5), (3, 0.2)]
    events = [Event(0, i, "ok", None, f"f{i}", f"h{i}", v, c) for i, (c, v) in enumerate(values)]
    assert [e.index for e in front_of(events)] == [4, 3, 7]
    assert front_of([]) == []


def test_the_front_of_a_run_has_search_and_test_columns():
    problem = real_problem()
    result = run_search(problem, endless("random"), budget=60)
    assert [p.complexity for p in result.front] == sorted({p.complexity for p in result.front})
    assert result.front[-1].search == result.best.jcm_search
    for point in result.front:
        node = parse(point.proxy, canonical_pool())
        assert len(topological([node])) == point.complexity
        for part, value in ((problem.search, point.search), (problem.test, point.test)):
            assert problem.judge(part)(problem.evaluator(part).run([node]).scores) == [value]


@pytest.mark.parametrize("name", STRATEGIES)
def test_starting_formulas_come_first_and_are_told(name):
    starts = (FORMULA, "abs(fc2.g) - sum(qkv.w)")
    result = run_search(hash_problem(), endless(name), budget=15, start=starts)
    expected = [parse(f, canonical_pool()).digest.hex() for f in starts]
    assert [e.hash for e in result.history[:2]] == expected
    assert result.params["start"] == list(starts)


@pytest.mark.parametrize(
    "space",
    [SPACE, ExpressionSpace(("qkv.w", "fc1.w", "fc2.g"), depth=4), MemorySpace(("qkv.w", "fc1.w", "fc2.g"))],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize(
    "formula", [FORMULA, "abs(fc1.w) / mean(fc2.g)", "mean(abs(qkv.w) * abs(qkv.w))", "qkv.w @ fc2.g"]
)
def test_a_formula_is_found_in_a_space_where_it_can_be_written(space, formula):
    try:
        (genotype,) = genotypes_of(space, [formula])
    except ProxforgeError as error:
        assert space.name == "tree" or "/" in formula, error
        assert repr(formula) in error.message
    else:
        pool = canonical_pool()
        assert space.expression(genotype, pool) is parse(formula, pool)


@pytest.mark.parametrize(
    ("space", "formula", "words"),
    [
        (SPACE, "abs(qkv.w)", "does not join two branches"),
        (SPACE, "abs(exp(abs(qkv.w))) - mean(fc1.w)", "at most 2 unary ops"),
        (SPACE, "abs(hidden.a) * mean(fc1.w)", "names are not those of the space"),
        (SPACE, "layer_sum(qkv.w * mean(fc1.w))", "layer_mean"),
        (ExpressionSpace(("qkv.w",), depth=1), "abs(log(abs(qkv.w)))", "at most 1 ops on a path"),
        (MemorySpace(("qkv.w", "fc1.w"), registers=1), "mean(abs(qkv.w)) * mean(abs(fc1.w))", "more than 1 registers"),
    ],
)
def test_a_formula_outside_the_space_is_refused_with_a_reason(space, formula, words):
    with pytest.raises(ProxforgeError, match=words) as caught:
        genotypes_of(space, [formula])
    assert caught.value.kind == "config"


def test_too_many_starting_formulas_are_refused():
    with pytest.raises(ProxforgeError, match="holds 1 programs"):
        run_search(hash_problem(), make_strategy("random", SPACE, {"population": 1}), start=(FORMULA, FORMULA))


@pytest.mark.parametrize("name", ["tree", "expression", "memory"])
def test_forbidden_ops_and_gradients_are_not_drawn(name):
    options = constrained(name, {}, ("log", "@"), gradient_free=True)
    space = make_space(name, options)
    assert not {"log", "@"} & set(space.ops)
    assert set(space.inputs) == {"qkv.w", "fc1.w", "fc2.w", "hidden.a"}
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = space.text(space.sample(rng))
        assert ".g" not in text
        assert not re.search(r"\blog\(", text)
    with pytest.raises(ProxforgeError, match="cannot be forbidden"):
        constrained(name, {}, ("nothing",))


def test_an_evaluation_on_some_networks_is_repeatable_and_the_best_is_judged_on_all():
    from dataclasses import replace

    problem = replace(real_problem(), sample=6, sample_seed=4)
    result = run_search(problem, endless("random"), budget=30)
    assert result.history == run_search(problem, endless("random"), budget=30).history
    other = run_search(replace(problem, sample_seed=5), endless("random"), budget=30)
    assert [e.hash for e in other.history] == [e.hash for e in result.history]
    assert [e.jcm for e in other.history] != [e.jcm for e in result.history]
    y = {n: v[list(SEARCH)] for n, v in targets().items()}
    evaluator = problem.evaluator(problem.search)
    scores = evaluator.run([parse(result.best.proxy, canonical_pool())]).scores
    assert JCM(y)(scores) == [result.best.jcm_search]
    assert result.params["objective"]["networks"] == 6
    with pytest.raises(ProxforgeError, match="expected 2 to 10"):
        run_search(replace(problem, sample=11), endless("random"))
