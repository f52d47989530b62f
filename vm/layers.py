"""The last part of a program, for all networks at once: reductions over layers and arithmetic of Scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..grammar.ops import Op
from ..grammar.reference import in_range
from ..grammar.types import NETWORK_FACTS, Kind
from ..stats_cache.source import Source
from .program import OPCODES, Program

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def fact_table(source: Source, networks: Sequence[int]) -> Array:
    """The networks' own facts, float64 ``[fact, network]`` in the order of `NETWORK_FACTS`."""
    return np.array([[getattr(source.networks[i].size, name) for i in networks] for name in NETWORK_FACTS], np.float64)


def bounds(counts: Sequence[int]) -> tuple[NDArray[np.intp], Array]:
    """Where each network's layers begin among all layers, and how many they are, both ``[A]``, not to be changed."""
    return _bounds(tuple(counts))


@lru_cache(64)
def _bounds(counts: tuple[int, ...]) -> tuple[NDArray[np.intp], Array]:
    ends = np.cumsum(np.asarray(counts, np.intp))
    found = np.concatenate((np.zeros(1, np.intp), ends[:-1])), np.asarray(counts, np.float64)
    for array in found:
        array.flags.writeable = False
    return found


def _sum(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    return np.asarray(np.add.reduceat(values, starts, axis=-1))


def _mean(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    return _sum(values, starts, counts) / counts


def _std(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
    centred = values - np.repeat(_mean(values, starts, counts), counts.astype(np.intp), axis=-1)
    spread = np.sqrt(_sum(centred * centred, starts, counts) / np.maximum(counts - 1, 1))
    low, high = (f.reduceat(values, starts, axis=-1) for f in (np.minimum, np.maximum))
    return np.where(counts > 1, np.where(low == high, low * 0.0, spread), np.nan)


LAYER_OPS: dict[str, Callable[[Array, NDArray[np.intp], Array], Array]] = {
    "layer_mean": _mean,
    "layer_sum": _sum,
    "layer_min": lambda v, starts, counts: np.asarray(np.minimum.reduceat(v, starts, axis=-1)),
    "layer_max": lambda v, starts, counts: np.asarray(np.maximum.reduceat(v, starts, axis=-1)),
    "layer_std": _std,
}
"""Reductions of ``[.., T]`` layer values to ``[.., A]`` networks."""


def layer_op(op: Op) -> Callable[[Array, NDArray[np.intp], Array], Array]:
    """The reduction of an op; of one without a form for all networks at once, its reference network by network."""

    def one_by_one(values: Array, starts: NDArray[np.intp], counts: Array) -> Array:
        parts = np.split(np.atleast_2d(values), starts[1:], axis=1)
        found = np.array([[float(op.reference(row)) for row in part] for part in parts]).T
        return found.reshape(*values.shape[:-1], len(starts))

    return LAYER_OPS.get(op.name, one_by_one)


def by_register(rows: Mapping[int, int]) -> Indices:
    """The row of each register, up to the last; of one that is not among them any."""
    found = np.zeros(max(rows, default=-1) + 1, np.intp)
    found[list(rows)] = list(rows.values())
    return found


def _limited(values: Array, rows: Indices, table: Array) -> None:
    table[rows] = in_range(values)


def finish(
    program: Program,
    scalars: Array,
    rows: Indices,
    counts: Sequence[int],
    facts: Array,
    limited: Callable[[Array, Indices, Array], None] = _limited,
) -> Array:
    """Scores ``[P, A]`` from the Scalar registers after the layers' part.

    ``scalars``: float64 ``[S, T]``, layers of all networks in order; ``rows``: of each Scalar register that the rest
    reads the row of these, see `by_register`. ``counts``: layers per network ``[A]``. ``facts``: float64 ``[fact, A]``.
    Instructions of one kind that do not wait for each other are one step. ``limited``: writes values in float32's range
    to rows of a table.
    """
    starts, length = bounds(counts)
    known = _KNOWN_STEPS.get(program)
    if known is None:
        known = _KNOWN_STEPS[program] = _steps(program)
    steps, outputs = known
    values = np.empty((len(program) - program.split, len(length)))
    with np.errstate(all="ignore"):
        for code, places, first, second in steps:
            opcode = OPCODES[code]
            if opcode.name == "fact.x":
                values[places] = facts[first]
            elif opcode.op is None:
                values[places] = np.asarray(program.constants)[first, None]
            elif opcode.operands == (Kind.SCALAR,):
                found = layer_op(opcode.op)(scalars[rows[first]], starts, length)
                limited(np.ascontiguousarray(found), places, values)
            else:
                operands = (values[v] for v in (first, second)[: len(opcode.operands)])
                limited(np.ascontiguousarray(opcode.op.reference(*operands), np.float64), places, values)
    return np.asarray(values[outputs])


Step = tuple[int, Indices, Indices, Indices]
"""Opcode, the instructions, and for each its first and second source: an instruction, a register or an entry."""
_KNOWN_STEPS: WeakKeyDictionary[Program, tuple[list[Step], Indices]] = WeakKeyDictionary()
"""Of programs that are still there."""


def _steps(program: Program) -> tuple[list[Step], Indices]:
    """The instructions of the networks' part in steps, and the instruction that gives each output."""
    held: dict[int, int] = {}  # Score register -> the instruction that wrote it last
    depth: list[int] = []
    steps: dict[tuple[int, int], tuple[list[int], list[int], list[int]]] = {}
    split = program.split
    rows = zip(program.opcode[split:].tolist(), program.dst[split:].tolist(), program.src[split:].tolist(), strict=True)
    for i, (code, register, sources) in enumerate(rows):
        kinds = OPCODES[code].operands
        if kinds and kinds[0] is Kind.SCORE:
            sources = [held[r] for r in sources[: len(kinds)]]
            depth.append(1 + max(depth[v] for v in sources))
        else:
            depth.append(0)
        step = steps.setdefault((depth[i], code), ([], [], []))
        for indices, index in zip(step, (i, sources[0], sources[-1]), strict=True):
            indices.append(index)
        held[register] = i
    ordered: list[Step] = []
    for key in sorted(steps):
        at, first, second = (np.array(indices, np.intp) for indices in steps[key])
        ordered.append((key[1], at, first, second))
    return ordered, np.array([held[r] for r in program.outputs.tolist()], np.intp)
