"""The measure of soundness and sharpness: what runs with checks off, and that a wrong rule does not go unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.unchecked import EXCEPTION, Unchecked, UncheckedPool
from proxforge.bench.validity import measure_validity
from proxforge.grammar import ops
from proxforge.grammar.expr import Node
from proxforge.grammar.ops import OPS
from proxforge.grammar.parse import parse
from proxforge.search.spaces import make_space
from tests.random_programs import random_source

SHAPES = [(4, 6, 9, 2), (5, 7, 8, 3), (3, 8, 10, 1), (6, 9, 12, 2)]
SOURCE = random_source(0, SHAPES, 0.3)
INPUTS = ("qkv.w", "qkv.g", "fc1.w", "fc2.w", "hidden.a")


def made(formula) -> tuple[Node, list[Node]]:
    """The Score and all values of what ``formula`` makes in a pool without checks."""
    pool = UncheckedPool()
    root = formula(pool) if callable(formula) else parse(formula, pool)
    return root, pool.nodes


def added(pool: UncheckedPool, first: str, second: str) -> Node:
    return pool.score(pool.apply(OPS["+"], pool.statistic(first), pool.statistic(second)))


def logarithm_of_rounding(pool: UncheckedPool) -> Node:
    """The logarithm of 1 + what rounding leaves of 0: not the same number everywhere, yet no more than rounding."""
    left = pool.apply(OPS["mean"], pool.apply(OPS["normalize"], pool.statistic("qkv.w")))
    return pool.score(pool.apply(OPS["abslog"], pool.apply(OPS["+"], left, pool.number(1.0))))


def unread(pool: UncheckedPool) -> Node:
    added(pool, "qkv.w", "hidden.a")
    return pool.score(pool.statistic("qkv.w"))


@pytest.mark.parametrize(
    ("formula", "cause"),
    [
        ("abs(qkv.w)", None),
        ("layer_sum(sum(qkv.w)) / params", None),
        ("log(qkv.w)", "nan"),
        ("exp(1000 * abs(qkv.w))", "inf"),
        ("sign(abs(qkv.w))", "constant"),
        (lambda pool: pool.score(pool.apply(OPS["normalize"], pool.statistic("qkv.w"))), "constant"),
        (lambda pool: logarithm_of_rounding(pool), "constant"),
        (lambda pool: added(pool, "qkv.w", "hidden.a"), EXCEPTION),
        (lambda pool: added(pool, "qkv.w", "qkv.g"), None),
        (lambda pool: pool.score(pool.apply(OPS["@"], pool.statistic("qkv.w"), pool.number(2.0))), EXCEPTION),
        (lambda pool: pool.score(pool.apply(OPS["std"], pool.apply(OPS["mean"], pool.statistic("qkv.w")))), EXCEPTION),
        (unread, EXCEPTION),
    ],
)
def test_what_becomes_of_a_program_with_checks_off(formula, cause):
    root, program = made(formula)
    assert Unchecked(SOURCE, range(len(SHAPES))).cause(root, program) == cause


@pytest.mark.parametrize(("name", "options"), [("tree", {}), ("expression", {"depth": 4}), ("memory", {"length": 5})])
@pytest.mark.parametrize("cache_facts", [True, False])
def test_no_rejection_is_false_and_few_are_missed(name, options, cache_facts):
    space = make_space(name, {"inputs": INPUTS, **options})
    found = measure_validity(space, SOURCE, 600, seed=1, cache_facts=cache_facts, backend="reference")
    assert found.false == []
    assert found.blind == 600
    assert sum(found.rejected.values()) == sum(found.caught.values())
    assert sum(found.invalid.values()) == sum(found.caught.values()) + len(found.missed)
    assert found.sharpness is not None
    assert found.sharpness > (0.97 if cache_facts else 0.7)
    document = found.to_dict()
    assert set(document) >= {
        "blind", "rejected", "false_rejections", "invalid_when_run", "caught", "sharpness", "by_cause", "missed"
    }  # fmt: skip


def test_a_rule_that_rejects_too_much_is_found_out(monkeypatch):
    from dataclasses import replace

    original = OPS["exp"].ranges

    def wrong(args, sizes):
        span = original(args, sizes)
        return replace(span, nan=np.ones_like(span.nan))

    monkeypatch.setitem(ops.OPS, "exp", replace(OPS["exp"], ranges=wrong))
    space = make_space("tree", {"inputs": INPUTS})
    found = measure_validity(space, SOURCE, 300, seed=1, backend="reference")
    assert len(found.false) > 10
    assert "domain error" in found.false[0][1]


def test_the_same_seed_draws_the_same_programs():
    space = make_space("tree", {"inputs": INPUTS})
    first, second = (measure_validity(space, SOURCE, 200, seed=4, backend="reference").to_dict() for _ in range(2))
    for document in (first, second):
        del document["seconds"], document["microseconds_per_program"]
    assert first == second
