"""The bytecode: flat typed arrays, register-allocated, serialisable by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.ops import OPS, Form, Op
from ..grammar.types import NETWORK_FACTS, Kind

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Opcode:
    """One instruction kind: ``op`` on registers of the files ``operands``, into a register of the file ``result``.

    The leaves (``op`` is None) read no register: ``load`` a statistic, ``const`` a number, ``fact`` a network's own
    fact, ``recall`` a Scalar that was reduced before; their first source is an index into the program's table.
    """

    name: str
    op: Op | None
    operands: tuple[Kind, ...]
    result: Kind


def _variants(op: Op) -> Iterator[tuple[tuple[Kind, ...], Kind]]:
    m, s, x = Kind.MATRIX, Kind.SCALAR, Kind.SCORE
    if op.form is Form.LAYERS:
        yield (s,), x
    elif op.form is Form.REDUCE:
        yield from (((m,), s), ((s,), s))
    elif op.form is Form.DOT:
        yield from (((m, m), s), ((s, s), s))
    elif op.form is Form.PRODUCT:
        yield from (((m, m), m), ((s, s), s))
    elif op.form is Form.JOIN:
        yield from (((m, m), m), ((m, s), m), ((s, m), m), ((s, s), s), ((x, x), x))
    else:
        yield from (((m,), m), ((s,), s))
        if op.name == "neg":
            yield (x,), x


_LEAVES = (
    Opcode("load.m", None, (), Kind.MATRIX),
    Opcode("const.s", None, (), Kind.SCALAR),
    Opcode("recall.s", None, (), Kind.SCALAR),
    Opcode("const.x", None, (), Kind.SCORE),
    Opcode("fact.x", None, (), Kind.SCORE),
)

OPCODES: list[Opcode] = list(_LEAVES)
"""Every instruction kind, from the op table. The numbers hold in one process only: a stored program has the names."""

CODE: dict[str, int] = {o.name: i for i, o in enumerate(OPCODES)}
CODE_OF: dict[tuple[str, tuple[Kind, ...]], int] = {}


def add(op: Op) -> None:
    """Gives the op its instructions."""
    for operands, result in _variants(op):
        opcode = Opcode(f"{op.mnemonic or op.name}.{''.join(k.letter for k in operands)}", op, operands, result)
        CODE[opcode.name] = CODE_OF[op.name, operands] = len(OPCODES)
        OPCODES.append(opcode)


def remove(op: Op) -> None:
    """Takes the op's instructions out of use; their numbers stay taken, for programs that were made with them."""
    for operands, _ in _variants(op):
        del CODE[OPCODES[CODE_OF.pop((op.name, operands))].name]


def in_use() -> list[Opcode]:
    """The instructions of the ops that there are now."""
    return [OPCODES[code] for code in CODE.values()]


for _op in OPS.values():
    add(_op)

FACT_NAMES: tuple[str, ...] = tuple(NETWORK_FACTS)


@dataclass(frozen=True, eq=False)
class Program:
    """One or many proxies as instructions over three register files: ``m`` (Matrix), ``s`` (Scalar), ``x`` (Score).

    ``opcode``, ``dst``, ``src`` : int32 ``[N]``, ``[N]``, ``[N, 2]``; unused sources are 0.
    ``axes`` : the axis names of each instruction's result, ``("", "")`` where it is no Matrix.
    ``outputs`` : int32 ``[P]``, the Score register of each proxy when the program has run.
    ``registers`` : how many of each file. The instructions before `split` run once a layer, the rest once a network.
    """

    opcode: Ints
    dst: Ints
    src: Ints
    axes: tuple[tuple[str, str], ...]
    constants: tuple[float, ...]
    statistics: tuple[str, ...]
    recalled: tuple[str, ...]
    outputs: Ints
    registers: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.opcode)

    @cached_property
    def split(self) -> int:
        """The number of instructions that run once a layer."""
        return sum(OPCODES[c].result is not Kind.SCORE for c in self.opcode)

    def instructions(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Opcode, int, tuple[int, int]]]:
        """(opcode, destination, sources), in order."""
        rows = zip(self.opcode[start:stop], self.dst[start:stop], self.src[start:stop], strict=True)
        for code, dst, (a, b) in rows:
            yield OPCODES[code], int(dst), (int(a), int(b))

    def disassemble(self) -> list[str]:
        """One line per instruction, then one ``ret`` per proxy."""
        lines = []
        for (opcode, dst, src), axes in zip(self.instructions(), self.axes, strict=True):
            if opcode.op is None:
                operands = self._leaf(opcode, src[0])
            else:
                operands = ", ".join(f"{k.letter}{r}" for k, r in zip(opcode.operands, src, strict=False))
            shape = f"  ; [{axes[0]}, {axes[1]}]" if opcode.result is Kind.MATRIX else ""
            lines.append(f"{opcode.result.letter}{dst} = {opcode.name} {operands}{shape}")
        return [*lines, *(f"ret x{r}" for r in self.outputs)]

    def _leaf(self, opcode: Opcode, index: int) -> str:
        if opcode.name == "load.m":
            return self.statistics[index]
        if opcode.name == "recall.s":
            return self.recalled[index]
        return FACT_NAMES[index] if opcode.name == "fact.x" else f"{self.constants[index]:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ops by name, so that a new op invalidates nothing that was stored."""
        return {
            "instructions": [[o.name, dst, *src] for o, dst, src in self.instructions()],
            "axes": [list(a) for a in self.axes],
            "constants": list(self.constants),
            "statistics": list(self.statistics),
            "recalled": list(self.recalled),
            "outputs": self.outputs.tolist(),
            "registers": list(self.registers),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Program:
        """The program that `to_dict` described. KeyError names an instruction that this version does not know."""
        rows = data["instructions"]
        return cls(
            opcode=np.array([CODE[r[0]] for r in rows], np.int32),
            dst=np.array([r[1] for r in rows], np.int32),
            src=np.array([r[2:4] for r in rows], np.int32).reshape(-1, 2),
            axes=tuple((str(r), str(c)) for r, c in data["axes"]),
            constants=tuple(float(c) for c in data["constants"]),
            statistics=tuple(data["statistics"]),
            recalled=tuple(data["recalled"]),
            outputs=np.array(data["outputs"], np.int32),
            registers=(int(data["registers"][0]), int(data["registers"][1]), int(data["registers"][2])),
        )
