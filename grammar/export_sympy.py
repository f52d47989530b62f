"""A Score as the source of a Python file that builds its SymPy expression."""

from __future__ import annotations

import re

import sympy as sp
from sympy.printing.str import StrPrinter

from . import symbolic
from .expr import Node, statistics_of
from .text import text
from .types import AXES, NETWORK_FACTS, STATISTICS

_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_STRING = re.compile(r'"[^"]*"')
_KEYWORDS = ("real", "integer", "positive", "nonnegative", "True", "False")

_FILE = '''\
"""A zero-cost proxy for untrained networks as a SymPy expression, exported from its formula.

{formula}

``l`` is the layer; a statistic is indexed by layer, row and column. Numbers, with arrays for what is indexed:

    sympy.lambdify(arguments, score, "mpmath")(..)
"""

{imports}

{symbols}

score = {score}
arguments = ({arguments})
'''


def sympy_source(node: Node) -> str:
    """The Score as a file that defines ``score``, and ``arguments``: the symbols in it, for ``lambdify``.

    It needs SymPy, and proxforge where the formula takes a minimum, a maximum, singular values or a determinant.
    Raises ProxforgeError ``export`` as `symbolic.to_sympy` does.
    """
    score = symbolic.to_sympy(node)
    names = {str(s) for s in score.free_symbols}
    statistics = [(s.replace(".", "_"), s) for s in statistics_of([node])]
    kept = [(name, s) for name, s in statistics if name in names]
    axes = sorted(names & {a.lstrip("0123456789") for a in AXES})
    facts = [fact for fact in NETWORK_FACTS if fact in names]
    layers = ["layers"] if "layers" in names else []
    lines = [f'{name} = IndexedBase("{name}", real=True)  # {_about(s)}' for name, s in kept]
    lines += [f'{a} = IndexedBase("{a}", integer=True, positive=True)  # [layer]: {AXES[a]}' for a in axes]
    lines += [f'{name} = Symbol("{name}", integer=True, positive=True)  # their number' for name in layers]
    lines += [f'{fact} = Symbol("{fact}", positive=True)  # {NETWORK_FACTS[fact]}' for fact in facts]
    arguments = [*(name for name, _ in kept), *axes, *layers, *facts]
    bound = ", ".join(sorted(_bound(score)))
    if bound:
        lines.append(f'{bound} = symbols("{bound}", integer=True, nonnegative=True)')
    shown = _Printer().doprint(score)
    code = "\n".join([*(line.partition("#")[0] for line in lines), shown])
    return _FILE.format(
        formula="\n".join(f"    {line}" for line in text(node).split("; ")),
        imports=_imports(_STRING.sub("", code), {*arguments, *bound.split(", "), *_KEYWORDS}),
        symbols="\n".join(lines),
        score=shown,
        arguments=", ".join(arguments) + "," * (len(arguments) == 1),
    )


def _about(statistic: str) -> str:
    t = STATISTICS[statistic].type
    return f"[layer, {t.rows}, {t.cols}]: {STATISTICS[statistic].doc}"


def _bound(score: sp.Expr) -> set[str]:
    return {str(limit[0]) for part in sp.preorder_traversal(score) for limit in getattr(part, "limits", ())}


def _imports(source: str, defined: set[str]) -> str:
    """The names that the source uses and does not define."""
    used = set(_NAME.findall(source)) - defined
    own = sorted(name for name in used if name not in vars(sp))
    parts = [f"from sympy import {', '.join(sorted(used - set(own)))}"]
    if own:
        parts.append(f"from proxforge.grammar.symbolic import {', '.join(own)}")
    return "\n\n".join(parts)


class _Printer(StrPrinter):  # type: ignore[misc]
    """As Python that makes the same expression: 1/3 and 0.1 of Python are other numbers."""

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"Rational({expr.p}, {expr.q})"

    def _print_Float(self, expr: sp.Float) -> str:
        return repr(float(expr))
