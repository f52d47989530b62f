"""A proxy as a source file that needs torch alone: it scores one network from its tensors, in float64."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node, statistics_of, topological
from ..grammar.ops import FACT, NUMBER, STATISTIC, Form, Op
from ..grammar.text import text
from ..grammar.types import STATISTICS, Kind

_CALL = re.compile(r"(?<![\w.])([a-z]\w*)\(")

_CONSTANTS = (
    "EPS = 1e-9",
    "FLOAT32_MAX = torch.finfo(torch.float32).max",
    "FLOAT32_TINY = torch.finfo(torch.float32).tiny",
)

_FILE = '''\
"""A zero-cost proxy for untrained networks, exported from its formula. Needs torch alone.

{formula}
"""

import torch
from torch import Tensor

{constants}


{helpers}


def score({signature}) -> float:
    """The score of one network, computed in float64 with float32's range.

    layers: one dict per layer, name of a statistic -> tensor:
{statistics}{facts}
    The score is NaN or infinite where the formula has no value.
    """
{body}
'''


def to_torch(node: Node) -> str:
    """The Score expression as the source of a module with one function ``score(layers, facts)``.

    ``layers``: one dict per layer, statistic -> tensor ``[r, c]``; ``facts``: the network's own facts by name, a
    parameter only where the formula reads one. It returns what the reference backend computes, up to float64 rounding.

    Raises ProxforgeError ``export`` for a registered op without a torch expression.
    """
    from . import standalone

    order = topological([node])
    statistics = statistics_of([node])
    facts = sorted({str(n.attr) for n in order if n.op is FACT})
    body = _body(order, node)
    helpers = _helpers(body, vars(standalone))
    constants = [line for line in _CONSTANTS if re.search(rf"\b{line.split()[0]}\b", body + "".join(helpers))]
    return _FILE.format(
        formula="\n".join(f"    {line}" for line in text(node).split("; ")),
        constants="\n".join(constants),
        helpers="\n\n\n".join(helpers),
        signature="layers: list[dict[str, Tensor]]" + (", facts: dict[str, float]" if facts else ""),
        statistics="".join(f"      {name}: {_shape(name)}\n" for name in statistics),
        facts=f"    facts: of the network: {', '.join(facts)}\n" if facts else "",
        body=body,
    )


def torch_function(op: Op) -> Callable[..., Any]:
    """The op's torch expression as a function of tensors ``[r, c]`` or 0-d. ProxforgeError ``export`` without one."""
    from . import standalone

    names = ("x", "y")[: op.arity]
    made: Callable[..., Any] = eval(f"lambda {', '.join(names)}: {_expression(op, *names)}", dict(vars(standalone)))
    return made


def _expression(op: Op, *operands: str) -> str:
    if not op.torch:
        message = f"the op '{op.name}' has no torch expression; register it with one, as in torch=\"torch.tanh({{0}})\""
        raise ProxforgeError("export", message)
    return op.torch.format(*operands)


def _body(order: list[Node], root: Node) -> str:
    """The statements of the function: what runs for every layer, then what runs once."""
    names: dict[int, str] = {}
    layer: list[str] = []
    network: list[str] = []
    steps = {"t": itertools.count(1), "x": itertools.count(1)}
    reduced = {id(n.args[0]): n.args[0] for n in order if n.op.form is Form.LAYERS}
    columns = {key: f"s{i}" for i, key in enumerate(reduced, start=1)}
    for node in order:
        score = node.type.kind is Kind.SCORE
        letter = "x" if score else "t"
        name = str(node.attr).replace(".", "_") if node.op is STATISTIC else f"{letter}{next(steps[letter])}"
        operands = [columns[id(a)] if node.op.form is Form.LAYERS else names[id(a)] for a in node.args]
        (network if score else layer).append(f"{name} = {_value(node, operands)}")
        names[id(node)] = name
    parts = []
    if columns:
        kept = _tuple([names[key] for key in reduced])
        parts = ["scalars = []", "for layer in layers:", *(f"    {line}" for line in layer)]
        parts.append(f"    scalars.append({kept})")
        parts.append(f"{_tuple(list(columns.values()))} = (torch.stack(column) for column in zip(*scalars))")
    parts += [*network, f"return float({names[id(root)]})"]
    return "\n".join(f"    {line}" for line in parts)


def _tuple(names: list[str]) -> str:
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _value(node: Node, operands: list[str]) -> str:
    if node.op is STATISTIC:
        return f'in_range(layer["{node.attr}"].double())'
    if node.op is NUMBER:
        return f"number({float(node.attr)!r})"
    if node.op is FACT:
        return f'number(facts["{node.attr}"])'
    return f"in_range({_expression(node.op, *operands)})"


def _helpers(body: str, module: Mapping[str, Any]) -> list[str]:
    """The source of the functions that the body calls, in the order of their module."""
    functions = {name: f for name, f in module.items() if isinstance(f, FunctionType)}
    needed: set[str] = set()
    todo = [body]
    while todo:
        for name in _CALL.findall(todo.pop()):
            if name in functions and name not in needed:
                needed.add(name)
                todo.append(inspect.getsource(functions[name]))
    return [inspect.getsource(f).rstrip() for name, f in functions.items() if name in needed]


def _shape(statistic: str) -> str:
    t = STATISTICS[statistic].type
    return f"[{t.rows}, {t.cols}], {STATISTICS[statistic].doc}"
