"""The last part of a program, for all networks at once: reductions over layers and arithmetic of Scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..grammar.ops import Op
from ..grammar.reference import in_range
from ..grammar.types import NETWORK_FACTS, Kind
from ..stats_cache.source import Source
from .program import Program

Array = NDArray[np.float64]


def fact_table(source: Source, networks: Sequence[int]) -> Array:
    """The networks' own facts, float64 ``[fact, network]`` in the order of `NETWORK_FACTS`."""
    return np.array([[getattr(source.networks[i].size, name) for i in networks] for name in NETWORK_FACTS], np.float64)


def bounds(counts: Sequence[int]) -> tuple[NDArray[np.intp], Array]:
    """Where each network's layers begin among all layers, and how many they are, both ``[A]``."""
    ends = np.cumsum(np.asarray(counts, np.intp))
    return np.concatenate((np.zeros(1, np.intp), ends[:-1])), np.asarray(counts, np.float64)


def _sum(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    return np.asarray(np.add.reduceat(values, starts))


def _mean(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    return _sum(values, starts, counts) / counts


def _std(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    centred = values - np.repeat(_mean(values, starts, counts), counts.astype(np.intp))
    spread = np.sqrt(_sum(centred * centred, starts, counts) / np.maximum(counts - 1, 1))
    return np.where(counts > 1, spread, np.nan)


LAYER_OPS: dict[str, Callable[[Array, NDArray[np.intp], Array], Array]] = {
    "layer_mean": _mean,
    "layer_sum": _sum,
    "layer_min": lambda v, starts, counts: np.asarray(np.minimum.reduceat(v, starts)),
    "layer_max": lambda v, starts, counts: np.asarray(np.maximum.reduceat(v, starts)),
    "layer_std": _std,
}
"""Reductions of ``[T]`` layer values to ``[A]`` networks."""


def layer_op(op: Op) -> Callable[[Array, NDArray[np.intp], Array], Array]:
    """The reduction of an op; of one without a form for all networks at once, its reference network by network."""

    def one_by_one(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
        parts = np.split(values, starts[1:])
        return np.array([float(op.reference(part)) for part in parts])

    return LAYER_OPS.get(op.name, one_by_one)


def finish(program: Program, scalars: dict[int, Array], counts: Sequence[int], facts: Array) -> Array:
    """Scores ``[P, A]`` from the Scalar registers after the layers' part.

    ``scalars``: register -> float64 ``[T]``, layers of all networks in order. ``counts``: layers per network ``[A]``.
    ``facts``: float64 ``[fact, A]``.
    """
    starts, length = bounds(counts)
    registers: dict[int, Array] = {}
    with np.errstate(all="ignore"):
        for opcode, dst, src in program.instructions(program.split):
            if opcode.name == "fact.x":
                value = facts[src[0]]
            elif opcode.op is None:
                value = np.full(len(length), program.constants[src[0]])
            elif opcode.operands == (Kind.SCALAR,):
                value = in_range(layer_op(opcode.op)(scalars[src[0]], starts, length))
            else:
                operands = (registers[r] for _, r in zip(opcode.operands, src, strict=False))
                value = in_range(np.asarray(opcode.op.reference(*operands)))
            registers[dst] = value
    return np.stack([registers[int(r)] for r in program.outputs])
