"""The expression space: its size, the method "grow", and each mutation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.ops import OP_SETS, OPS
from proxforge.search.spaces import Expression, ExpressionSpace

UNARY = sum(OPS[name].arity == 1 for name in OP_SETS["autoprox"])
BINARY = len(OP_SETS["autoprox"]) - UNARY


def depth(genes: list[str]) -> int:
    """Ops on the longest path of a tree in prefix order, which is used up."""
    gene = genes.pop(0)
    return 1 + max(depth(genes) for _ in range(OPS[gene].arity)) if gene in OPS else 0


def blind_size(leaves: int, unary: int, binary: int, levels: int) -> int:
    size = leaves
    for _ in range(levels):
        size = leaves + unary * size + binary * size**2
    return size


@pytest.mark.parametrize("levels", [0, 1, 2, 6])
def test_the_size_is_that_of_the_recursion(levels):
    assert ExpressionSpace(depth=levels).size() == blind_size(8, UNARY, BINARY, levels)
    numbers = ExpressionSpace(depth=levels, numbers=(1, 2), layers=("layer_mean", "layer_max"))
    assert numbers.size() == 2 * blind_size(10, UNARY, BINARY, levels)


def test_typed_sizes_that_can_be_counted_by_hand():
    """Depth 0: the leaves. Depth 1: also every unary of a leaf, and the pairs that fit: + - * of equal types, and @."""
    assert ExpressionSpace(depth=0).typed_size() == 8
    pairs = 3 * 4 * 2 * 2 + (2 * 2) * 4  # @: qkv fc2, fc1 fc2, fc2 fc1, hidden fc1
    assert ExpressionSpace(depth=1).typed_size() == 8 + 24 * 8 + pairs
    assert ExpressionSpace(("fc1.w", "fc2.w"), ("@",), depth=2).typed_size() == 2 + 2 * 4  # each of four types: two fit


@pytest.mark.parametrize("distribution", ["grow", "uniform"])
def test_the_depth_is_kept_and_used(distribution):
    space, rng = ExpressionSpace(depth=3, distribution=distribution), np.random.default_rng(0)
    for draw in (space.sample, space.blind):
        depths = Counter(depth(list(draw(rng).genes[1:])) for _ in range(300))
        assert max(depths) == 3
        assert depths[3] > (20 if distribution == "grow" else 280)


def test_grow_draws_symbols_uniformly_and_leaves_at_the_end():
    space, rng = ExpressionSpace(("qkv.w", "fc1.w"), ("abs", "mean", "+"), depth=2), np.random.default_rng(1)
    draws = 30_000
    drawn = Counter(space.blind(rng).genes[1:] for _ in range(draws))
    expected = {
        ("qkv.w",): 1 / 5,
        ("abs", "qkv.w"): 1 / 5 * 1 / 5,
        ("abs", "mean", "fc1.w"): 1 / 5 * 1 / 5 * 1 / 2,
        ("+", "qkv.w", "fc1.w"): (1 / 5) ** 3,
        ("+", "fc1.w", "abs", "qkv.w"): (1 / 5) ** 3 * 1 / 2,
        ("+", "+", "qkv.w", "qkv.w", "fc1.w"): (1 / 5) ** 3 * 1 / 4,
    }
    for genes, share in expected.items():
        assert abs(drawn[genes] - draws * share) < 5 * np.sqrt(draws * share), genes
    symbols = Counter(genes[0] for genes in drawn.elements())
    assert all(abs(n - draws / 5) < 5 * np.sqrt(draws / 5) for n in symbols.values())


def test_an_ill_typed_program_is_in_the_space_and_not_in_the_sample():
    space, rng = ExpressionSpace(("qkv.w", "fc1.w"), ("+",), depth=1), np.random.default_rng(2)
    wrong = Expression(("layer_mean", "+", "qkv.w", "fc1.w"))
    assert wrong in {space.blind(rng) for _ in range(200)}
    assert wrong not in {space.sample(rng) for _ in range(200)}


def test_each_mutation_is_seen():
    """Of a chain: point keeps its length, hoist shortens it, insert lengthens it, subtree does the rest."""
    space, rng = ExpressionSpace(depth=4), np.random.default_rng(3)
    parent = Expression(("layer_mean", "abs", "square", "qkv.w"))
    children = Counter(space.mutate(parent, rng, 0.0).genes[1:] for _ in range(4000))
    assert children[("square", "qkv.w")] > 100  # hoist of the root
    assert children[("abs", "qkv.w")] > 100  # hoist inside
    assert children[("abs", "square", "qkv.g")] > 100  # point, and subtree
    longer = [genes for genes in children if len(genes) == 4 and genes[-1] == "qkv.w"]
    assert any(genes[1:] == parent.genes[1:] for genes in longer)
    assert any(genes[0] == "abs" and genes[2:] == ("square", "qkv.w") for genes in longer)
    assert any(len(genes) > 4 for genes in children)


def test_a_point_mutation_redraws_every_gene_with_its_rate():
    space, rng = ExpressionSpace(depth=3), np.random.default_rng(4)
    parent = Expression(("layer_mean", "abs", "square", "relu", "qkv.w"))
    changed, count = np.zeros(4), 0
    for _ in range(8000):
        child = space.mutate(parent, rng, 0.75)
        if len(child.genes) == 5 and sum(a != b for a, b in zip(child.genes, parent.genes, strict=True)) > 2:
            changed += [a != b for a, b in zip(child.genes[1:], parent.genes[1:], strict=True)]
            count += 1
    assert count > 300
    assert (changed / count > 0.4).all()


def test_numbers_and_layer_reductions_mutate_too():
    space = ExpressionSpace(("qkv.w",), ("mean", "*"), 2, numbers=(2, 3), layers=("layer_mean", "layer_sum"))
    rng = np.random.default_rng(5)
    parent = Expression(("layer_mean", "*", "2.0", "qkv.w"))
    children = {space.mutate(parent, rng).genes for _ in range(2000)}
    assert ("layer_sum", "*", "2.0", "qkv.w") in children
    assert ("layer_mean", "*", "3.0", "qkv.w") in children


def test_crossover_exchanges_subtrees_of_one_type_within_the_depth():
    space, rng = ExpressionSpace(depth=3), np.random.default_rng(6)
    first = Expression(("layer_mean", "+", "abs", "qkv.w", "mean", "fc1.w"))
    second = Expression(("layer_mean", "relu", "softmax", "exp", "qkv.g"))
    children = {space.crossover(first, second, rng).genes[1:] for _ in range(300)}
    assert children == {
        ("+", *part, "mean", "fc1.w")
        for part in (
            ("abs", "qkv.g"),
            ("abs", "exp", "qkv.g"),
            ("qkv.g",),
            ("exp", "qkv.g"),
            ("softmax", "exp", "qkv.g"),
            ("abs", "softmax", "exp", "qkv.g"),
        )
        if len(part) <= 3
    }
    alone = Expression(("layer_mean", "hidden.a"))
    assert space.crossover(alone, first, rng) == alone


def test_a_space_of_one_program_says_that_it_cannot_mutate():
    space = ExpressionSpace(("qkv.w",), ("abs",), depth=0)
    with pytest.raises(ProxforgeError, match="single program"):
        space.mutate(space.sample(np.random.default_rng(0)), np.random.default_rng(0))
