"""Text -> typed expression. Every problem is one ProxyError with the place in the text."""

from __future__ import annotations

from dataclasses import dataclass

from .canonical import canonical_pool
from .errors import ProxyError, nearest
from .expr import MAX_NODES, Node, Pool, topological
from .ops import CALLABLE, OPS
from .reference import FLOAT32_MAX
from .syntax import MAX_LENGTH as MAX_LENGTH
from .syntax import MAX_NESTING as MAX_NESTING
from .syntax import placed, read
from .types import ALIASES, NETWORK_FACTS, STATISTICS, Type

MAX_STEPS = 4 * MAX_NODES
"""Names, numbers, operators, calls and statements in one formula: enough for the text of every program, where a shared
part is named and each of its uses is a name."""
MAX_NAMES = MAX_NODES
"""Names assigned in one program."""
MAX_NAME = 64
"""Characters of a name that is assigned."""
_SUGGESTED = 16
"""The latest assigned names are compared with one that is not known."""


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
    program = _Program(canonical_pool() if pool is None else pool)
    steps = read(text)
    at = 0
    try:
        if len(steps) > MAX_STEPS:
            at = steps[MAX_STEPS][2]
            raise ProxyError("size", f"more than {MAX_STEPS:,} names, numbers and operators; shorten the formula")
        for step in steps:
            form, token, at, count = step
            program.take(form, token, count)
        parsed = program.parsed()
        if len(steps) > MAX_NODES:
            topological([parsed.score])  # counts them
    except ProxyError as error:
        raise placed(error, text, at) from None
    return parsed


class _Program:
    """Runs the steps of a formula on a stack of values."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._names: dict[str, Node] = {}
        self._values: list[Node] = []
        self._result: Node | None = None
        self._assigned = ""

    def take(self, form: str, token: str, count: int) -> None:
        """One step. ProxyError, without a place, for what is wrong with it."""
        values, pool = self._values, self._pool
        if form == "statistic":
            values.append(pool.statistic(token))
        elif form == "call" or form == "binary":
            op = (CALLABLE if form == "call" else OPS).get(token)
            if op is None:
                raise ProxyError("name", f"no op is called '{token[:80]}'{nearest(token, CALLABLE)}")
            if count == 1:
                values[-1] = pool.apply(op, values[-1])
            else:
                args = values[len(values) - count :]
                del values[len(values) - count :]
                values.append(pool.apply(op, *args))
        elif form == "name":
            values.append(self._named(token))
        elif form == "number":
            values.append(pool.number(_number(token)))
        elif form == "negative":
            values[-1] = pool.apply(OPS["neg"], values[-1])
        else:
            self._statement(form, token)

    @property
    def latest(self) -> bytes | None:
        """The digest of the value that the last step made, if it made one."""
        return self._values[-1].digest if self._values else None

    def parsed(self) -> Parsed:
        """The program as a whole."""
        if self._result is None:
            message = (
                f"the program ends with an assignment; add a last line with the expression, such as '{self._assigned}'"
            )
            raise ProxyError("syntax", message)
        return Parsed(_not_constant(self._pool.score(self._result)), self._result.type)

    def _statement(self, form: str, token: str) -> None:
        if self._result is not None:
            message = "only the last line can be an expression; assign the earlier ones to a name, as in 'a = ..'"
            raise ProxyError("syntax", message)
        value = self._values.pop()
        if form == "result":
            self._result = value
            return
        if token in CALLABLE or token in NETWORK_FACTS or token in ALIASES:
            message = f"'{token}' is a name of the language and cannot be assigned; choose another name"
            raise ProxyError("name", message)
        if len(token) > MAX_NAME:
            raise ProxyError(
                "size", f"the name '{token[:20]}..' has {len(token):,} characters, at most {MAX_NAME} are allowed"
            )
        self._names[token] = value
        self._assigned = token
        if len(self._names) > MAX_NAMES:
            raise ProxyError(
                "size", f"more than {MAX_NAMES:,} names are assigned; use names again, or shorten the program"
            )

    def _named(self, token: str) -> Node:
        node = self._names.get(token)
        if node is not None:
            return node
        if token in ALIASES:
            return self._pool.statistic(token)
        if token in NETWORK_FACTS:
            return self._pool.fact(token)
        if token in CALLABLE:
            message = f"'{token}' is an op and needs its operands in parentheses, as in {CALLABLE[token].usage}"
            raise ProxyError("syntax", message)
        known = (*tuple(self._names)[-_SUGGESTED:], *ALIASES, *NETWORK_FACTS, *STATISTICS)
        raise ProxyError("name", f"the name '{token[:80]}' is not known{nearest(token, known)}")


def _number(token: str) -> float:
    value = float(token)
    if abs(value) > FLOAT32_MAX:
        raise ProxyError("nonfinite", f"the number {token[:40]} exceeds float32's range ({FLOAT32_MAX:.2g})")
    return value


def _not_constant(score: Node) -> Node:
    value = score.facts.value
    if value is not None:
        message = f"the score is {value:g} for every network; a proxy must depend on a statistic or on the network"
        raise ProxyError("constant", message)
    return score


def locate(error: ProxyError, text: str) -> ProxyError:
    """The error with the place where the sub-expression at fault (its ``digest``) is first written; where it is only
    implied, with that of the last expression."""
    program = _Program(canonical_pool())
    place = 0
    for form, token, place, count in read(text):  # noqa: B007  (the last one is used after the loop)
        program.take(form, token, count)
        if program.latest == error.digest:
            break
    return placed(error, text, place)
