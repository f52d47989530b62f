"""The rewrite rules: each true for every input, together terminating and confluent."""

from __future__ import annotations

import random
from functools import cache
from itertools import islice, product

import pytest

from proxforge.grammar.canonical import CanonicalPool
from proxforge.grammar.expr import Node, Pool
from proxforge.grammar.ops import OPS, Form, Op
from proxforge.grammar.rewriting import Rewrite, Rule, Term
from proxforge.grammar.rules import RULES
from proxforge.grammar.types import Kind
from tests.algebra import BINARY, LAYER, UNARY, Data, applied, apply_op, chains, same, shown

INSTANCES, DATA = 20, 8
"""Places where a rule is tried, and sets of values at each."""
ROUNDING = 1e-12
"""The largest relative difference of a rule that holds up to rounding (sums of singular values are the worst)."""
TRIED = 1500

Terms = tuple[Node, ...]


def matrices(pool: Pool) -> list[Node]:
    """Two of one shape and one of the transposed one."""
    return [pool.statistic(name) for name in ("fc1.w", "fc1.g", "fc2.w")]


def scalars(pool: Pool) -> list[Node]:
    """What stands for any Scalar: its value is drawn, not computed."""
    return [pool.apply(OPS["sum"], pool.statistic(name)) for name in ("hidden.a", "hidden.g")]


def negated(pool: Pool, node: Node) -> Node:
    return pool.apply(OPS["neg"], node)


def scores(pool: Pool) -> list[Node]:
    """Values of a network."""
    found = [pool.fact("params"), pool.fact("depth"), *(pool.apply(op, s) for s in scalars(pool) for op in LAYER)]
    return [*found, *(negated(pool, x) for x in found), *(pool.number(v, Kind.SCORE) for v in (0.0, 1.0, 2.0, -3.0))]


@cache
def terms(canonical_form: bool) -> tuple[Pool, list[Node]]:
    """Small terms, as they come or in canonical form: leaves, one op on leaves."""
    pool = CanonicalPool() if canonical_form else Pool()
    leaves = [*matrices(pool), *scalars(pool), *map(pool.number, (0.0, 1.0, 2.0, -3.0, 0.25))]
    pairs = product(leaves, leaves)
    joined = [n for (a, b), op in product(pairs, BINARY) if (n := applied(pool, op, a, b)) is not None]
    return pool, [*chains(pool, leaves, 1), *joined]


@cache
def operands(op: Op, canonical_form: bool) -> list[Terms]:
    """Operands of all kinds that fit the op: equal ones, f(x) beside g(x), small terms, values of a network."""
    pool, small = terms(canonical_form)
    rng = random.Random(1)

    def over(x: Node) -> Node:
        return applied(pool, rng.choice(UNARY), x) or x

    some = [matrices(pool)[0], scalars(pool)[0]]
    found: list[Terms] = (
        []
        if op.arity == 1
        else [
            (a, b)
            for x in some
            for f, g in product(UNARY, UNARY)
            if (a := applied(pool, f, x)) and (b := applied(pool, g, x))
        ]
    )
    for _ in range(TRIED):
        x, y = rng.choice(small), rng.choice(small)
        if op.form is Form.LAYERS:
            s = rng.choice([*scalars(pool), pool.number(2.0)])
            found.append((rng.choice([s, negated(pool, s), over(s)]),))
        elif op.arity == 1:
            found.append((rng.choice([x, over(x), over(over(x)), negated(pool, rng.choice(scores(pool)))]),))
        else:
            layer = [(x, y), (over(x), over(x)), (x, over(x)), (over(x), x), (over(x), y), (x, x)]
            found.append(rng.choice([*layer, (rng.choice(scores(pool)), rng.choice(scores(pool)))]))
    rng.shuffle(found)
    fits = Pool()
    return [args for args in found if applied(fits, op, *args) is not None]


def instances(rule: Rule, count: int, pool: CanonicalPool) -> list[Terms]:
    """Operands that the rule applies to, half of them in canonical form (some rules apply to no such)."""
    return [
        args
        for form in (False, True)
        for args in islice((a for a in operands(OPS[rule.op], form) if rule.applies(pool, a)), count // 2)
    ]


@cache
def data_of(seed: int) -> Data:
    return Data(seed, scalars(Pool()))


def broken(rule: Rule, count: int = INSTANCES, data: int = DATA) -> str | None:
    """Where the two sides of the rule differ; None where they never do."""
    pool = CanonicalPool()
    for i, args in enumerate(instances(rule, count, pool)):
        new = pool.build(rule.rewrite(pool, args))
        for seed in range(i * data, (i + 1) * data):
            values = data_of(seed % 100)
            left, right = apply_op(OPS[rule.op], [values.value(a) for a in args]), values.value(new)
            if not same(left, right, ROUNDING if rule.rounding else 0.0):
                return f"{rule.op}({', '.join(map(shown, args))}) -> {shown(new)}: {left} and {right}"
    return None


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.algebra)
def test_every_rule_holds_for_every_input(rule):
    """Zeros, negatives, huge, tiny, infinite, NaN; constant segments and single elements; matrices and Scalars."""
    assert instances(rule, INSTANCES, CanonicalPool()), "the rule is never reached"
    assert broken(rule) is None


def _becomes(*path: str) -> Rewrite:
    def rewrite(pool: CanonicalPool, a: Terms) -> Term:
        x: Term = a[0].args[0]
        for name in path[::-1]:
            x = (name, x)
        return x

    return rewrite


def _one_minus(name: str) -> Rewrite:
    return lambda pool, a: ("-", pool.number(1.0), (name, a[0].args[0]))


def _regrouped(name: str) -> Rewrite:
    return lambda pool, a: (name, a[0].args[0], (name, a[0].args[1], a[1]))


def _first_is_scalar(pool: CanonicalPool, a: Terms) -> bool:
    return a[0].type.kind is Kind.SCALAR


WRONG = [
    Rule("sqrt", "sqrt(square(x)) = abs(x)", _becomes("abs"), "square"),
    Rule("square", "square(sqrt(x)) = relu(x)", _becomes("relu"), "sqrt"),
    Rule("sign", "sign(square(x)) = sign(abs(x))", _becomes("sign", "abs"), "square"),
    Rule("sign", "sign(leaky_relu(x)) = sign(x)", _becomes("sign"), "leaky_relu"),
    Rule("log", "log(exp(x)) = x", _becomes(), "exp"),
    Rule("inv", "inv(-x) = -inv(x)", _becomes("neg", "inv"), "neg"),
    Rule("relu", "relu(-x) = -relu(x)", _becomes("neg", "relu"), "neg"),
    Rule("sigmoid", "sigmoid(-x) = 1 - sigmoid(x)", _one_minus("sigmoid"), "neg", rounding=True),
    Rule("std", "std(abs(x)) = std(x)", _becomes("std"), "abs"),
    Rule("max", "max(abs(x)) = abs(max(x))", _becomes("abs", "max"), "abs"),
    Rule("max", "max(log(x)) = log(max(x))", _becomes("log", "max"), "log", rounding=True),
    Rule("mean", "mean(exp(x)) = exp(mean(x))", _becomes("exp", "mean"), "exp", rounding=True),
    Rule("normalize", "normalize(normalize(x)) = normalize(x)", _becomes("normalize"), "normalize", rounding=True),
    Rule("min_max", "min_max(-x) = 1 - min_max(x)", _one_minus("min_max"), "neg", rounding=True),
    Rule("softmax", "softmax(s) = 1", lambda pool, a: pool.number(1.0), condition=_first_is_scalar),
    Rule("softmax", "softmax(softmax(x)) = softmax(x)", _becomes("softmax"), "softmax", rounding=True),
    Rule("exp", "exp(log_softmax(x)) = softmax(x)", _becomes("softmax"), "log_softmax"),
    Rule("mean", "mean(x) = normalized_sum(x)", lambda pool, a: ("normalized_sum", a[0])),
    Rule("/", "a / -b = -(a / b)", lambda pool, a: ("neg", ("/", a[0], a[1].args[0])), "", "neg"),
    Rule("-", "s - s = 0", lambda pool, a: pool.number(0.0),
         condition=lambda pool, a: a[0] is a[1] and _first_is_scalar(pool, a)),
    Rule("*", "0 * s = 0", lambda pool, a: a[0], "number",
         condition=lambda pool, a: a[0].attr == 0.0 and a[1].type.kind is Kind.SCALAR),
    Rule("*", "(a * b) * c = a * (b * c)", _regrouped("*"), "*", rounding=True),
    Rule("+", "(a + b) + c = a + (b + c)", _regrouped("+"), "+", rounding=True),
    Rule("*", "x * heaviside(x) = relu(x)", lambda pool, a: ("relu", a[0]), "", "heaviside",
         lambda pool, a: a[1].args[0] is a[0]),
]  # fmt: skip


@pytest.mark.parametrize("rule", WRONG, ids=lambda r: r.algebra)
def test_a_wrong_rule_is_caught(rule):
    assert instances(rule, 10, CanonicalPool())
    assert broken(rule, count=200) is not None
