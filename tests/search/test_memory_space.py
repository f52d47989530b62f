"""The memory space: its size, its text, and each mutation."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.parse import parse
from proxforge.search.spaces import Memory, MemorySpace

SPACE = MemorySpace(length=4, registers=3)


def test_the_size_is_that_of_all_instructions():
    one = 3 * (24 * 11 + 4 * 11**2)
    assert SPACE.size() == sum(one**n for n in range(1, 5))
    assert MemorySpace(("qkv.w",), ("abs", "+"), length=2, registers=2, numbers=(1, 2)).size() == 60 + 60**2


def test_the_typed_size_of_one_instruction_is_counted_by_hand():
    """r1 holds qkv.w: two names for one value."""
    space = MemorySpace(("qkv.w", "fc1.w"), ("std", "+", "@"), length=1, registers=1)
    assert space.typed_size() == 3 + (2 * 2 + 1)
    names = ("qkv.w", "fc1.w", "r1")
    typed = {("r1", "std", a) for a in names}
    typed |= {("r1", "+", a, b) for a, b in product(names, repeat=2) if (a == "fc1.w") == (b == "fc1.w")}
    assert {space.unrank(i).code for i in range(8)} == {(i,) for i in typed}


def test_the_text_is_made_of_assignments():
    code = [["r2", "abs", "r1"], ["r1", "mean", "fc1.g"], ["r3", "-", "r2", "r1"], ["r2", "*", "r3", "fc2.w"]]
    genotype = SPACE.decode(code[:3])
    assert SPACE.text(genotype) == "r2 = abs(qkv.w); r1 = mean(fc1.g); r3 = r2 - r1; r3"
    pool = canonical_pool()
    assert SPACE.expression(genotype, pool) is parse("abs(qkv.w) - mean(fc1.g)", pool)
    numbers = MemorySpace(("qkv.w",), ("-", "dot"), numbers=(-2,))
    assert numbers.text(numbers.decode([["r1", "-", "r1", "-2.0"]])) == "r1 = qkv.w - (-2.0); r1"
    assert numbers.text(numbers.decode([["r1", "dot", "r1", "qkv.w"]])) == "r1 = dot(qkv.w, qkv.w); r1"


def test_registers_hold_the_inputs_at_first():
    space = MemorySpace(("qkv.w", "fc1.w"), ("mean", "+"), registers=3)
    pool = canonical_pool()
    for register, name in (("r1", "qkv.w"), ("r2", "fc1.w"), ("r3", "qkv.w")):
        assert space.expression(space.decode([["r1", "mean", register]]), pool) is parse(f"mean({name})", pool)


def test_blind_draws_as_it_says():
    rng = np.random.default_rng(0)
    draws = 20_000
    drawn = [SPACE.blind(rng).code for _ in range(draws)]

    def near(count, share, of=draws):
        return abs(count - of * share) < 5 * np.sqrt(of * share)

    assert all(near(n, 1 / 4) for n in Counter(map(len, drawn)).values())
    first = [code[0] for code in drawn]
    assert all(near(n, 1 / 3) for n in Counter(i[0] for i in first).values())
    ops = Counter(i[1] for i in first)
    assert len(ops) == 28
    assert all(near(n, 1 / 28) for n in ops.values())
    sources = Counter(i[2] for i in first)
    assert all(near(sources[r], 3 / 4 / 3) for r in SPACE.registers)
    assert all(near(sources[name], 1 / 4 / 8) for name in SPACE.inputs)


def test_each_mutation_is_seen():
    rng = np.random.default_rng(1)
    parent = SPACE.decode([["r1", "abs", "qkv.g"], ["r2", "mean", "r1"], ["r3", "square", "fc1.w"]])
    children = [SPACE.mutate(parent, rng, 0.0).code for _ in range(3000)]
    lengths = Counter(map(len, children))
    assert all(lengths[n] > 200 for n in (2, 3, 4))
    inserted = [c for c in children if len(c) == 4 and sum(i in parent.code for i in c) == 3]
    assert {next(k for k, i in enumerate(c) if i not in parent.code) for c in inserted} == {0, 1, 2, 3}
    removed = {c for c in children if len(c) == 2 and all(i in parent.code for i in c)}
    assert len(removed) == 3
    modified = [c for c in children if len(c) == 3 and sum(a != b for a, b in zip(c, parent.code, strict=True)) == 1]
    assert {next(k for k, i in enumerate(c) if i != parent.code[k]) for c in modified} == {0, 1, 2}
    new = [c for c in children if not set(c) & set(parent.code)]
    assert len(new) > 400


def test_a_mutation_with_rate_0_modifies_one_name():
    rng = np.random.default_rng(2)
    space = MemorySpace(("qkv.w", "qkv.g"), ("abs", "exp"), length=4, registers=2)
    parent = space.decode([["r1", "abs", "qkv.g"], ["r2", "abs", "r1"], ["r1", "exp", "r2"]])
    codes = (space.mutate(parent, rng, 0.0).code for _ in range(2000))
    same_ops = [code for code in codes if [i[1] for i in code] == ["abs", "abs", "exp"]]
    pairs = [zip(sum(code, ()), sum(parent.code, ()), strict=True) for code in same_ops]
    names = Counter(sum(a != b for a, b in pair) for pair in pairs)
    assert names[1] > 0.8 * len(same_ops)


def test_what_does_not_fit_any_more_gets_other_operands():
    space, rng = MemorySpace(("fc1.w", "fc2.w"), ("mean", "@"), length=2, registers=1), np.random.default_rng(3)
    first = space.decode([["r1", "mean", "fc2.w"], ["r1", "mean", "r1"]])
    second = space.decode([["r1", "@", "fc2.w", "fc1.w"], ["r1", "@", "r1", "fc2.w"]])
    after_mean = Counter(
        code[1][2:]
        for code in (space.crossover(first, second, rng).code for _ in range(4000))
        if code[0] == first.code[0] and code[1][1] == "@"
    )
    kept = after_mean.pop(("fc2.w", "fc1.w"))  # of its first instruction; in the second one r1 is a number now
    assert set(after_mean) == {("r1", "r1"), ("fc1.w", "fc2.w")}
    assert kept > after_mean["r1", "r1"] > 10 * after_mean["fc1.w", "fc2.w"]


def test_what_no_operands_fit_goes():
    space, rng = MemorySpace(("qkv.w",), ("mean", "abs", "@"), length=3, registers=2), np.random.default_rng(4)
    parent = space.decode([["r1", "mean", "qkv.w"], ["r2", "abs", "qkv.w"], ["r2", "@", "r1", "r1"]])
    children = {space.mutate(parent, rng, 0.0).code for _ in range(2000)}
    assert parent.code[1:2] in children  # without the mean there is no number to multiply
    assert () not in children


def test_crossover_takes_instructions_of_both_within_the_length():
    rng = np.random.default_rng(4)
    first = SPACE.decode(
        [["r1", "abs", "qkv.g"], ["r2", "exp", "qkv.w"], ["r3", "square", "fc1.w"], ["r1", "relu", "fc1.g"]]
    )
    second = SPACE.decode([["r1", "sign", "fc2.g"], ["r2", "sqrt", "fc2.w"], ["r3", "log", "hidden.a"]])
    children = {SPACE.crossover(first, second, rng).code for _ in range(2000)}
    assert max(map(len, children)) == 4
    for code in children:
        own = [i for i in code if i in first.code]
        other = [i for i in code if i in second.code]
        assert len(own) + len(other) == len(code)
        assert other
        assert own == [i for i in first.code if i in own]
        start = second.code.index(other[0])
        assert tuple(other) == second.code[start : start + len(other)]
    assert any(0 < len([i for i in code if i in first.code]) < 4 for code in children)
    assert second.code in children


def test_the_longest_programs_and_many_registers_are_within_reach():
    space = MemorySpace(("qkv.w",), ("abs", "mean", "+"), length=200, registers=8)
    code = space.sample(np.random.default_rng(5)).code
    assert 1 <= len(code) <= 200
    assert len(str(space.typed_size())) > 400


def test_a_space_of_one_program_says_that_it_cannot_mutate():
    space = MemorySpace(("qkv.w",), ("abs",), length=1, registers=1)
    assert space.typed_size() == 2
    only = Memory((("r1", "abs", "r1"),))
    assert space.mutate(only, np.random.default_rng(0)).code == (("r1", "abs", "qkv.w"),)
    with pytest.raises(ProxforgeError, match="no genotype"):
        space.decode([["r1", "abs", "r2"]])
