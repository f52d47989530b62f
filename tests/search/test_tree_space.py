"""The tree space: its size, exact uniform sampling, and mutation that stays inside."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.expr import Pool
from proxforge.grammar.ops import OPS
from proxforge.grammar.parse import parse
from proxforge.grammar.types import Kind
from proxforge.search.spaces import Tree, TreeSpace, make_space
from proxforge.search.starting import genotypes_of

FULL = TreeSpace()
SMALL = TreeSpace(("qkv.w", "fc2.w"), ("abs", "mean", "std", "softmax", "+", "@"))
LONELY = TreeSpace(("qkv.w",), ("mean", "-"))
SHORT = TreeSpace(("qkv.w", "fc2.w"), ("abs", "mean", "std", "softmax", "+", "@"), unaries=1)
WIDE = TreeSpace(("qkv.w", "fc2.w"), ("abs", "mean", "-", "@"), unaries=1, branches=3)
LONG = TreeSpace(("qkv.w",), ("abs", "mean", "std", "+", "@"), unaries=3)


def compiles(space: TreeSpace, tree: Tree) -> bool:
    try:
        space.expression(tree, Pool())
    except ProxyError:
        return False
    return True


def everything(space: TreeSpace) -> list[Tree]:
    unary = [n for n in space.ops if OPS[n].arity == 1]
    binary = [n for n in space.ops if OPS[n].arity == 2]
    branch = (space.inputs, *(unary,) * space.unaries)
    joins = (binary,) * (space.branches - 1)
    return [Tree(genes) for genes in product(*branch * space.branches, *joins)]


def test_the_published_size():
    assert FULL.size() == (8 * 24**2) ** 2 * 4 == 84_934_656
    assert FULL.typed_size() == 59_785_216


def test_the_typed_size_is_the_number_of_programs_that_compile():
    trees = everything(SMALL)
    assert len(trees) == SMALL.size() == (2 * 4**2) ** 2 * 2
    typed = [t for t in trees if compiles(SMALL, t)]
    assert len(typed) == SMALL.typed_size() < SMALL.size()
    assert all(SMALL.well_typed(t) == compiles(SMALL, t) for t in trees)


@pytest.mark.parametrize("space", [SHORT, LONG, WIDE])
def test_other_numbers_of_unaries_and_branches(space):
    trees = everything(space)
    joins = space.branches - 1
    branches = len(space.inputs) * len(space.unary) ** space.unaries
    assert len(trees) == space.size() == branches ** (joins + 1) * 2**joins
    typed = [t for t in trees if compiles(space, t)]
    assert {space.unrank(i) for i in range(space.typed_size())} == set(typed) < set(trees)
    assert all(space.well_typed(t) == (t in set(typed)) for t in trees[:200])
    rng = np.random.default_rng(8)
    for _ in range(200):
        first, second = space.sample(rng), space.sample(rng)
        changed, child = space.mutate(first, rng), space.crossover(first, second, rng)
        assert changed != first
        for tree in (changed, child, space.decode(space.encode(first))):
            assert [len(branch) for branch in tree.branches] == [1 + space.unaries] * (joins + 1)
            assert len(tree.binaries) == joins
            assert tree.genes == (*(gene for branch in tree.branches for gene in branch), *tree.binaries)
            assert compiles(space, tree)
        assert {*child.branches} <= {*first.branches, *second.branches}


def test_a_third_branch_is_joined_to_the_join_of_the_others():
    tree = Tree(("qkv.w", "abs", "fc2.w", "mean", "qkv.w", "mean", "-", "@"))
    with pytest.raises(ProxyError):
        WIDE.expression(tree, Pool())
    tree = Tree((*tree.genes[:6], "-", "-"))
    pool = canonical_pool()
    assert WIDE.expression(tree, pool) is parse("abs(qkv.w) - mean(fc2.w) - mean(qkv.w)", pool)
    assert genotypes_of(WIDE, ["abs(qkv.w) - mean(fc2.w) - mean(qkv.w)"]) == (tree,)
    with pytest.raises(ProxforgeError, match="does not join three branches"):
        genotypes_of(WIDE, ["abs(qkv.w) - mean(fc2.w)"])


def test_the_numbers_of_unaries_and_branches_are_described_where_they_are_not_those_of_auto_prox():
    assert FULL.describe() == {"name": "tree", "inputs": list(FULL.inputs), "ops": list(FULL.ops)}
    assert make_space("tree", {"unaries": 3}).describe() == {**FULL.describe(), "unaries": 3}
    assert WIDE.describe()["branches"] == 3


@pytest.mark.parametrize("unaries", [0, 4])
def test_other_numbers_of_unaries_are_refused(unaries):
    with pytest.raises(ProxforgeError, match=f"has 1 to 3 unaries, not {unaries}"):
        TreeSpace(unaries=unaries)


@pytest.mark.parametrize("branches", [1, 4])
def test_other_numbers_of_branches_are_refused(branches):
    with pytest.raises(ProxforgeError, match=f"has 2 or 3 branches, not {branches}"):
        TreeSpace(branches=branches)


def test_a_formula_is_written_with_as_many_unaries_as_the_space_has():
    formula = "mean(exp(abs(qkv.w))) + std(fc1.w)"
    (tree,) = genotypes_of(TreeSpace(unaries=3), [formula])
    assert tree == Tree(("qkv.w", "abs", "exp", "mean", "fc1.w", "std", "identity", "identity", "+"))
    with pytest.raises(ProxforgeError, match="at most 2 unary ops"):
        genotypes_of(FULL, [formula])


def test_sampling_is_uniform():
    typed = [t for t in everything(SMALL) if compiles(SMALL, t)]
    rng = np.random.default_rng(0)
    each = 30
    drawn = Counter(SMALL.sample(rng) for _ in range(each * len(typed)))
    assert set(drawn) <= set(typed)
    chi_square = sum((drawn[t] - each) ** 2 / each for t in typed)
    free = len(typed) - 1
    assert abs(chi_square - free) < 5 * np.sqrt(2 * free)


def test_every_sample_compiles():
    rng, pool = np.random.default_rng(1), canonical_pool()
    for _ in range(10_000):
        assert FULL.expression(FULL.sample(rng), pool).type.kind is Kind.SCORE


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([FULL, SMALL]))
def test_a_mutation_differs_and_compiles(seed, rate, space):
    rng = np.random.default_rng(seed)
    parent = space.sample(rng)
    child = space.mutate(parent, rng, rate)
    assert child != parent
    assert compiles(space, child)
    if rate == 0.0:
        assert sum(a != b for a, b in zip(parent.genes, child.genes, strict=True)) == 1


def test_mutation_redraws_each_gene_with_its_rate():
    rng = np.random.default_rng(2)
    parent = Tree(("qkv.w", "abs", "sigmoid", "fc1.w", "abs", "frobenius", "+"))
    changed = np.zeros(7)
    for _ in range(2000):
        child = FULL.mutate(parent, rng, 0.5)
        changed += [a != b for a, b in zip(parent.genes, child.genes, strict=True)]
    share = changed / 2000
    assert share[1] == pytest.approx(0.5 * 23 / 24, abs=0.06)
    assert share[0] == pytest.approx(0.5 * 7 / 8, abs=0.08)
    assert ((share > 0.2) & (share < 0.6)).all()


def test_mutation_reaches_every_program():
    rng, seen = np.random.default_rng(3), set()
    space = TreeSpace(("qkv.w", "fc2.w"), ("abs", "mean", "+", "@"))
    tree = space.sample(rng)
    for _ in range(4000):
        tree = space.mutate(tree, rng)
        seen.add(tree)
    assert len(seen) == space.typed_size()


def test_a_space_of_one_program_says_that_it_cannot_mutate():
    rng = np.random.default_rng(4)
    assert LONELY.typed_size() == 1
    with pytest.raises(ProxforgeError, match="single program"):
        LONELY.mutate(LONELY.sample(rng), rng)


def test_where_no_single_change_is_typed_another_program_is_drawn():
    """Each branch must be std once and abs once, and '@' joins the Scalars only: two genes must change."""
    space = TreeSpace(("hidden.a",), ("std", "abs", "@"))
    assert space.typed_size() == 4
    rng = np.random.default_rng(5)
    parent = Tree(("hidden.a", "std", "abs", "hidden.a", "abs", "std", "@"))
    drawn = {space.mutate(parent, rng, 0.0) for _ in range(100)}
    assert len(drawn) == 3
    assert parent not in drawn
    assert all(space.well_typed(child) for child in drawn)


def test_with_rate_0_every_change_of_a_single_gene_is_as_likely():
    space = TreeSpace(("qkv.w", "fc1.w"), ("abs", "exp", "sum", "std", "+", "@"))
    rng = np.random.default_rng(7)
    parent = Tree(("qkv.w", "abs", "sum", "fc1.w", "exp", "sum", "+"))
    near = {
        Tree((*parent.genes[:i], gene, *parent.genes[i + 1 :]))
        for i in range(7)
        for gene in (*space.inputs, *space.ops)
        if gene != parent.genes[i]
    }
    near = {
        tree for tree in near if set(tree.genes[:6:3]) <= set(space.inputs) and set(tree.binaries) <= set(space.binary)
    }
    near = {t for t in near if not set(t.genes[1:3] + t.genes[4:6]) & {*space.inputs, *space.binary}}
    near = {tree for tree in near if space.well_typed(tree)}
    drawn = Counter(space.mutate(parent, rng, 0.0) for _ in range(400 * len(near)))
    assert drawn.keys() == near
    assert all(320 < count < 480 for count in drawn.values()), drawn  # four standard deviations


def test_expression_and_text():
    tree = Tree(("qkv.w", "identity", "identity", "fc1.w", "abs", "mean", "-"))
    assert FULL.text(tree) == "identity(identity(qkv.w)) - mean(abs(fc1.w))"
    pool = canonical_pool()
    assert FULL.expression(tree, pool) is parse("qkv.w - mean(abs(fc1.w))", pool)


def test_genotypes_are_names():
    rng = np.random.default_rng(6)
    for _ in range(50):
        tree = FULL.sample(rng)
        assert FULL.decode(FULL.encode(tree)) == tree
        assert all(isinstance(gene, str) for gene in FULL.encode(tree))


@pytest.mark.parametrize("value", [None, [], ["qkv.w"] * 7, ["qkv.w", "abs", "abs", "fc1.w", "abs", "abs", "cosh"]])
def test_what_is_no_genotype_is_refused(value):
    with pytest.raises(ProxforgeError, match="no genotype"):
        FULL.decode(value)


@pytest.mark.parametrize(
    ("inputs", "ops", "words"),
    [
        (("qkv.x",), "autoprox", "qkv.x"),
        (("qkv.w",), "autoprx", "did you mean 'autoprox'"),
        (("qkv.w",), ("sigmoyd", "+"), "did you mean 'sigmoid'"),
        (("qkv.w",), ("layer_mean", "+"), "layer_mean"),
        (("qkv.w", "F1"), "autoprox", "twice"),
        (("qkv.w",), ("abs",), "at least one"),
        ((), "autoprox", "at least one"),
        (("qkv.w",), ("abs", "@"), "no program"),
    ],
)
def test_a_space_that_cannot_be_is_refused(inputs, ops, words):
    with pytest.raises(ProxforgeError, match=words):
        TreeSpace(inputs, ops)
