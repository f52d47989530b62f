"""Texts that try to break the parser: from the grammar, from valid formulas, and from bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files

from lark import Lark

from ... import grammar
from ...grammar.ops import CALLABLE, OPS
from ...grammar.types import ALIASES, NETWORK_FACTS, STATISTICS
from ..proxies import PUBLISHED

CHUNK = 1000
"""Inputs that share one random generator: input i is number ``i % CHUNK`` of chunk ``i // CHUNK``."""
LONGEST = 10_000
"""Characters of the longest inputs."""

_STATISTICS, _CALLS = tuple(STATISTICS), tuple(CALLABLE)
_NAMES = (*ALIASES, *NETWORK_FACTS, "a", "b", "x1", "_", "t", *_CALLS)
_NUMBERS = ("0", "1", "2", ".5", "3.", "1e-3", "1e38", "1e39", "1e999", "1e-999", "0.1", "12345678901234567890", "1E+5")
_OPERATORS = tuple(name for name, op in OPS.items() if op.infix)
_PIECES = (
    *_STATISTICS,
    *_CALLS,
    *_NAMES,
    *_NUMBERS,
    *_OPERATORS,
    *"()(),=;\n#.",
    " ",
    "\r\n",
    "\t",
    "\0",
    "\x0b",
    "é",
    "−",
    "２",
)
_SEEDS = (
    *(p.formula for p in PUBLISHED.values()),
    "l = abs(qkv.g); k = mean(sigmoid(fc1.g)); l + k",
    "a = qkv.w\nb = a * a # a comment\n(a\n + b) / -2.5",
    "layer_std(l1_norm(normalize(fc1.g))) / depth - 3",
    "mean(fc2.w @ fc1.w) @ std(qkv.w) + softmax(-hidden.a)",
)
_TOKEN = re.compile(r"[A-Za-z_.]+|[0-9.]+|\s+|.", re.DOTALL)


def chunk(seed: int, index: int) -> Iterator[str]:
    """The inputs of a chunk; the same for the same numbers in every process."""
    rng = random.Random(f"{seed}/{index}")
    for _ in range(CHUNK):
        size = LONGEST if rng.random() < 0.02 else rng.choice((20, 60, 200))
        yield rng.choice(_KINDS)(rng, size)[:LONGEST]


def text_of(seed: int, index: int) -> str:
    """One input, by its number."""
    return next(text for i, text in enumerate(chunk(seed, index // CHUNK)) if i == index % CHUNK)


@cache
def _rules() -> dict[str, list[list[tuple[str, bool]]]]:
    """The grammar: rule -> its expansions, as (name, whether it is a terminal); the shortest first."""
    lark = Lark(files(grammar).joinpath("formula.lark").read_text(encoding="utf-8"), parser="lalr")
    rules: dict[str, list[list[tuple[str, bool]]]] = {}
    for rule in lark.rules:
        rules.setdefault(str(rule.origin.name), []).append([(str(s.name), s.is_term) for s in rule.expansion])
    return {name: sorted(found, key=len) for name, found in rules.items()}


def _terminal(rng: random.Random, name: str) -> str:
    choices = {"NUMBER": _NUMBERS, "DOTTED": _STATISTICS, "NAME": _NAMES, "_SEPARATOR": (";", "\n")}
    fixed = {"PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/", "AT": "@", "_LPAR": "(", "_RPAR": ")", "EQUAL": "="}
    return rng.choice(choices[name]) if name in choices else fixed.get(name, ",")


def derivation(rng: random.Random, size: int) -> str:
    """A sentence of the grammar: right by syntax, seldom by type."""
    todo, out = [("start", False)], list[str]()
    while todo and len(out) < size:
        name, is_terminal = todo.pop()
        if is_terminal:
            out.append(_terminal(rng, name))
            continue
        expansions = _rules()[name]
        some = expansions[:1] if len(todo) + len(out) > size // 2 else expansions
        todo += reversed(rng.choice(some))
    return rng.choice(("", " ")).join(out)


def mutation(rng: random.Random, size: int) -> str:
    """A valid formula, changed in a few places."""
    text = rng.choice(_SEEDS)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        new = (
            rng.choice(_PIECES),
            text[i:j],
            "",
            chr(rng.randint(0, 0x10FFFF)),
            text[i:j] * rng.randint(2, 1 + size // 20),
        )
        text = (text[:i] + rng.choice(new) + text[rng.choice((i, j)) :])[:LONGEST]
    return text


def splice(rng: random.Random, size: int) -> str:
    """The tokens of two formulas, interleaved."""
    one, other = (_TOKEN.findall(rng.choice(_SEEDS)) for _ in range(2))
    i, j = rng.randint(0, len(one)), rng.randint(0, len(other))
    return "".join(one[:i] + other[j:])


def pieces(rng: random.Random, size: int) -> str:
    """Words and signs of the language in any order."""
    return "".join(rng.choices(_PIECES, k=rng.randint(0, size // 3)))


def noise(rng: random.Random, size: int) -> str:
    """Bytes, read in some way."""
    data = rng.randbytes(rng.randint(0, size))
    encoding = rng.choice(("latin-1", "utf-8", "utf-16-le"))
    return data.decode(encoding, "ignore" if encoding == "utf-16-le" else rng.choice(("replace", "surrogateescape")))


def _leaf(rng: random.Random) -> str:
    return rng.choice((*_STATISTICS[:6], "a", "params", str(rng.randint(0, 99))))


def structure(rng: random.Random, size: int) -> str:
    """A valid idea without an end: nesting, chains, sharing, names, numbers."""
    n = rng.randint(1, size)
    leaf, operator, call = _leaf(rng), rng.choice(_OPERATORS), rng.choice(_CALLS)
    ideas: tuple[Callable[[], str], ...] = (
        lambda: "(" * n + leaf + ")" * rng.choice((n, n - 1, 0)),
        lambda: "-" * n + leaf,
        lambda: f"{call}(" * (n // 6) + leaf + ")" * (n // 6),
        lambda: operator.join(_leaf(rng) for _ in range(1 + n // 6)),
        lambda: "a = qkv.w\n" + f"a = a {operator} a\n" * (n // 10) + "a",
        lambda: "a = qkv.w\n" + f"a = {call}(a) {operator} a;" * (n // 18) + "a",
        lambda: ";".join(f"v{i}={leaf}" for i in range(n // 8)) + f";v{n // 16}",
        lambda: "v" * n + " = qkv.w; " + "v" * rng.choice((n, n - 1)),
        lambda: ";".join("ab"[i % 2] * 60 + f"{i}=qkv.w" for i in range(n // 70)) + ";" + "ab" * 30,
        lambda: "1" * n + rng.choice(("", ".", "e9", "e-9")) + "*qkv.w",
        lambda: f"{call}({','.join(leaf for _ in range(n // 6))})",
        lambda: rng.choice((";", "\n", "\r\n", " ", "#", "\t")) * n + leaf,
        lambda: _balanced(rng, 1 + n // 12, operator),
        lambda: f"qkv.w # {rng.choice(_PIECES) * n}",
        lambda: (leaf + operator) * (n // 6),
    )
    return rng.choice(ideas)()


def _balanced(rng: random.Random, leaves: int, operator: str) -> str:
    """A balanced tree of different parts: as many operations as fit, and no depth is exceeded."""
    kinds = ("F1", "F1g", "(-{i}-F1)", "{i}*F1", "abs({i}.5-F1g)")
    parts = [rng.choice(kinds).format(i=i) for i in range(leaves)]
    while len(parts) > 1:
        joined = [f"({a}{operator}{b})" for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = joined + parts[len(joined) * 2 :]
    return parts[0]


_KINDS = (derivation, derivation, mutation, mutation, splice, pieces, noise, structure)
