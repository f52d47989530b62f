"""The instructions of the layers' part of a program with registers resolved: what the fused kernel does of them."""

from __future__ import annotations

from dataclasses import dataclass

from ....grammar.ops import OPS, Op
from ....grammar.types import Kind
from ...program import OPCODES, Program
from ..torch_ops import BUILT_IN
from .table import AFFINE, COLUMNWISE, ELEMENTS, FINISHES, SCALARS

Axes = tuple[str, str]


@dataclass(frozen=True)
class Value:
    """What an instruction computes. ``name``: of the op without its operands' kinds; ``index``: of a leaf."""

    op: Op | None
    name: str
    kinds: tuple[Kind, ...]
    matrix: bool
    args: tuple[int, ...]
    index: int
    axes: Axes

    @property
    def matrices(self) -> tuple[int, ...]:
        """The operands that are Matrices."""
        return tuple(a for a, k in zip(self.args, self.kinds, strict=False) if k is Kind.MATRIX)


def values_of(program: Program) -> tuple[list[Value], dict[int, int]]:
    """The values of the layers' part, and Scalar register -> value for those that the rest reads."""
    files: tuple[dict[int, int], dict[int, int]] = ({}, {})
    values = []
    for i, (opcode, dst, src) in enumerate(program.instructions(0, program.split)):
        args = tuple(files[k][r] for k, r in zip(opcode.operands, src, strict=False))
        op = opcode.op
        name = opcode.name if op is None else op.mnemonic or op.name
        matrix = opcode.result is Kind.MATRIX
        values.append(Value(op, name, opcode.operands, matrix, args, src[0], program.axes[i]))
        files[opcode.result][dst] = i
    rest = zip(program.opcode[program.split :], program.src[program.split :], strict=True)
    read = {int(src[0]) for code, src in rest if OPCODES[code].operands == (Kind.SCALAR,)}
    return values, {register: files[Kind.SCALAR][register] for register in sorted(read)}


def _built_in(v: Value) -> bool:
    return v.op is not None and v.op.name in BUILT_IN and OPS.get(v.op.name) is v.op


def reduction(v: Value) -> bool:
    """Whether it is a Scalar that follows from totals."""
    return _built_in(v) and not v.matrix and bool(v.matrices) and v.name in FINISHES


def in_tiles(v: Value) -> bool:
    """Whether it is a Matrix that is computed tile by tile."""
    names = (ELEMENTS, AFFINE, COLUMNWISE)
    return v.matrix and _built_in(v) and any(v.name in n for n in names)


def whole(v: Value) -> bool:
    """Whether it is computed of whole segments, by torch."""
    if v.op is None or reduction(v) or in_tiles(v):
        return False
    return v.matrix or bool(v.matrices) or not (_built_in(v) and v.name in SCALARS)
