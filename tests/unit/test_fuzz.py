"""Hostile input: a program or one error, at once; and nothing recurses on what a user writes."""

from __future__ import annotations

import copy
import pickle
import sys
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark
from lark.exceptions import UnexpectedInput

from proxforge.bench.fuzz import CHUNK, LIMIT, chunk, fuzz, text_of
from proxforge.bench.fuzz import run as fuzz_run
from proxforge.bench.fuzz.inputs import derivation, mutation, noise, pieces, splice, structure
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import MAX_DEPTH, MAX_NODES, Pool, statistics_of
from proxforge.grammar.ops import OPS
from proxforge.grammar.parse import MAX_LENGTH, MAX_NAME, MAX_NAMES, parse
from proxforge.grammar.syntax import MAX_NESTING, read
from proxforge.grammar.text import latex, text
from proxforge.vm.compile import compile_nodes, compile_text


def test_hostile_inputs_are_programs_or_errors():
    report = fuzz(6 * CHUNK, seed=1)
    assert report.beyond_limit == 0, report.slowest
    assert sum(report.outcomes.values()) == report.count
    kinds = {"program", "syntax", "name", "type", "shape", "nonfinite", "constant", "size"}
    assert kinds <= report.outcomes.keys()  # every kind is reached, so none is untested


def test_inputs_are_the_same_in_every_run_and_for_any_workers():
    first = list(islice(chunk(5, 2), 40))
    assert first == list(islice(chunk(5, 2), 40)) != list(islice(chunk(6, 2), 40))
    assert text_of(5, 2 * CHUNK + 39) == first[39]
    assert fuzz(2 * CHUNK, 3, workers=2).outcomes == fuzz(2 * CHUNK, 3).outcomes


def test_a_crash_names_its_input(monkeypatch):
    def crash(source):
        raise RecursionError("too deep")

    monkeypatch.setattr(fuzz_run, "_try", crash)
    with pytest.raises(RecursionError) as caught:
        fuzz(10, 4)
    assert caught.value.__notes__[0].startswith("input 0 of seed 4: ")


def test_a_slow_input_is_reported(monkeypatch):
    monkeypatch.setattr(fuzz_run, "_try", lambda source: ("program", 2 * LIMIT if len(source) % 2 else 0.0))
    report = fuzz(100, 4)
    assert 0 < report.beyond_limit < 100
    assert report.slowest[0].seconds == 2 * LIMIT


@pytest.mark.parametrize("kind", [derivation, mutation, splice, pieces, noise, structure], ids=lambda k: k.__name__)
def test_the_table_is_run_as_lark_runs_it(kind):
    """The same texts are sentences of the grammar for Lark itself."""
    import random
    from importlib.resources import files

    lark = Lark(files("proxforge.grammar").joinpath("formula.lark").read_text(encoding="utf-8"), parser="lalr")
    rng = random.Random(kind.__name__)
    accepted = 0
    for _ in range(300):
        source = kind(rng, 60)
        try:
            read(source)
            ours = True
        except ProxyError as error:
            if error.kind == "size":
                continue
            ours = False
        flat = joined_lines(source)
        try:
            lark.parse(flat)
            theirs = True
        except UnexpectedInput:
            theirs = False
        assert ours == theirs, source
        accepted += ours
    assert accepted or kind in (noise, pieces)


def joined_lines(source: str) -> str:
    """Without the line breaks inside parentheses, which the grammar file knows nothing of."""
    depth, out, comment = 0, [], False
    for c in source:
        comment = c == "#" or (comment and c != "\n")
        depth += 0 if comment else (c == "(") - (c == ")")
        out.append(" " if c == "\n" and depth > 0 else c)
    return "".join(out)
