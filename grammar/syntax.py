"""Text -> steps in postfix order. Lark compiles ``formula.lark``; its LALR(1) table is run here, on flat lists.

Nothing recurses, the text is read once, and an error costs no more than the place where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark
from lark.lexer import TerminalDef

from .errors import ProxyError

MAX_LENGTH = 131_072
"""Characters in one formula: enough for the text of as many operations as a formula may have."""
MAX_NESTING = 300
"""Parentheses open at one place, or signs in a row: more than the depth limit, so that the text of every program can be
read again."""

Step = tuple[str, str, int, int]
"""(form, its token, the token's offset in the text, how many of the values before it are its operands).

The forms are the names to the right of the arrows in ``formula.lark``; ``assign`` and ``result`` close a statement, and
the offset of a ``result`` is where its expression begins.
"""


def placed(error: ProxyError, text: str, at: int) -> ProxyError:
    """The error with its place: line and column of an offset in the text."""
    error.source = text
    error.line = text.count("\n", 0, at) + 1
    error.column = at - text.rfind("\n", 0, at)
    return error


def read(text: str) -> list[Step]:
    """The formula in postfix order: operands before what they belong to.

    ProxyError ``syntax`` or ``size``, with line and column.
    """
    if not isinstance(text, str):
        raise ProxyError("syntax", f"a formula is text (str), {type(text).__name__} was given; decode or convert it")
    if len(text) > MAX_LENGTH:
        raise ProxyError("size", f"the formula has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed")
    table = _table()
    rows, ignored = table.rows, table.ignored
    state = table.start
    states, values = [state], list[Any]()
    steps: list[Step] = []
    depth = signs = 0
    for token in table.tokens(text):
        kind = token.lastgroup
        if kind in ignored:
            continue
        signs = signs + 1 if kind == "MINUS" else 0
        if kind == "_LPAR":
            depth += 1
        if depth > MAX_NESTING or signs > MAX_NESTING:
            what = f"{MAX_NESTING} signs follow each other" if signs else f"{MAX_NESTING} parentheses are open here"
            raise placed(ProxyError("size", f"more than {what}"), text, token.start())
        if kind == "_RPAR":
            depth -= 1
        elif depth and kind == "_SEPARATOR" and token[0] == "\n":
            continue  # a line break inside parentheses separates nothing
        while True:
            action = rows[state].get(kind)
            if action is None:
                raise _out_of_place(table, states, token, text)
            if type(action) is int:
                state = action
                states.append(state)
                values.append(token)
                break
            size, origin, build = action
            if build is not None:
                value = build(values[-size:], steps)
                del values[-size:]
                values.append(value)
            elif size != 1:
                del values[1 - size :]
            del states[-size:]
            state = rows[states[-1]][origin]
            states.append(state)
    return steps


_Token = re.Match[str]
_Build = Callable[[list[Any], list[Step]], int]
"""Takes what a rule's parts gave, adds a step, and gives the offset where the part begins (or a number of operands)."""


def _leaf(form: str) -> _Build:
    def build(parts: list[Any], steps: list[Step]) -> int:
        token = parts[0]
        at: int = token.start()
        steps.append((form, token[0], at, 0))
        return at

    return build


def _binary(parts: list[Any], steps: list[Step]) -> int:
    start, token, _ = parts
    steps.append(("binary", token[0], token.start(), 2))
    return int(start)


def _negative(parts: list[Any], steps: list[Step]) -> int:
    at: int = parts[0].start()
    steps.append(("negative", "-", at, 1))
    return at


def _call(parts: list[Any], steps: list[Step]) -> int:
    name = parts[0]
    at: int = name.start()
    steps.append(("call", name[0], at, parts[2] if len(parts) == 4 else 0))
    return at


def _assign(parts: list[Any], steps: list[Step]) -> int:
    name = parts[0]
    at: int = name.start()
    steps.append(("assign", name[0], at, 1))
    return at


def _result(parts: list[Any], steps: list[Step]) -> int:
    at: int = parts[0]
    steps.append(("result", "", at, 1))
    return at


_BUILD: Mapping[str, _Build] = {
    "number": _leaf("number"),
    "statistic": _leaf("statistic"),
    "name": _leaf("name"),
    "binary": _binary,
    "negative": _negative,
    "call": _call,
    "group": lambda parts, steps: int(parts[0].start()),
    "first": lambda parts, steps: 1,
    "more": lambda parts, steps: int(parts[0]) + 1,
    "assign": _assign,
    "result": _result,
}
"""What a rule of the grammar does, by the name to the right of its arrow."""

_END = "_END"
_Action = int | tuple[int, str, _Build | None]
"""Shift to a state, or reduce: (parts of the rule, its name, what it does)."""


@dataclass(frozen=True)
class _Table:
    """The grammar, ready to run. ``tokens``: text -> tokens to the end, with the terminal's name as ``lastgroup``."""

    tokens: Callable[[str], Iterator[_Token]]
    ignored: frozenset[str]
    start: int
    rows: Mapping[int, Mapping[str | None, Any]]


@cache
def _table() -> _Table:
    lark = Lark(files(__package__).joinpath("formula.lark").read_text(encoding="utf-8"), parser="lalr")
    compiled = lark.parser.parser.parser.parse_table
    rows: dict[int, dict[str | None, Any]] = {
        state: {_named(k): _action(*v) for k, v in row.items()} for state, row in compiled.states.items()
    }
    (start,), (end,) = compiled.start_states.values(), compiled.end_states.values()
    rows[end] = {_END: end}  # the whole text was read
    return _Table(_tokens(lark.terminals), frozenset(lark.ignore_tokens), start, rows)


def _named(terminal: str) -> str:
    return _END if terminal == "$END" else str(terminal)


def _action(action: Any, target: Any) -> _Action:
    """Lark's action: Shift and a state, or Reduce and a rule."""
    if isinstance(target, int):
        return target
    return len(target.expansion), str(target.origin.name), _BUILD[target.alias] if target.alias else None


def _tokens(terminals: Collection[TerminalDef]) -> Callable[[str], Iterator[_Token]]:
    """One pattern for all terminals, those of higher priority first; any other character is a token of no name."""
    ordered = sorted(terminals, key=lambda t: -t.priority)
    named = [f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in ordered]
    return re.compile("|".join([*named, rf"(?P<{_END}>\Z)", "."]), re.DOTALL).finditer


def _out_of_place(table: _Table, states: list[int], token: _Token, text: str) -> ProxyError:
    return placed(ProxyError("syntax", _explained(table, states, token, text)), text, token.start())


def _explained(table: _Table, states: list[int], token: _Token, text: str) -> str:
    if token.lastgroup is None:
        return f"the character {token[0]!r} has no meaning in a formula"
    expected = _expected({kind for kind in table.rows[states[-1]] if kind and _accepts(table, states, kind)})
    if token.lastgroup == _END:
        what = "the formula is empty" if not text.strip() else "the formula ends too early"
        return f"{what}; expected {expected}"
    given = "a new line" if token[0] == "\n" else f"'{token[0][:40]}'"
    return f"{given} is out of place; expected {expected}"


def _accepts(table: _Table, states: list[int], kind: str) -> bool:
    """Whether the terminal could come next: an LALR(1) row may reduce before it refuses."""
    states = states.copy()
    while True:
        action = table.rows[states[-1]].get(kind)
        if not isinstance(action, tuple):
            return action is not None and kind.isupper()
        size, origin, _ = action
        del states[-size:]
        states.append(table.rows[states[-1]][origin])


_READABLE = {
    "_RPAR": "')'", "_LPAR": "'('", "COMMA": "','", "EQUAL": "'='", "_SEPARATOR": "a new line", _END: "the end"
}  # fmt: skip
_OPERATORS = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "AT"))
_STARTS = frozenset(("NUMBER", "NAME", "DOTTED", "MINUS", "_LPAR"))


def _expected(names: set[str]) -> str:
    """What may come next, for people: what can begin or continue a value is one thing."""
    words = []
    if "NUMBER" in names:
        words.append("a value (a statistic such as qkv.w, a number, a name, or an expression in parentheses)")
        names = names - _STARTS - {"_SEPARATOR"}
    elif names & _OPERATORS:
        words.append("an operator")
    words += [_READABLE[name] for name in sorted(names - _OPERATORS)]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
