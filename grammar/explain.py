"""Why a program has no score, in words: which operand, its range, and where that is known from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .errors import ProxyError
from .expr import Node, topological
from .ops import Form
from .ranges import Span
from .text import text

Spans = Callable[[Node], Span]
"""What is known of a value, B = 1."""


def no_value(node: Node, spans: Spans, labels: Sequence[str]) -> ProxyError:
    """The node is NaN in a context: kind ``domain`` for an elementwise op, else ``nonfinite``."""
    context = int(np.argmax(spans(node).nan[0]))
    described = " and ".join(f"{_short(a)} is {_range(spans(a), context)}" for a in node.args)
    if node.op.form is Form.MAP and node.op.elementwise:
        needs = f"needs {node.op.domain}" if node.op.domain else "has no value here"
        return _error("domain", node, f"'{node.op.name}' {needs}: {described}, {labels[context]}")
    why = "gives NaN (inf - inf, 0 * inf or 0/0)"
    return _error("nonfinite", node, f"'{node.op.name}' {why}: {described}, {labels[context]}")


def infinite_score(root: Node, context: int, spans: Spans, labels: Sequence[str]) -> ProxyError:
    """The score is infinite in a context: the first infinite value that reaches it is at fault."""
    node = _first_infinite(root, context, spans)
    sign = "" if spans(root).low[0, context] > 0 else "-"
    described = " and ".join(f"{_short(a)} is {_range(spans(a), context)}" for a in node.args)
    message = f"'{node.op.name}' exceeds float32's range, so the score is {sign}inf: {described}, {labels[context]}"
    return _error("nonfinite", node, message)


def never_finite(node: Node, spans: Spans, labels: Sequence[str]) -> ProxyError:
    """The node is infinite or NaN, whichever, and so is the score."""
    described = " and ".join(f"{_short(a)} is {_range(spans(a), 0)}" for a in node.args)
    return _error(
        "nonfinite", node, f"'{node.op.name}' gives inf, -inf or NaN, and so does the score: {described}, {labels[0]}"
    )


def one_score(root: Node, low: float, high: float) -> ProxyError:
    """All scores lie between two numbers that are the same up to rounding."""
    value = f"{low:.10g}" if f"{low:.10g}" == f"{high:.10g}" else f"between {low:.12g} and {high:.12g}"
    message = f"the score is {value} for every network; a proxy must tell networks apart"
    return _error("constant", root, message)


def _first_infinite(root: Node, context: int, spans: Spans) -> Node:
    """Down from the root along operands that are infinite too."""
    below: dict[Node, Node] = {}
    for node in topological([root]):
        span = spans(node)
        if span.most[0, context] == np.inf or span.least[0, context] == -np.inf:
            below[node] = next((below[a] for a in node.args if a in below), node)
    return below[root]


def _error(kind: str, node: Node, message: str) -> ProxyError:
    error = ProxyError(kind, message)
    error.digest = node.digest
    return error


def _short(node: Node) -> str:
    written = text(node)
    return f"'{written}'" if len(written) <= 60 else f"'{written[:57]}...'"


def _range(span: Span, context: int) -> str:
    low, high = span.low[0, context], span.high[0, context]
    least, most = span.least[0, context], span.most[0, context]
    if low == high:
        return f"{low:.4g}"
    if low == -np.inf and high == np.inf and not np.isfinite([least, most]).any():
        return "any number"
    if np.isinf(low) and np.isfinite(least):
        return f"at its smallest {least:.4g} or less"
    if np.isinf(high) and np.isfinite(most):
        return f"at its largest {most:.4g} or more"
    return f"between {low:.4g} and {high:.4g}"
