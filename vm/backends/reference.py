"""The float64 reference: one network, one layer, one instruction at a time. It defines what every program means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...grammar.reference import FLOAT32_MAX, FLOAT32_TINY, in_range
from ...grammar.types import Kind
from ...stats_cache.source import Source
from ..program import FACT_NAMES, Program
from . import Array

BLOCK = 1 << 15
"""Elements that stay in a processor's cache from one pass to the next."""


def ranged(x: Array) -> Array:
    """`in_range`, to the byte, of a result that nothing else reads: in place, block by block, most in three passes."""
    if x.dtype != np.float64:
        return in_range(x)
    if x.ndim == 0:
        return x if FLOAT32_TINY <= abs(x) <= FLOAT32_MAX else in_range(x)
    x = np.require(x, requirements=["C", "W"])
    flat = x.reshape(-1)
    room = np.empty(min(BLOCK, len(flat)))
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        size = np.abs(block, out=room[: len(block)])
        if not size.max() <= FLOAT32_MAX:
            np.copyto(block, np.copysign(np.inf, block), where=size > FLOAT32_MAX)
        if not size.min() >= FLOAT32_TINY:
            np.multiply(block, np.greater_equal(size, FLOAT32_TINY, out=size), out=block)  # NaN stays NaN
            block += 0.0  # there is no -0
    return x


class ReferenceBackend:
    """numpy, float64, whole segments. Slow and obvious. ``result``: what becomes of every value that is computed."""

    name = "reference"
    device = "cpu"
    recalled = 0

    def __init__(self, source: Source, networks: Sequence[int], result: Callable[[Array], Array] = ranged) -> None:
        self._result = result
        self._source = source
        self._networks = tuple(networks)

    def run(self, program: Program, recalled: Sequence[Array] = (), keep: Sequence[int] = ()) -> tuple[Array, Array]:
        """See `Backend.run`."""
        scores = np.empty((len(program.outputs), len(self._networks)))
        kept: list[list[float]] = [[] for _ in keep]
        place = 0
        with np.errstate(all="ignore"):
            for column, network in enumerate(self._networks):
                files: list[dict[int, Array]] = []
                for layer in range(self._source.networks[network].layers):
                    remembered = [np.asarray(r[place]) for r in recalled]
                    scalars, values = self._layer(program, network, layer, remembered)
                    files.append(scalars)
                    for row, index in zip(kept, keep, strict=True):
                        row.append(float(values[index]))
                    place += 1
                scores[:, column] = self._network(program, network, files)
        return scores, np.array(kept).reshape(len(keep), place)

    def _layer(
        self, program: Program, network: int, layer: int, recalled: list[Array]
    ) -> tuple[dict[int, Array], dict[int, Array]]:
        """The Scalar registers after the layer's instructions, and the Scalar of every instruction."""
        registers: tuple[dict[int, Array], dict[int, Array]] = ({}, {})
        scalars: dict[int, Array] = {}
        for i, (opcode, dst, src) in enumerate(program.instructions(0, program.split)):
            if opcode.name == "load.m":
                value = self._result(self._source.read(network, program.statistics[src[0]], layer).astype(np.float64))
            elif opcode.name == "recall.s":
                value = recalled[src[0]]
            elif opcode.op is None:
                value = np.asarray(program.constants[src[0]])
            else:
                operands = (registers[k][r] for k, r in zip(opcode.operands, src, strict=False))
                value = self._result(np.asarray(opcode.op.reference(*operands)))
            registers[opcode.result][dst] = value
            if opcode.result is Kind.SCALAR:
                scalars[i] = value
        return registers[Kind.SCALAR], scalars

    def _network(self, program: Program, network: int, layers: list[dict[int, Array]]) -> list[float]:
        size = self._source.networks[network].size
        registers: dict[int, Array] = {}
        for opcode, dst, src in program.instructions(program.split):
            if opcode.name == "fact.x":
                value = np.asarray(float(getattr(size, FACT_NAMES[src[0]])))
            elif opcode.op is None:
                value = np.asarray(program.constants[src[0]])
            elif opcode.operands == (Kind.SCALAR,):
                column = np.array([float(file[src[0]]) for file in layers])
                value = self._result(np.asarray(opcode.op.reference(column)))
            else:
                operands = (registers[r] for _, r in zip(opcode.operands, src, strict=False))
                value = self._result(np.asarray(opcode.op.reference(*operands)))
            registers[dst] = value
        return [float(registers[int(r)]) for r in program.outputs]
