"""The instructions of the layers' part of a program with registers resolved: a graph of values."""

from __future__ import annotations

from dataclasses import dataclass

from ....grammar.types import Kind
from ...program import OPCODES, Opcode, Program

Axes = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Value:
    """What one instruction computes. ``args``: the instructions that it reads; ``index``: of a leaf, the entry in the
    program's table; ``axes``: of a Matrix."""

    opcode: Opcode
    args: tuple[int, ...]
    index: int
    axes: Axes

    @property
    def name(self) -> str:
        """Of the opcode."""
        return self.opcode.name

    @property
    def matrix(self) -> bool:
        """Whether it is a Matrix."""
        return self.opcode.result is Kind.MATRIX


def values_of(program: Program) -> tuple[list[Value], dict[int, int]]:
    """The values of a verified program's layers' part, and Scalar register -> value for those that the rest reads."""
    files: tuple[dict[int, int], dict[int, int]] = ({}, {})
    values = []
    for i, (opcode, dst, src) in enumerate(program.instructions(0, program.split)):
        args = tuple(files[k][r] for k, r in zip(opcode.operands, src, strict=False))
        values.append(Value(opcode, args, src[0], program.axes[i]))
        files[opcode.result][dst] = i
    rest = zip(program.opcode[program.split :], program.src[program.split :], strict=True)
    read = {int(src[0]) for code, src in rest if OPCODES[code].operands == (Kind.SCALAR,)}
    return values, {register: files[Kind.SCALAR][register] for register in sorted(read)}
