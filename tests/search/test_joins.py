"""Scores of trees from what is known of their branches: those of the evaluator, to the last sign of a pair."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.search import joins
from proxforge.search.probes import PAIRS, Probes, probes
from proxforge.search.spaces import ExpressionSpace, TreeSpace
from proxforge.search.spaces.tree import Tree

SPACE = TreeSpace()
FEW = ("qkv.w", "fc1.g", "fc2.w", "hidden.a")


def trees(count, seed):
    """Samples, and what a search makes of them."""
    rng = np.random.default_rng(seed)
    found = [SPACE.sample(rng) for _ in range(count)]
    found += [SPACE.mutate(g, rng, 0.1) for g in found]
    return found + [SPACE.crossover(a, b, rng) for a, b in pairwise(found)]


def run(genotypes):
    """The signs by the evaluator, every program as a whole."""
    pool = canonical_pool()
    return Probes(SPACE.inputs)._run([SPACE.expression(g, pool) for g in genotypes])


def test_the_signs_are_those_of_the_evaluator():
    genotypes = trees(1000, 1)
    found = probes(SPACE.inputs).signs(SPACE, genotypes)
    assert np.array_equal(found, run(genotypes))
    assert 0.8 < (found != 0).any(axis=1).mean() < 1, "programs without an order were to be among them"


@pytest.mark.parametrize(
    "genes",
    [
        (
            "qkv.w",
            "log",
            "normalize",
            "fc1.g",
            "mean",
            "identity",
            "+",
        ),  # NaN, though its sum is 0 for all that is finite
        ("fc1.g", "log_softmax", "normalize", "fc1.g", "log_softmax", "exp", "-"),  # what rounding leaves of a sum of 0
        ("fc1.g", "identity", "softmax", "fc1.w", "log_softmax", "exp", "-"),  # what rounding leaves of 1 - 1
        ("qkv.g", "square", "square", "qkv.w", "square", "square", "*"),  # elements below float32's range
        ("qkv.g", "square", "square", "hidden.g", "frobenius", "square", "*"),
        ("fc1.w", "inv", "exp", "fc1.w", "max", "identity", "+"),  # a sum beyond float32's range
        ("qkv.w", "sum", "identity", "qkv.w", "sum", "identity", "-"),  # one score for all
        ("qkv.w", "softmax", "sum", "qkv.g", "softmax", "sum", "-"),
        ("fc1.w", "frobenius", "identity", "hidden.a", "l1_norm", "sqrt", "@"),
    ],
)
def test_what_is_no_common_sum(genes):
    tree = SPACE.decode(list(genes))
    assert np.array_equal(probes(SPACE.inputs).signs(SPACE, [tree]), run([tree]))


def test_most_programs_need_no_run():
    ours = Probes(SPACE.inputs)
    genotypes = trees(300, 2)
    _, _, known = ours._joins.scores(SPACE, *SPACE.sides(genotypes))
    assert known.mean() > 0.9
    products = [SPACE.sides([g])[1][0] for g, k in zip(genotypes, known, strict=True) if not k]
    assert {"*", "@"} & set(products)


def test_the_signs_do_not_depend_on_what_else_is_asked_for(monkeypatch):
    genotypes = trees(60, 3)
    together = Probes(SPACE.inputs).signs(SPACE, genotypes)
    monkeypatch.setattr(joins, "MEMORY", 10)
    monkeypatch.setattr(joins, "BLOCK", 7)
    one_by_one = Probes(SPACE.inputs)
    alone = np.concatenate([one_by_one.signs(SPACE, [g]) for g in genotypes[::-1]])[::-1]
    assert np.array_equal(together, alone)
    assert len(one_by_one._joins._rows) <= 12, "it was to forget"


@pytest.mark.parametrize("space", [TreeSpace(FEW, branches=3), ExpressionSpace(FEW, depth=3)], ids=["three", "nested"])
def test_other_spaces_are_run(space):
    rng, ours = np.random.default_rng(4), Probes(space.inputs)
    genotypes = [space.sample(rng) for _ in range(40)]
    pool = canonical_pool()
    found = ours.signs(space, genotypes)
    assert np.array_equal(found, Probes(space.inputs)._run([space.expression(g, pool) for g in genotypes]))
    assert found.any()


def test_of_no_programs_there_is_nothing():
    assert probes(SPACE.inputs).signs(SPACE, []).shape == (0, PAIRS)


def test_a_tree_of_another_pool_has_the_same_signs():
    """What is remembered is a matter of the process: a new set of probes says the same."""
    tree = Tree(("fc2.g", "abs", "sqrt", "hidden.a", "std", "identity", "*"))
    assert np.array_equal(Probes(SPACE.inputs).signs(SPACE, [tree]), probes(SPACE.inputs).signs(SPACE, [tree]))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_elements_near_the_ends_of_the_range_are_left_to_the_evaluator(factor):
    ours = Probes(SPACE.inputs)._joins
    tree = SPACE.sides([Tree(("fc2.w", "abs", "sqrt", "hidden.a", "std", "identity", "*"))])
    assert ours.scores(SPACE, *tree)[2].tolist() == [True]
    ours._value = ours._value * np.sqrt(factor)
    assert ours.scores(SPACE, *tree)[2].tolist() == [False]
    scalars = SPACE.sides([Tree(("fc2.w", "abs", "sum", "hidden.a", "std", "identity", "*"))])
    assert ours.scores(SPACE, *scalars)[2].tolist() == [True], "two Scalars have no elements"
