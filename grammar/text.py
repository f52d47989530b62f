"""Typed expression -> text and LaTeX. ``parse(text(p))`` is ``p``."""

from __future__ import annotations

from .expr import Node, Pool, topological
from .ops import FACT, NUMBER, OPS, STATISTIC, Form, Op
from .types import STATISTICS, Kind

FLAT_LIMIT = 64
"""An expression with more operations than this, written out, is shown as a program with named parts."""


def text(node: Node) -> str:
    """The formula, with implied reductions left out, one line; named parts where sharing makes it long."""
    return _Writer(latex=False).write(node)


def latex(node: Node) -> str:
    """The formula as LaTeX (math mode)."""
    return _Writer(latex=True).write(node)


def _implied(node: Node) -> Node:
    """Without the reductions that the language implies at the root."""
    if node.op.name == "layer_mean":
        node = node.args[0]
        if node.op.name == "mean" and node.args[0].type.kind is Kind.MATRIX:
            node = node.args[0]
    return node


def _number(value: float) -> tuple[str, int]:
    short = repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    return short, (3 if value < 0 else 9)


class _Writer:
    """Writes bottom-up, each shared part once, without recursion."""

    def __init__(self, *, latex: bool) -> None:
        self._latex = latex

    def write(self, root: Node) -> str:
        negative = root.op.name == "neg" and _implied(root.args[0]) is not root.args[0]
        root = _implied(root.args[0] if negative else root)
        if negative:  # the sign of a score belongs to the formula: its reductions are implied as well
            root = Pool().apply(OPS["neg"], root)
        order = topological([root])
        written: dict[int, tuple[str, int]] = {}
        named = self._named(root, order)
        lines: list[str] = []
        for node in order:
            formula = self._form(node, written)
            if node in named:
                name = f"t{len(lines) + 1}"
                shown = f"t_{{{len(lines) + 1}}}" if self._latex else name
                lines.append(f"{shown} = {formula[0]}")
                formula = (shown, 9)
            written[id(node)] = formula
        separator = r", \quad " if self._latex else "; "
        return separator.join((*lines, written[id(root)][0]))

    def _named(self, root: Node, order: list[Node]) -> set[Node]:
        """Parts used more than once, when the formula written out would be long."""
        size: dict[int, int] = {}
        uses: dict[int, int] = {}
        for node in order:
            size[id(node)] = min(1 + sum(size[id(a)] for a in node.args), FLAT_LIMIT + 1)
            for a in node.args:
                uses[id(a)] = uses.get(id(a), 0) + 1
        if size[id(root)] <= FLAT_LIMIT:
            return set()
        return {n for n in order if n.args and uses.get(id(n), 0) > 1}

    def _form(self, node: Node, written: dict[int, tuple[str, int]]) -> tuple[str, int]:
        """The text and the precedence of its outermost operator."""
        if node.op is NUMBER:
            return _number(float(node.attr))
        if node.op is STATISTIC:
            return (STATISTICS[str(node.attr)].latex if self._latex else str(node.attr)), 9
        if node.op is FACT:
            return (rf"\mathrm{{{node.attr}}}" if self._latex else str(node.attr)), 9
        op, parts = self._read(node, written)
        if self._latex:
            return self._latex_form(op, parts, node)
        if op.name == "neg":
            return f"-{_wrapped(parts[0], 3)}", 3
        if op.infix:
            level = op.precedence
            return f"{_wrapped(parts[0], level)} {op.name} {_wrapped(parts[1], level + 1)}", level
        return f"{op.name}({', '.join(p[0] for p in parts)})", 9

    def _read(self, node: Node, written: dict[int, tuple[str, int]]) -> tuple[Op, list[tuple[str, int]]]:
        """The op and its operands as people write them: -(a - b) is b - a, and -2 + a is a - 2."""
        parts = [written[id(a)] for a in node.args]
        first = node.args[0]
        if node.op.name == "neg" and first.op.name in ("+", "-") and parts[0][1] == OPS["-"].precedence:  # no name
            a, b = first.args
            if first.op.name == "-":
                return OPS["-"], [written[id(b)], written[id(a)]]
            if first.op.name == "+" and a.op is NUMBER and float(a.attr) < 0:
                return OPS["-"], [_number(-float(a.attr)), written[id(b)]]
        if node.op.name == "+" and first.op is NUMBER and float(first.attr) < 0:
            return OPS["-"], [parts[1], _number(-float(first.attr))]
        return node.op, parts

    def _latex_form(self, op: Op, parts: list[tuple[str, int]], node: Node) -> tuple[str, int]:
        if op.arity == 2 and not op.infix:
            return op.latex.format(*(p[0] for p in parts)), 9
        if op.infix:
            level = op.precedence
            if op.name == "/":
                return op.latex.format(*(p[0] for p in parts)), 9
            left = _wrapped(parts[0], level, r"\left({}\right)")
            right = _wrapped(parts[1], level + 1, r"\left({}\right)")
            template = op.latex
            if op.name == "*" and Kind.MATRIX not in {a.type.kind for a in node.args}:
                template = r"{0} \cdot {1}"
            return template.format(left, right), level
        if op.name == "neg":
            return op.latex.format(_wrapped(parts[0], 3, r"\left({}\right)")), 3
        loose = op.form in (Form.REDUCE, Form.LAYERS) and r"\left" not in op.latex  # a sum sign binds loosely
        operand = _wrapped(parts[0], 2, r"\left({}\right)") if loose else parts[0][0]
        return op.latex.format(operand), (2 if loose else 9)


def _wrapped(part: tuple[str, int], level: int, brackets: str = "({})") -> str:
    return brackets.format(part[0]) if part[1] < level else part[0]
