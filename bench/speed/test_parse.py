"""Reading formulas: `make bench`, or `pytest bench/speed/test_parse.py --benchmark-only -n 0`.

The mean of pytest-benchmark is for all formulas of `formulas()`; the extra column ``us_each`` is for one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.parse import parse
from proxforge.grammar.syntax import read
from proxforge.grammar.text import text
from proxforge.search.spaces import make_space

COUNT, LONGEST = 300, 60


@cache
def formulas() -> tuple[str, ...]:
    """The texts of random programs of the spaces ``tree`` and ``expression``, of 20 to 60 characters."""
    rng, pool, found = np.random.default_rng(0), canonical_pool(), dict[str, None]()
    spaces = make_space("tree"), make_space("expression")
    while len(found) < COUNT:
        space = spaces[len(found) % 2]
        node = space.expression(space.sample(rng), pool)
        if node.facts.value is None and 20 <= len(text(node)) <= LONGEST:
            found[text(node)] = None
    return tuple(found)


@pytest.mark.parametrize("stage", ["syntax", "new pool", "one pool"])
def test_parse(benchmark: Any, stage: str) -> None:
    """The syntax alone; to the canonical expression, each on its own; the same in a pool that knows the expressions."""
    pool = canonical_pool()
    stages: dict[str, Callable[[str], object]] = {
        "syntax": read,
        "new pool": parse,
        "one pool": lambda formula: parse(formula, pool),
    }
    for formula in formulas():
        assert text(parse(formula, pool)) == formula
        assert parse(formula).digest == parse(formula, pool).digest
    step = stages[stage]

    def run() -> None:
        for formula in formulas():
            step(formula)

    benchmark(run)
    if benchmark.stats is not None:
        benchmark.extra_info["us_each"] = benchmark.stats["min"] / COUNT * 1e6


def test_an_error_is_found_as_fast(benchmark: Any) -> None:
    """A formula that is cut off, with the message."""
    cut = [formula[:-1] + "?" for formula in formulas()]

    def run() -> list[str]:
        messages = []
        for formula in cut:
            try:
                parse(formula)
            except ProxyError as error:
                messages.append(str(error))
        return messages

    assert len(run()) == COUNT
    benchmark(run)
    if benchmark.stats is not None:
        benchmark.extra_info["us_each"] = benchmark.stats["min"] / COUNT * 1e6
