"""The rewrite rules as a system: it ends, it is confluent, and every spelling of a program has one canonical form."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from proxforge.grammar.canonical import CanonicalPool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool, topological
from proxforge.grammar.ops import NUMBER, OPS
from proxforge.grammar.rewriting import Rule, order_key
from proxforge.grammar.rules import RULES
from tests.algebra import UNARY, applied, canonical, chains, leaf_in, shown
from tests.random_programs import random_score
from tests.unit.test_rules import instances, matrices, operands, scalars

PRODUCTS = ("*", "/", "@", "dot")
ADDED = {"abs": 2, "square": 4, "pow4": 6, "heaviside": 3, "gram": 5, "neg": 0} | dict.fromkeys(
    ("sign", "relu", "sqrt", "leaky_relu", "tanh", "exp", "sigmoid", "log"), 2
)
TRIPLED = {"l1_norm": 3, "frobenius": 3, "nuclear_norm": 3} | dict.fromkeys(
    ("mean", "sum", "normalized_sum", "std", "min", "max", *(name for name in OPS if name.startswith("layer_"))), 0
)


def interpreted(node: Node, meaning: Callable[[Node, list[int]], int]) -> int:
    """A number for the term: an increasing function of the numbers of its operands (a sign counts nothing)."""
    known: dict[Node, int] = {}
    for n in topological([node]):
        known[n] = meaning(n, [known[a] for a in n.args])
    return known[node]


def weight(n: Node, a: list[int]) -> int:
    if not a:
        return 1 if n.op is NUMBER else 2
    if n.op.name in TRIPLED:
        return 3 * a[0] + TRIPLED[n.op.name]
    return sum(a) + (ADDED.get(n.op.name, 1) if len(a) == 1 else 4 if n.op.name == "*" else 6)


def depth_of_abs(n: Node, a: list[int]) -> int:
    """Large where an abs is inside a product."""
    return 2 * sum(a) if n.op.name in ("*", "/") else sum(a) + (n.op.name != "neg")


def height_of_abs(n: Node, a: list[int]) -> int:
    """Large where an abs is outside a sign or tanh, and pow4 outside square."""
    return 2 * sum(a) if n.op.name in ("abs", "pow4") else sum(a) + (n.op.name != "neg")


def unsettled(root: Node) -> list[int]:
    """Signs inside and operands out of order, counted by the height of the op they belong to, the lowest first."""
    counts: Counter[int] = Counter()

    def visit(node: Node) -> tuple[int, int]:
        """(height without signs, signs above it)"""
        signs = 0
        while node.op.name == "neg":
            node, signs = node.args[0], signs + 1
        below = [visit(a) for a in node.args]
        height = 1 + max((h for h, _ in below), default=0)
        counts[height] += 2 * sum(s for _, s in below) + disorder(node)
        return height, signs

    height, signs = visit(root)
    counts[height + 1] += 2 * signs
    return [counts[h] for h in range(1, 20)]


def disorder(node: Node) -> int:
    if node.op.name in PRODUCTS:
        negative = 2 * sum(a.op is NUMBER and float(a.attr) < 0 for a in node.args)
        return negative + (node.op.commutative and order_key(node.args[1]) < order_key(node.args[0]))
    if node.op.name == "-" and node.args[0].op is NUMBER:
        return 2
    return int(node.op.name in "+-" and order_key(node.args[1]) < order_key(node.args[0]))


def measure(node: Node) -> tuple[object, ...]:
    return *(interpreted(node, m) for m in (weight, depth_of_abs, height_of_abs)), unsettled(node)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.algebra)
def test_every_rule_lowers_the_measure(rule):
    """So rewriting ends: the measure of a term falls with that of its parts, and none falls for ever."""
    pool = CanonicalPool()
    found = [args for args in operands(OPS[rule.op], True) if rule.applies(pool, args)][:40]
    for args in found or instances(rule, 40, pool):
        assert measure(pool.build(rule.rewrite(pool, args))) < measure(Pool().apply(OPS[rule.op], *args)), shown(
            args[0]
        )


def test_the_order_of_operands_is_the_last_thing_to_settle():
    pool = Pool()
    a, b = matrices(pool)[:2]
    first, second = pool.apply(OPS["+"], a, b), pool.apply(OPS["+"], b, a)
    assert measure(first) < measure(second)
    assert measure(first)[:3] == measure(second)[:3]


def degenerate(root: Node) -> bool:
    """Whether a part is 0 for every input, or a number beyond float32's range: signs of zeros are not settled."""
    return any(
        (n.op.name == "-" and n.args[0] is n.args[1])
        or (n.op.name in PRODUCTS and any(a.op is NUMBER and a.attr == 0 for a in n.args))
        or (n.args and all(a.op is NUMBER for a in n.args))
        for n in topological([root])
    )


def unjoined(op_name: str, args: tuple[Node, ...], rules: tuple[Rule, ...] = RULES) -> list[str]:
    """For every rule that applies at the top, in whatever state the operands are: where another result comes out."""
    term = applied(Pool(), OPS[op_name], *args)
    if term is None:
        return []
    pool, found = CanonicalPool(), []
    whole = canonical(term, pool)
    for rule in rules:
        if rule.op == op_name and rule.applies(pool, args):
            other = canonical(pool.build(rule.rewrite(pool, args)), pool)
            if other is not whole and not degenerate(whole) and not degenerate(other):
                found.append(
                    f"{rule.algebra}: {op_name}({', '.join(map(shown, args))}) -> {shown(other)}, {shown(whole)}"
                )
    return found


@pytest.mark.parametrize("op", [op for op in UNARY if any(r.op == op.name for r in RULES)], ids=lambda op: op.name)
def test_critical_pairs_of_chains_join(op):
    """All terms op(f(g(x))), for a matrix and for a Scalar."""
    raw = Pool()
    assert not [p for x in chains(raw, [matrices(raw)[0], scalars(raw)[0]], 2) for p in unjoined(op.name, (x,))]


def random_term(rng: random.Random, pool: Pool, depth: int) -> Node:
    """A term as it comes, with equal operands more often than by chance."""
    if depth == 0 or rng.random() < 0.15:
        numbers = [pool.number(v) for v in (1.0, 2.0, -3.0, 0.25)]
        return rng.choice([*matrices(pool), *scalars(pool), *numbers])
    while True:
        a = random_term(rng, pool, depth - 1)
        if rng.random() < 0.55:
            made = applied(pool, rng.choice(UNARY), a)
        else:
            b = a if rng.random() < 0.2 else random_term(rng, pool, depth - 1)
            made = applied(pool, OPS[rng.choice("+-*/@")], a, b)
        if made is not None:
            return made


@pytest.mark.parametrize("seed", range(6))
def test_critical_pairs_of_random_terms_join(seed):
    rng, raw = random.Random(seed), Pool()
    for _ in range(120):
        a, b = random_term(rng, raw, 3), random_term(rng, raw, 3)
        problems = [p for op in UNARY for p in unjoined(op.name, (a,))]
        problems += [p for name in "+-*/@" for p in unjoined(name, (a, b))]
        assert not problems


def test_a_rule_that_does_not_fit_the_others_is_found():
    """relu(x) + relu(-x) = abs(x) is true, but where x >= 0 another rule takes the first relu away."""
    rule = Rule(
        "+",
        "relu(x) + relu(-x) = abs(x)",
        lambda pool, a: ("abs", a[0].args[0]),
        "relu",
        "relu",
        lambda pool, a: a[1].args[0].args == a[0].args,
    )
    pool = Pool()
    x = pool.apply(OPS["exp"], matrices(pool)[0])
    first, second = pool.apply(OPS["relu"], x), pool.apply(OPS["relu"], pool.apply(OPS["neg"], x))
    assert not unjoined("+", (first, second))
    assert unjoined("+", (first, second), (*RULES, rule))


def spellings(node: Node, pool: Pool) -> Iterator[Node]:
    """Other ways to write an op."""

    def make(name: str, *args: Node) -> Node:
        return pool.apply(OPS[name], *args)

    def minus(x: Node) -> Node:
        return make("neg", x)

    a = node.args
    yield minus(minus(node))
    if node.type.kind.letter != "x":
        yield make("identity", node)
    if node.op.commutative:
        yield make(node.op.name, a[1], a[0])
    if node.op.name == "-":
        yield minus(make("-", a[1], a[0]))
        yield make("+", a[0], minus(a[1]))
    if node.op.name == "+":
        yield make("-", a[1], minus(a[0]))
    if node.op.name in ("*", "@"):
        yield make(node.op.name, minus(a[0]), minus(a[1]))
    if node.op.name in ("mean", "sum", "normalize", "layer_sum"):
        yield minus(make(node.op.name, minus(a[0])))
    if node.op.name in ("square", "abs", "frobenius", "abslog"):
        yield make(node.op.name, make("abs", minus(a[0])))
    if node.op.name == "square":
        yield make("*", a[0], minus(minus(a[0])))
    if node.op.name == "max":
        yield minus(make("min", minus(a[0])))


def respelled(node: Node, rng: random.Random) -> Node:
    pool, made = Pool(), dict[Node, Node]()
    for n in topological([node]):
        new = leaf_in(pool, n) or pool.apply(n.op, *(made[a] for a in n.args))
        made[n] = rng.choice(list(spellings(new, pool))) if n.args and rng.random() < 0.5 else new
    return made[node]


@pytest.mark.parametrize("seed", range(300))
def test_every_spelling_has_one_canonical_form(seed):
    rng, pool = random.Random(seed), CanonicalPool()
    try:
        node = random_score(np.random.default_rng(seed), Pool(), 2 + seed % 4)
    except ProxyError:
        return
    first = canonical(node, pool)
    assert canonical(first, CanonicalPool()).digest == first.digest
    if not degenerate(first):
        for _ in range(3):
            other = canonical(respelled(node, rng), pool)
            assert other is first or degenerate(other), (shown(first), shown(other))
