"""Text -> typed expression. Every problem is one ProxyError with the place in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from .canonical import canonical_pool
from .errors import ProxyError, nearest
from .expr import MAX_NODES, Node, Pool
from .ops import CALLABLE, OPS
from .reference import FLOAT32_MAX
from .types import ALIASES, NETWORK_FACTS, STATISTICS, Type

MAX_LENGTH = 131_072
"""Characters in one formula: enough for the text of `MAX_NODES` operations."""
MAX_NESTING = 300
"""Parentheses open at one place: more than `MAX_DEPTH`, so that the text of every program can be read again."""
MAX_NAMES = 256
"""Assignments in one program."""

_RESERVED = frozenset((*CALLABLE, *NETWORK_FACTS, *ALIASES))


@dataclass(frozen=True, slots=True)
class _Ast:
    """One syntactic form; ``at`` is the token that an error points at."""

    form: str
    at: Token
    args: tuple[_Ast, ...] = ()


@v_args(inline=True)
class _Build(Transformer[Token, Any]):
    """Runs inside the parser, bottom-up, so no recursion on the user's depth."""

    def start(self, *statements: _Ast) -> tuple[_Ast, ...]:
        return statements

    def assign(self, name: Token, value: _Ast) -> _Ast:
        return _Ast("assign", name, (value,))

    def binary(self, left: _Ast, operator: Token, right: _Ast) -> _Ast:
        return _Ast("binary", operator, (left, right))

    def negative(self, minus: Token, operand: _Ast) -> _Ast:
        return _Ast("negative", minus, (operand,))

    def number(self, token: Token) -> _Ast:
        return _Ast("number", token)

    def statistic(self, token: Token) -> _Ast:
        return _Ast("statistic", token)

    def name(self, token: Token) -> _Ast:
        return _Ast("name", token)

    def call(self, name: Token, *args: _Ast) -> _Ast:
        return _Ast("call", name, args)


class _Nesting:
    """Between lexer and parser: a line break inside parentheses separates nothing; nesting is limited."""

    always_accept = ("_SEPARATOR",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        for token in stream:
            if token.type == "_LPAR":
                depth += 1
                if depth > MAX_NESTING:
                    raise _at(ProxyError("size", f"more than {MAX_NESTING} parentheses are open here"), token)
            elif token.type == "_RPAR":
                depth -= 1
            elif token.type == "_SEPARATOR" and depth > 0 and token == "\n":
                continue
            yield token


@cache
def _parser() -> Lark:
    text = files(__package__).joinpath("formula.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", transformer=_Build(), postlex=_Nesting(), maybe_placeholders=False)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A formula. ``score``: what it computes, a Score. ``type``: of the formula as it is written, before the reductions
    that the language implies."""

    score: Node
    type: Type


def parse(text: str, pool: Pool | None = None) -> Node:
    """The formula as a Score expression, see `parse_formula`."""
    return parse_formula(text, pool).score


def parse_formula(text: str, pool: Pool | None = None) -> Parsed:
    """The formula in canonical form, unless ``pool`` says otherwise.

    Parameters
    ----------
    text : an expression (``mean(abs(qkv.w))``), or assignments separated by line breaks or ``;`` and a last expression.
    pool : where the nodes are made and shared; a new canonical pool if None.

    Raises
    ------
    ProxyError
        kind ``syntax``, ``name``, ``type``, ``shape``, ``nonfinite``, ``constant`` or ``size``, with line and column.
    """
    pool = canonical_pool() if pool is None else pool
    if len(text) > MAX_LENGTH:
        raise ProxyError("size", f"the formula has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed")
    statements = _syntax(text)
    try:
        return _elaborate(statements, pool)
    except ProxyError as error:
        error.source = text
        raise


def _syntax(text: str) -> tuple[_Ast, ...]:
    try:
        return _parser().parse(text)  # type: ignore[return-value]
    except ProxyError as error:
        error.source = text
        raise
    except UnexpectedInput as error:
        line, column, message = _explain(error, text)
        raise ProxyError("syntax", message, line, column, text) from None


_READABLE = {
    "_RPAR": "')'", "_LPAR": "'('", "COMMA": "','", "EQUAL": "'='", "_SEPARATOR": "a new line", "$END": "the end"
}  # fmt: skip
_OPERATORS = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "AT"))
_STARTS = frozenset(("NUMBER", "NAME", "DOTTED", "MINUS", "_LPAR"))


def _expected(names: set[str]) -> str:
    """What may come next, for people: what can begin or continue a value is one thing."""
    words = []
    if "NUMBER" in names:
        words.append("a value (a statistic such as qkv.w, a number, a name, or an expression in parentheses)")
        names = names - _STARTS
    elif names & _OPERATORS:
        words.append("an operator")
    words += [_READABLE[name] for name in sorted(names - _OPERATORS)]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _explain(error: UnexpectedInput, text: str) -> tuple[int, int, str]:
    if isinstance(error, UnexpectedCharacters):
        return error.line, error.column, f"the character {error.char!r} has no meaning in a formula"
    assert isinstance(error, UnexpectedToken)
    expected = _expected(set(error.accepts or error.expected))
    token = error.token
    if token.type == "$END":
        lines = text.split("\n")
        what = "the formula is empty" if not text.strip() else "the formula ends too early"
        return len(lines), len(lines[-1]) + 1, f"{what}; expected {expected}"
    given = "a new line" if token == "\n" else f"'{str(token)[:40]}'"
    return token.line or 1, token.column or 1, f"{given} is out of place; expected {expected}"


def _at(error: ProxyError, token: Token) -> ProxyError:
    error.line, error.column = token.line, token.column
    return error


def _elaborate(statements: tuple[_Ast, ...], pool: Pool) -> Parsed:
    names: dict[str, Node] = {}
    last: Node | None = None
    budget = [MAX_NODES]
    for statement in statements:
        if statement.form == "assign":
            name = str(statement.at)
            if name in _RESERVED:
                message = f"'{name}' is a name of the language and cannot be assigned; choose another name"
                raise _at(ProxyError("name", message), statement.at)
            names[name] = _value(statement.args[0], names, pool, budget)
            if len(names) > MAX_NAMES:
                raise _at(ProxyError("size", f"more than {MAX_NAMES} names are assigned"), statement.at)
            last = None
        elif last is not None:
            message = "only the last line can be an expression; assign the earlier ones to a name, as in 'a = ..'"
            raise _at(ProxyError("syntax", message), _first(statement))
        else:
            last = _value(statement, names, pool, budget)
    end = statements[-1]
    if last is None:
        message = f"the program ends with an assignment; add a last line with the expression, such as '{end.at}'"
        raise _at(ProxyError("syntax", message), end.at)
    try:
        return Parsed(_not_constant(pool.score(last)), last.type)
    except ProxyError as error:
        raise _at(error, _first(end)) from None


def _first(ast: _Ast) -> Token:
    while ast.form == "binary":
        ast = ast.args[0]
    return ast.at


def _not_constant(score: Node) -> Node:
    value = score.facts.value
    if value is not None:
        message = f"the score is {value:g} for every network; a proxy must depend on a statistic or on the network"
        raise ProxyError("constant", message)
    return score


def _value(root: _Ast, names: dict[str, Node], pool: Pool, budget: list[int]) -> Node:
    """Post-order over the syntax with a stack of values."""
    todo: list[tuple[_Ast, bool]] = [(root, False)]
    done: list[Node] = []
    while todo:
        ast, ready = todo.pop()
        if ast.args and not ready:
            todo.append((ast, True))
            todo.extend((a, False) for a in reversed(ast.args))
            continue
        budget[0] -= 1
        if budget[0] < 0:
            raise _at(ProxyError("size", f"more than {MAX_NODES} operations in one formula; shorten it"), ast.at)
        args = tuple(done[len(done) - len(ast.args) :])
        del done[len(done) - len(ast.args) :]
        try:
            done.append(_node(ast, args, names, pool))
        except ProxyError as error:
            raise _at(error, ast.at) from None
    return done[0]


def _node(ast: _Ast, args: tuple[Node, ...], names: dict[str, Node], pool: Pool) -> Node:
    text = str(ast.at)
    if ast.form == "number":
        value = float(text)
        if abs(value) > FLOAT32_MAX:
            raise ProxyError("nonfinite", f"the number {text[:40]} exceeds float32's range ({FLOAT32_MAX:.2g})")
        return pool.number(value)
    if ast.form == "statistic":
        return pool.statistic(text)
    if ast.form == "name":
        return _named(text, names, pool)
    if ast.form == "call":
        if text not in CALLABLE:
            raise ProxyError("name", f"no op is called '{text[:80]}'{nearest(text, CALLABLE)}")
        return pool.apply(CALLABLE[text], *args)
    return pool.apply(OPS["neg" if ast.form == "negative" else text], *args)


def _named(text: str, names: dict[str, Node], pool: Pool) -> Node:
    if text in names:
        return names[text]
    if text in ALIASES:
        return pool.statistic(text)
    if text in NETWORK_FACTS:
        return pool.fact(text)
    if text in CALLABLE:
        raise ProxyError("syntax", f"'{text}' is an op and needs its operand in parentheses, as in {text}(qkv.w)")
    known = (*names, *ALIASES, *NETWORK_FACTS, *STATISTICS)
    raise ProxyError("name", f"the name '{text[:80]}' is not known{nearest(text, known)}")
