"""Hostile input: a program or one error, at once; and nothing recurses on what a user writes."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from importlib.resources import files
from itertools import count, islice

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


def deep(n: int) -> dict[str, str]:
    """Formulas as deep as allowed, each in another way."""
    chain = "".join(f"a{i} = qkv.g - sigmoid(a{i - 1});" for i in range(1, n // 2))
    return {
        "calls": "mish(" * n + "qkv.w" + ")" * n,
        "parentheses": "(" * MAX_NESTING + "qkv.w" + ")" * MAX_NESTING,
        "signs": "-" * n + "qkv.w",
        "sums": " + ".join(f"{k}.5 * qkv.w" for k in range(n)),
        "assignments": f"a0 = qkv.w; {chain} a{n // 2 - 1}",
        "sharing": "a = qkv.w\n" + "a = a - tanh(a)\n" * (n // 2) + "a",
        "a maximum that sinks": "max(" + "tanh(" * n + "qkv.w" + ")" * n + ")",
        "an abs that sinks": "abs(" + "tanh(" * n + "qkv.w" + ")" * n + ")",
        "roots that vanish": "heaviside(" + "sqrt(" * n + "qkv.w" + ")" * n + ")",
        "products of signs": "a = abs(qkv.w)\n" + "a = a * qkv.g\n" * n + "frobenius(a)",
    }


@pytest.mark.parametrize("name", deep(8))
def test_nothing_recurses_on_the_depth_of_a_formula(name):
    """With room for 120 more frames than now, twice what a shallow formula needs, and less than half of the depth."""
    formula = deep(MAX_DEPTH - 8)[name]
    compile_text("exp(qkv.w) + 1")
    frames = next(i for i in count() if not has_frame(i))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(frames + 120)
    try:
        node = parse(formula)
        parse(formula, Pool())
        assert parse(text(node)).digest == node.digest
        assert latex(node)
        assert repr(node)
        assert statistics_of([node])
        assert compile_nodes([node]).disassemble()
        proxy = compile_text(formula)
        assert pickle.dumps(proxy)
        assert copy.deepcopy(proxy).hash == proxy.hash
        del node, proxy
    finally:
        sys.setrecursionlimit(limit)


def has_frame(i: int) -> bool:
    try:
        return sys._getframe(i) is not None
    except ValueError:
        return False


def test_a_node_says_that_it_cannot_be_stored():
    node = parse("qkv.w")
    for store in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="belongs to the pool"):
            store(node)


LIMITS = [
    ("x" * (MAX_LENGTH + 1), "size", "131,073 characters"),
    ("(" * (MAX_NESTING + 1) + "qkv.w", "size", "300 parentheses are open"),
    ("-" * (MAX_NESTING + 1) + "qkv.w", "size", "300 signs follow each other"),
    ("a = qkv.w\n" + "a = exp(a)\n" * (MAX_DEPTH + 1) + "a", "size", "256 nested operations"),
    ("qkv.w" + " + qkv.w" * 9000, "size", "16,384 names, numbers and operators"),
    ("v" * (MAX_NAME + 1) + " = qkv.w\nqkv.w", "size", "65 characters, at most 64"),
    ("v" * 100_000, "name", "is not known"),
    ("v" * 100_000 + "(qkv.w)", "name", "no op is called"),
    ("v." + "v" * 100_000, "name", "no statistic is called"),
    ("".join(f"v{i} = qkv.w;" for i in range(MAX_NAMES + 1)) + "v0", "size", "4,096 names are assigned"),
    ("1e999 * qkv.w", "nonfinite", "the number 1e999"),
    ("9" * 5000 + " * qkv.w", "nonfinite", "exceeds float32's range"),
    ("qkv.w\0", "syntax", r"'\x00' has no meaning"),
    ("qkv.w + \ud800", "syntax", r"'\ud800' has no meaning"),
    ("ｑkv.w", "syntax", "has no meaning"),
    ("２ * qkv.w", "syntax", "has no meaning"),
    ("qkv.w − 1", "syntax", "has no meaning"),
    ("a = qkv.w\ra", "syntax", "out of place"),
    ("qkv.w\x0bqkv.g", "syntax", "has no meaning"),
    ("exp(" + "qkv.w," * 1000 + "qkv.w)", "type", "1001 were given"),
]


@pytest.mark.parametrize(("formula", "kind", "part"), LIMITS, ids=[f"{f[:12]!r}:{len(f)}" for f, _, _ in LIMITS])
def test_limits_have_clear_errors(formula, kind, part):
    with pytest.raises(ProxyError) as caught:
        parse(formula)
    assert caught.value.kind == kind
    assert part in caught.value.message
    assert len(caught.value.message) < 300
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("given", [None, 3, b"qkv.w", ["qkv.w"], parse("qkv.w")], ids=lambda g: type(g).__name__)
def test_what_is_no_text_is_an_error_of_the_language(given):
    with pytest.raises(ProxyError, match=f"a formula is text \\(str\\), {type(given).__name__} was given"):
        parse(given)


def test_line_ends_of_other_systems():
    assert parse("a = qkv.w\r\nabs(a)\r\n").digest == parse("abs(qkv.w)").digest
    with pytest.raises(ProxyError) as caught:
        parse("a = qkv.w\r\nabs(b)")
    assert (caught.value.line, caught.value.column) == (2, 5)
    assert str(caught.value).splitlines()[-2:] == ["    abs(b)", "        ^"]


def test_the_shown_line_holds_no_control_characters():
    with pytest.raises(ProxyError) as caught:
        parse("qkv.w # \x1b[31m\u2028\x85\n\tqkv.w ? \x1b[0m")
    assert (caught.value.line, caught.value.column) == (2, 8)
    shown = str(caught.value)
    assert "\x1b" not in shown
    assert shown.splitlines()[-2:] == ["     qkv.w ?  [0m", "           ^"]


def test_the_text_of_programs_with_many_shared_parts_can_be_read_again():
    """More parts are named than an earlier limit allowed, and the text takes more steps than the program has nodes."""
    pool = canonical_pool()
    x, g = pool.statistic("qkv.w"), pool.statistic("qkv.g")
    level = [pool.apply(OPS["*"], pool.number(k + 0.5), x) for k in range(340)]
    for _ in range(5):  # every part is used twice
        level = [pool.apply(OPS["-"], a, b) for a, b in zip(level, [*level[1:], g], strict=True)]
    while len(level) > 1:
        level = [pool.apply(OPS["+"], a, b) for a, b in zip(level[::2], level[1::2], strict=False)] + level[
            len(level) & ~1 :
        ]
    node = pool.score(level[0])
    written = text(node)
    assert written.count("=") > 1000
    assert len(read(written)) > MAX_NODES
    assert parse(written).digest == node.digest


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["latin-1", "utf-8"]))
def test_any_bytes_are_a_program_or_an_error(data, encoding):
    try:
        parse(data.decode(encoding, "surrogateescape"))
    except ProxyError as error:
        assert str(error).encode("utf-8")
