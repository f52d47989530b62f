"""What every space promises, for all of them with usual and odd options: types, distributions, sizes, serialisation."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.expr import Pool
from proxforge.grammar.parse import parse
from proxforge.grammar.types import Kind
from proxforge.search.spaces import SPACES, ExpressionSpace, MemorySpace, TreeSpace, make_space, options_of
from proxforge.search.spaces.base import below

TWO = ("qkv.w", "fc2.w")
SMALL = {
    "tree": TreeSpace(TWO, ("abs", "mean", "std", "+", "@")),
    "expression": ExpressionSpace(TWO, ("abs", "mean", "std", "@"), depth=2, distribution="uniform"),
    "expression, grow": ExpressionSpace(("qkv.w", "fc1.w"), ("mean", "std", "-"), depth=2, numbers=(2.0,)),
    "expression, layers": ExpressionSpace(TWO, ("mean", "std", "+"), 1, (0.5,), ("layer_sum", "layer_mean")),
    "memory": MemorySpace(("qkv.w",), ("mean", "std", "@"), length=2, registers=2),
    "memory, numbers": MemorySpace(("qkv.w",), ("mean", "+"), length=2, registers=1, numbers=(2.0,)),
}
"""Spaces of which every program can be looked at."""
ODD = {
    "only @": ExpressionSpace(("fc1.w", "fc2.w"), ("@",), depth=3),
    "only reductions": ExpressionSpace(TWO, ("mean", "frobenius"), depth=4),
    "one input": ExpressionSpace(("hidden.a",), depth=5),
    "depth 1": ExpressionSpace(depth=1),
    "extended": ExpressionSpace(("proj.w", "qkv.w"), ("gram", "dot", "/", "tanh", "nuclear_norm", "@"), depth=4),
    "memory, only @": MemorySpace(("fc1.w", "fc2.w"), ("@",)),
    "memory, only reductions": MemorySpace(TWO, ("mean", "frobenius"), length=5, registers=1),
    "memory, one input": MemorySpace(("hidden.a",), registers=2),
    "memory, one instruction": MemorySpace(length=1),
    "memory, extended": MemorySpace(("proj.w", "qkv.w"), ("gram", "dot", "/", "std", "-"), length=6),
    "tree, one input": TreeSpace(("hidden.a",)),
    "tree, extended": TreeSpace(("proj.w", "qkv.w"), ("gram", "tanh", "nuclear_norm", "dot", "/", "@")),
}
USUAL = {
    "tree, full": TreeSpace(),
    "expression, full": ExpressionSpace(),
    "expression, uniform": ExpressionSpace(depth=4, distribution="uniform"),
    "expression, all options": ExpressionSpace(depth=4, numbers=(2, -0.5), layers=("layer_max", "layer_std")),
    "memory, full": MemorySpace(),
    "memory, numbers": MemorySpace(length=5, registers=4, numbers=(2, -0.5)),
}
ALL = {**SMALL, **ODD, **USUAL}
RATES = st.sampled_from([0.0, 0.1, 0.5, 1.0])


def type_checks(space, genotype) -> bool:
    try:
        return space.expression(genotype, Pool()).type.kind is Kind.SCORE
    except ProxyError as error:
        assert error.kind in {"type", "shape", "nonfinite"}, error
        return False


def inside(space, genotype) -> bool:
    """Whether it keeps to the inputs, ops, depth and length of the space: what ``decode`` lets through."""
    return space.decode(json.loads(json.dumps(space.encode(genotype)))) == genotype


def all_programs(space) -> list:
    return [space.unrank(i) for i in range(space.typed_size())]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), rate=RATES)
def test_what_is_drawn_type_checks_and_so_do_its_children(name, seed, rate):
    space, rng = ALL[name], np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    child = space.mutate(first, rng, rate)
    assert child != first
    mixed = space.crossover(first, child, rng), space.crossover(first, second, rng)
    for genotype in (first, second, child, *mixed):
        assert type_checks(space, genotype)
        assert inside(space, genotype)
        assert hash(genotype) == hash(space.decode(space.encode(genotype)))


@pytest.mark.parametrize("name", ALL)
def test_the_same_generator_draws_the_same(name):
    def drawn():
        space, rng = ALL[name], np.random.default_rng(7)
        a, b = space.sample(rng), space.sample(rng)
        return a, b, space.blind(rng), space.mutate(a, rng), space.crossover(a, b, rng)

    assert drawn() == drawn()


@pytest.mark.parametrize("name", SMALL)
def test_every_program_has_one_number(name):
    space = SMALL[name]
    programs = all_programs(space)
    assert len(set(programs)) == len(programs) > 1
    assert all(type_checks(space, p) for p in programs)
    assert all(inside(space, p) for p in programs)


@pytest.mark.parametrize("name", SMALL)
def test_blind_reaches_every_genotype_and_the_typed_ones_are_those_that_are_numbered(name):
    space, rng = SMALL[name], np.random.default_rng(1)
    seen = set()
    for _ in range(200_000):
        seen.add(space.blind(rng))
        if len(seen) == space.size():
            break
    assert len(seen) == space.size()
    assert all(inside(space, g) for g in seen)
    assert {g for g in seen if type_checks(space, g)} == set(all_programs(space))


@pytest.mark.parametrize("name", SMALL)
def test_a_sample_is_distributed_as_what_blind_draws_and_type_checks(name):
    """Two-sample chi-square, cells of fewer than ten expected draws put together."""
    space, rng = SMALL[name], np.random.default_rng(2)
    typed = set(all_programs(space))
    blind = Counter(g for g in (space.blind(rng) for _ in range(60_000)) if g in typed)
    count = blind.total()
    sample = Counter(space.sample(rng) for _ in range(count))
    assert set(sample) <= typed
    cells: list[list[int]] = [[0, 0]]
    for g in sorted(typed, key=lambda g: (blind[g] + sample[g], str(g))):
        if sum(cells[-1]) >= 20:
            cells.append([0, 0])
        cells[-1][0] += blind[g]
        cells[-1][1] += sample[g]
    chi_square = sum((a - b) ** 2 / (a + b) for a, b in cells)
    free = len(cells) - 1
    assert free > 3
    assert abs(chi_square - free) < 5 * np.sqrt(2 * free)


@pytest.mark.parametrize("bound", [1, 5, 2**63, 2**63 + 1, 3 * 2**70, 10**40])
def test_whole_numbers_of_any_size_are_uniform(bound):
    rng = np.random.default_rng(8)
    drawn = [below(rng, bound) for _ in range(4000)]
    assert 0 <= min(drawn) <= max(drawn) < bound
    cells = min(bound, 8)
    counts = Counter(number * cells // bound for number in drawn)
    each = len(drawn) / cells
    assert len(counts) == cells
    assert all(abs(n - each) < 5 * np.sqrt(each) for n in counts.values())


UNIFORM = ["tree", "expression"]


@pytest.mark.parametrize("name", UNIFORM)
def test_where_uniform_is_claimed_it_is(name):
    space, rng = SMALL[name], np.random.default_rng(3)
    for draw, programs in ((space.sample, space.typed_size()), (space.blind, space.size())):
        each = 30
        drawn = Counter(draw(rng) for _ in range(each * programs))
        chi_square = sum((n - each) ** 2 / each for n in drawn.values()) + each * (programs - len(drawn))
        assert abs(chi_square - programs) < 5 * np.sqrt(2 * programs)


@pytest.mark.parametrize("name", SMALL)
def test_mutation_reaches_every_program(name):
    space, rng = SMALL[name], np.random.default_rng(4)
    seen, genotype = set(), space.sample(rng)
    for _ in range(1000 * space.typed_size()):
        genotype = space.mutate(genotype, rng)
        seen.add(genotype)
        if len(seen) == space.typed_size():
            break
    assert len(seen) == space.typed_size()


@pytest.mark.parametrize("name", [*ODD, *USUAL])
def test_the_text_is_the_program(name):
    space, rng, pool = ALL[name], np.random.default_rng(5), canonical_pool()
    compared = 0
    for _ in range(100):
        genotype = space.sample(rng)
        node = space.expression(genotype, pool)
        if node.facts.value is None:
            try:
                assert parse(space.text(genotype), pool) is node
            except ProxyError as error:
                assert error.kind in {"constant", "domain", "nonfinite"}, error
            else:
                compared += 1
    assert compared > 20


@pytest.mark.parametrize("name", ALL)
def test_a_space_is_made_again_from_what_it_says_of_itself(name):
    space = ALL[name]
    options = json.loads(json.dumps(space.describe()))
    again = make_space(options.pop("name"), options | {"numbers": [float(n) for n in options.get("numbers", [])]}
                       if "numbers" in options else options)  # fmt: skip
    assert again.describe() == space.describe()
    assert again.sample(np.random.default_rng(6)) == space.sample(np.random.default_rng(6))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("value", [None, [], {}, "qkv.w", [1, 2], ["qkv.w"], [["r1", "abs", "qkv.w", "qkv.w"]], [[]]])
def test_what_is_no_genotype_is_refused(name, value):
    with pytest.raises(ProxforgeError, match="no genotype"):
        make_space(name).decode(value)


@pytest.mark.parametrize("name", SPACES)
def test_a_genotype_of_another_space_is_refused(name):
    rng = np.random.default_rng(0)
    other = make_space(next(n for n in SPACES if n != name)).sample(rng)
    with pytest.raises(TypeError, match=f"the {name} space handles"):
        make_space(name).mutate(other, rng)


def repeatedly(function, *args) -> None:
    for _ in range(100):
        function(*args)


def test_a_mutation_of_what_does_not_type_check_is_refused():
    rng = np.random.default_rng(0)
    for space, wrong in (
        (ExpressionSpace(), ["layer_mean", "+", "qkv.w", "fc1.w"]),
        (MemorySpace(), [["r1", "+", "qkv.w", "fc1.w"], ["r1", "abs", "r1"]]),
    ):
        with pytest.raises(ProxforgeError, match="type-check"):
            repeatedly(space.mutate, space.decode(wrong), rng)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tre", {}, "did you mean 'tree'"),
        ("tree", {"depth": 3}, "no option 'depth'; it has inputs, ops"),
        ("expression", {"dept": 3}, "did you mean 'depth'"),
        ("expression", {"depth": 13}, "from 0 to 12"),
        ("expression", {"depth": 2.0}, "whole number"),
        ("expression", {"distribution": "unifrom"}, "uniform or grow"),
        ("expression", {"layers": ["layer_men"]}, "did you mean 'layer_mean'"),
        ("expression", {"layers": ["mean"]}, "no layer reduction is called 'mean'"),
        ("expression", {"layers": []}, "at least one"),
        ("expression", {"inputs": []}, "at least one"),
        ("expression", {"ops": "autoprx"}, "did you mean 'autoprox'"),
        ("expression", {"numbers": [2, 2.0]}, "twice"),
        ("expression", {"numbers": [1e39]}, "float32's range"),
        ("memory", {"length": 0}, "from 1 to 256"),
        ("memory", {"registers": 65}, "from 1 to 64"),
        ("memory", {"registers": 30}, "choose fewer registers"),
        ("memory", {"ops": ["@"], "inputs": ["qkv.w"]}, "no program"),
        ("memory", {"ops": []}, "at least one"),
        ("memory", {"inputs": ["F1", "qkv.w"]}, "twice"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_refused(name, options, words):
    with pytest.raises(ProxforgeError, match=words):
        make_space(name, options)


def test_options_have_defaults():
    assert options_of(ExpressionSpace)["depth"] == 6
    assert set(options_of(MemorySpace)) == {"inputs", "ops", "length", "registers", "numbers"}
