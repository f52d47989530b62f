"""How large the numbers were that a score was combined from: what is small against them is rounding, not a score.

``sum(softmax(qkv.w)) - sum(softmax(qkv.g))`` is 0 for every network, but what is computed is the rounding of two large
sums. So each Score carries its scale: the sum of what was added, the product of what was multiplied. Inside a reduction
over a matrix the scale is the value itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..grammar.expr import Node, topological
from ..grammar.ops import FACT, Form
from ..grammar.types import Kind
from .layers import LAYER_OPS, bounds, layer_op
from .program import FACT_NAMES

Array = NDArray[np.float64]


def scales(
    roots: Sequence[Node], reduced: Mapping[bytes, Array], counts: Sequence[int], facts: Array
) -> NDArray[np.float64]:
    """The scale of every Score, ``[P, A]``, never below its absolute value; the arguments are those of `scaled`."""
    known = scaled(roots, reduced, counts, facts)
    return np.stack([np.maximum(known[r.digest][1], np.abs(known[r.digest][0])) for r in roots])


def scaled(
    nodes: Sequence[Node], reduced: Mapping[bytes, Array], counts: Sequence[int], facts: Array
) -> dict[bytes, tuple[Array, Array]]:
    """Value and scale of Scalars ``[T]`` and Scores ``[A]``, and of all of these below them, by digest.

    ``reduced``: digest -> values ``[T]`` of the reductions over matrices, for all layers of all networks. ``counts``:
    layers per network ``[A]``. ``facts``: the networks' own facts ``[fact, A]``.
    """
    starts, length = bounds(counts)
    known: dict[bytes, tuple[Array, Array]] = {}
    with np.errstate(all="ignore"):
        for node in topological(nodes, into=lambda n: all(a.type.kind is not Kind.MATRIX for a in n.args)):
            if node.facts.value is not None:
                value = np.full(len(length) if node.type.kind is Kind.SCORE else int(length.sum()), node.facts.value)
                known[node.digest] = value, np.abs(value)
            elif node.op is FACT:
                value = facts[FACT_NAMES.index(str(node.attr))]
                known[node.digest] = value, np.abs(value)
            elif node.digest in reduced:
                known[node.digest] = reduced[node.digest], np.abs(reduced[node.digest])
            elif node.op.form is Form.LAYERS:
                value, scale = known[node.args[0].digest]
                combine = LAYER_OPS["layer_sum" if node.op.name == "layer_sum" else "layer_max"]
                known[node.digest] = layer_op(node.op)(value, starts, length), combine(scale, starts, length)
            else:
                known[node.digest] = _combined(node, [known[a.digest] for a in node.args])
    return known


def _combined(node: Node, operands: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Value and scale of an op on Scalars or Scores."""
    if node.op.arity == 1:
        ((x, scale),) = operands
        value = node.op.each(x)
        same = np.abs(value) == np.abs(x)  # the number or its absolute value, as most reductions of one number
        return value, np.where(same, scale, np.abs(value) * _relative(x, scale))
    (a, of_a), (b, of_b) = operands
    if node.op.name in ("*", "@", "dot"):  # of two Scalars in every layer each is their product
        return a * b, of_a * of_b
    value = node.op.each(a, b)
    if node.op.name in ("+", "-"):
        return value, of_a + of_b
    if node.op.name == "/":
        return value, of_a * of_b / (b * b)
    return value, np.abs(value) * _relative(a, of_a) * _relative(b, of_b)


def _relative(x: Array, scale: Array) -> Array:
    """How much larger the scale is than the value: a relative error passes through an op."""
    return np.maximum(scale / np.where(x == 0, np.inf, np.abs(x)), 1.0)
