"""The instructions of the layers' part of a program with registers resolved: a graph of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ...grammar.types import Kind
from ..program import OPCODES, Opcode, Program

Axes = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Value:
    """What one instruction computes. ``args``: the instructions that it reads; ``index``: of a leaf, the entry in the
    program's table; ``axes``: of a Matrix. ``name``: of the opcode; ``matrix``: whether it is a Matrix."""

    opcode: Opcode
    args: tuple[int, ...]
    index: int
    axes: Axes
    name: str = field(init=False)
    matrix: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.opcode.name)
        object.__setattr__(self, "matrix", self.opcode.result is Kind.MATRIX)


V = TypeVar("V", bound=Value)


def values_of(
    program: Program, make: Callable[[Opcode, tuple[int, ...], int, Axes], V]
) -> tuple[list[V], dict[int, int]]:
    """The values of a verified program's layers' part, and Scalar register -> value for those that the rest reads.

    ``make``: `Value`, or a class of these."""
    files: tuple[dict[int, int], dict[int, int]] = ({}, {})
    values = []
    for i, (opcode, dst, src) in enumerate(program.instructions(0, program.split)):
        args = tuple(files[k][r] for k, r in zip(opcode.operands, src, strict=False))
        values.append(make(opcode, args, src[0], program.axes[i]))
        files[opcode.result][dst] = i
    rest = zip(program.opcode[program.split :], program.src[program.split :], strict=True)
    read = {int(src[0]) for code, src in rest if OPCODES[code].operands == (Kind.SCALAR,)}
    return values, {register: files[Kind.SCALAR][register] for register in sorted(read)}
