"""What a search is given: programs that compile, and a count of those that did not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import hash_problem

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.expr import Pool
from proxforge.grammar.ops import OPS
from proxforge.search.loop import run_search
from proxforge.search.spaces import ExpressionSpace, MemorySpace, TreeSpace, ValidSpace, compiles, refusals
from proxforge.search.strategies import STRATEGIES, make_strategy

SPACES = {"tree": TreeSpace(), "expression": ExpressionSpace(depth=4), "memory": MemorySpace(length=5)}
HALF = TreeSpace(("qkv.w", "fc1.w"), ("mean", "abs", "log_softmax", "-"))
"""Many of its programs are constant: log_softmax(mean(x)) is 0."""

OPTIONS = {"steps": 6, "population": 8}


def even(roots):
    """A check that has nothing to do with the language: every second program, by its hash."""
    return [ProxyError("domain", "odd") if r.digest[0] % 2 else None for r in roots]


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_drawn_compiles(name, seed):
    rng, pool = np.random.default_rng(seed), canonical_pool()
    space = ValidSpace(SPACES[name], pool)
    first, second = space.samples(rng, 2)
    for genotype in (first, second, space.mutate(first, rng), space.crossover(first, second, rng), space.sample(rng)):
        assert compiles(space.expression(genotype, pool))
        assert space.compiled(genotype) == (SPACES[name].expression(genotype, pool), None)


def test_the_distribution_is_that_of_the_space_given_that_it_compiles():
    rng = np.random.default_rng(0)
    space = ValidSpace(HALF, canonical_pool())
    good = [g for g in map(HALF.unrank, range(HALF.typed_size())) if compiles(HALF.expression(g, Pool()))]
    assert 0 < len(good) < HALF.typed_size()
    for draw in (lambda n: space.samples(rng, n), lambda n: [space.sample(rng) for _ in range(n)]):
        each = 20
        drawn = Counter(draw(each * len(good)))
        assert set(drawn) <= set(good)
        chi_square = sum((drawn[g] - each) ** 2 / each for g in good)
        assert abs(chi_square - len(good)) < 5 * np.sqrt(2 * len(good))


def test_any_check_will_do():
    rng = np.random.default_rng(1)
    space = ValidSpace(HALF, canonical_pool(), even)
    for _ in range(200):
        genotype = space.mutate(space.sample(rng), rng)
        assert space.compiled(genotype)[0].digest[0] % 2 == 0
    refused = space.refused()
    assert len(refused) > 50
    assert all(node.digest[0] % 2 and error.kind == "domain" for node, error in refused)
    assert space.refused() == []


def test_what_an_expression_raises_is_a_rejection():
    class Refusing(TreeSpace):
        def expression(self, genotype, pool):
            if genotype.binary == "-":
                raise ProxyError("domain", "no differences")
            return super().expression(genotype, pool)

    space = ValidSpace(Refusing(), canonical_pool())
    rng = np.random.default_rng(2)
    assert "-" not in {g.binary for g in space.samples(rng, 200)}
    kinds = Counter(error.kind for node, error in space.refused() if node is None)
    assert kinds["domain"] > 20


def test_a_space_without_a_program_that_compiles_says_so():
    space = ValidSpace(TreeSpace(("qkv.w",), ("mean", "log_softmax", "@")), canonical_pool(), lambda roots: [
        ProxyError("constant", "") for _ in roots])  # fmt: skip
    with pytest.raises(ProxforgeError, match="10,000 programs of the space 'tree' in a row"):
        space.samples(np.random.default_rng(3), 7)


def test_a_mutation_that_never_compiles_is_replaced_by_a_new_program():
    """A check that lets a single program through: no other mutation of it will do, so it is drawn again."""
    only = HALF.unrank(100)
    pool = canonical_pool()
    root = HALF.expression(only, pool)
    space = ValidSpace(HALF, pool, lambda roots: [None if r is root else ProxyError("domain", "") for r in roots])
    rng = np.random.default_rng(4)
    for child in (space.mutate(only, rng), space.crossover(only, only, rng)):
        assert space.compiled(child)[0] is root


def test_refusals():
    pool = canonical_pool()
    constant = pool.score(pool.apply(OPS["-"], pool.statistic("qkv.w"), pool.statistic("qkv.w")))
    fine = pool.score(pool.statistic("qkv.w"))
    assert [None if e is None else e.kind for e in refusals([constant, fine])] == ["constant", None]
    assert compiles(fine)
    assert not compiles(constant)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("space", [*SPACES.values(), HALF], ids=[*SPACES, "half"])
def test_a_strategy_sees_only_programs_that_compile(name, space):
    told = []

    class Watched(STRATEGIES[name]):
        def tell(self, state, evaluated):
            told.extend(evaluated)
            return super().tell(state, evaluated)

    strategy = Watched(space, make_strategy(name, space, {**OPTIONS, "population": 30}).config)
    results = [run_search(hash_problem(), strategy, seed=seed) for seed in range(5, 8)]
    pool = canonical_pool()
    assert all(compiles(space.expression(e.genotype, pool)) for e in told)
    assert sum(r.asked for r in results) == len(told) + sum(r.rejected for r in results)
    assert sum(r.rejected for r in results) > 0 or space is not HALF
    assert all(r.params["space"] == space.describe() for r in results)


def test_what_is_drawn_again_is_not_made_again():
    made = []

    class Counting(TreeSpace):
        def expression(self, genotype, pool):
            made.append(genotype)
            return super().expression(genotype, pool)

    answers = iter([lambda roots: [None] * len(roots), even])
    check = next(answers)
    space = ValidSpace(Counting(), canonical_pool(), lambda roots: check(roots))
    first = space.samples(np.random.default_rng(3), 40)
    check = next(answers)
    space.again()
    second = space.samples(np.random.default_rng(3), 40)
    assert [g for g in first if g in second] == [g for g in first if space.compiled(g)[1] is None]
    assert len(made) == len(set(made)), "a program was made twice"
    assert any(error is not None for _, error in space.refused())
    before = len(made)
    space.samples(np.random.default_rng(3), 40)
    assert len(made) > before, "after a step nothing is kept"
