"""Exact numbers of programs, against every genotype compiled one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from proxforge.bench import limits, tree_count
from proxforge.bench.space_count import SpaceCount, count_programs, refusal
from proxforge.grammar.canonical import CanonicalPool, canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.expr import Pool, topological
from proxforge.grammar.ops import OPS
from proxforge.grammar.types import Kind
from proxforge.search.spaces import ExpressionSpace, MemorySpace, Tree, TreeSpace, refusals

REDUCED = [
    (("qkv.w", "fc1.w", "fc2.w"), ("abs", "neg", "mean", "normalize", "-", "+", "@")),
    (("qkv.w", "qkv.g", "fc2.w"), ("log_softmax", "frobenius", "neg", "-", "*", "@")),
    (("fc1.w", "fc2.g", "proj.w", "hidden.a"), ("relu", "sum", "neg", "@", "-")),
    (("qkv.w", "fc1.w", "fc1.g"), ("min_max", "min", "square", "*", "-")),
    (("qkv.w",), ("abs", "mean", "neg", "std", "-", "+", "@")),
    (("fc1.w", "fc1.g"), ("gram", "square", "mean", "@", "-", "dot", "/")),
    (("fc1.w", "qkv.w", "fc2.w"), ("nuclear_norm", "leaky_relu", "slogdet", "@", "+")),
    (("qkv.w", "fc1.g"), ("log_softmax", "neg", "sum", "-", "*"), 3),
    (("fc1.w", "fc2.g", "hidden.a"), ("abs", "neg", "softmax", "max", "exp", "-", "@"), 1),
    (("fc1.w", "fc1.g"), ("abs", "neg", "mean", "-", "*"), 1, 3),
]


def by_hand(space: TreeSpace, check=refusals, make=canonical_pool) -> tuple[int, int]:
    """(valid, distinct) of all genotypes, well-typed or not, in one pool."""
    pool, valid, hashes = make(), 0, set()
    unary = [n for n in space.ops if OPS[n].arity == 1]
    binary = [n for n in space.ops if OPS[n].arity == 2]
    branch = (space.inputs, *(unary,) * space.unaries)
    for genes in product(*branch * space.branches, *(binary,) * (space.branches - 1)):
        try:
            node = space.expression(Tree(genes), pool)
        except ProxyError:
            continue
        if check([node])[0] is None:
            valid += 1
            hashes.add(node.digest)
    return valid, len(hashes)


@pytest.mark.parametrize("given", REDUCED)
def test_trees_are_as_many_as_one_by_one(given):
    space = TreeSpace(*given)
    found = count_programs(space)
    assert (found.valid, found.distinct) == by_hand(space)
    assert (found.raw, found.typed) == (space.size(), space.typed_size())
    assert found.distinct < found.valid <= found.typed <= found.raw


def by_structure(roots):
    """A check that has nothing to do with values: an odd number of different ops is out. Signs can stand anywhere."""
    ops = [{node.op.name for node in topological([root])} - {"neg"} for root in roots]
    return [ProxyError("domain", "") if len(names) % 2 else None for names in ops]


@pytest.mark.parametrize(("inputs", "ops"), REDUCED[:4])
def test_any_check_will_do(inputs, ops):
    space = TreeSpace(inputs, ops)
    found = count_programs(space, by_structure)
    assert (found.valid, found.distinct) == by_hand(space, by_structure)
    assert found.valid < count_programs(space).valid


def test_the_pool_that_is_thrown_away_changes_nothing(monkeypatch):
    space = TreeSpace(*REDUCED[0])
    whole = count_programs(space)
    monkeypatch.setattr("proxforge.bench.tree_count.ROOM", 100)
    assert count_programs(space) == whole


class Forgetful(Pool):
    """Has rules of its own: the second operand goes where it has a sign, both where it is the root of another."""

    def apply(self, op, *args):
        plain = super().apply(op, *args)
        if op.arity == 2 and args[1].op.name == "neg":
            return args[0]
        if op.arity == 2 and args[1].op.name == "sqrt" and args[0].type.kind is Kind.SCALAR:
            return self.number(7.0)
        return plain


@pytest.mark.parametrize("inputs", [("qkv.w", "qkv.g", "fc2.w"), ("fc1.w", "fc2.w"), ("qkv.w",)])
def test_programs_that_do_not_read_all_their_inputs(monkeypatch, inputs):
    space = TreeSpace(inputs, ("neg", "mean", "sqrt", "normalize", "-", "@"))
    monkeypatch.setattr("proxforge.bench.tree_count.canonical_pool", Forgetful)

    def accepted(roots):
        return [None] * len(roots)

    found = count_programs(space, accepted)
    assert (found.valid, found.distinct) == by_hand(space, accepted, Forgetful)


def test_other_spaces_are_compiled_one_by_one():
    space = ExpressionSpace(("qkv.w", "fc1.w"), ("abs", "neg", "mean", "+"), depth=2)
    found = count_programs(space)
    pool = canonical_pool()
    nodes = [space.expression(space.unrank(i), pool) for i in range(space.typed_size())]
    valid = [node for node in nodes if refusals([node]) == [None]]
    assert len(valid) < len(nodes)
    assert found == SpaceCount(space.size(), len(nodes), len(valid), len({n.digest for n in valid}))
    small = count_programs(ExpressionSpace(("qkv.w",), ("abs", "neg"), depth=2))
    assert (small.raw, small.typed, small.valid) == (7, 7, 7)
    assert small.distinct == 4  # x, -x, abs(x), -abs(x)
    memory = count_programs(MemorySpace(("qkv.w",), ("abs", "neg"), length=2, registers=1))
    assert (memory.raw, memory.distinct) == (4 + 16, 4)


@pytest.mark.parametrize("space", [ExpressionSpace(), ExpressionSpace(depth=12), MemorySpace()])
def test_what_cannot_be_counted_says_so(space):
    with pytest.raises(ProxforgeError, match="at most 1,000,000") as error:
        count_programs(space)
    assert error.value.kind == "size"


def test_progress_goes_from_nothing_to_all():
    for space in (TreeSpace(*REDUCED[0]), ExpressionSpace(depth=1), TreeSpace(*REDUCED[4])):
        shares: list[float] = []
        count_programs(space, told=shares.append)
        assert shares == sorted(shares)
        assert 0 < shares[0] <= shares[-1] == 1


def test_the_whole_space_agrees_with_a_sample():
    """The share of the published space that compiles, against the exact number of ``proxforge bench space``."""
    space, rng, pool = TreeSpace(), np.random.default_rng(0), canonical_pool()
    nodes = [space.expression(space.sample(rng), pool) for _ in range(3000)]
    share = sum(error is None for error in refusals(nodes)) / 3000
    assert abs(share - 55_556_168 / 59_785_216) < 5 * np.sqrt(0.07 / 3000)


@pytest.mark.parametrize("given", REDUCED[:-1])
def test_the_joins_that_are_estimated_are_those_that_are_made(given, monkeypatch):
    made, real = [], tree_count._made

    def noted(pool, op, a, b):
        made.append(isinstance(pool, CanonicalPool))
        return real(pool, op, a, b)

    monkeypatch.setattr(tree_count, "_made", noted)
    space = TreeSpace(*given)
    count_programs(space)
    assert tree_count.joins_of(space) == pytest.approx(sum(made), rel=0.1)


def test_a_count_that_takes_too_long_or_too_much_is_refused_with_its_figures(monkeypatch):
    monkeypatch.setattr(limits, "installed", lambda: 1e12)
    assert refusal(TreeSpace(), 120) is None
    assert refusal(ExpressionSpace(), 0) is None
    large = TreeSpace(("fc1.w",), "autoprox", 3)
    joins = tree_count.joins_of(large)
    found = refusal(large, 1.5)
    assert found.startswith(f"counting would make about {joins:,} joins")
    assert f"{joins * 5e-5 / 60:,.0f} minutes; --limit-minutes is 1.5: choose fewer --inputs" in found
    assert refusal(large, 1e9) is None
    monkeypatch.setattr(limits, "installed", lambda: 1e9)
    assert "the machine has 1 GB of memory: choose" in refusal(large, 1e9)
