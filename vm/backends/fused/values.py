"""What the fused kernel does of the values of a program."""

from __future__ import annotations

from dataclasses import dataclass

from ....grammar.ops import OPS, Op
from ....grammar.types import Kind
from .. import values
from ..torch_ops import BUILT_IN
from .table import AFFINE, COLUMNWISE, ELEMENTS, FINISHES, SCALARS


@dataclass(frozen=True)
class Value(values.Value):
    """``name``: of the op, without its operands' kinds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.op is not None:
            object.__setattr__(self, "name", self.op.mnemonic or self.op.name)

    @property
    def op(self) -> Op | None:
        """None of a leaf."""
        return self.opcode.op

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of the operands."""
        return self.opcode.operands

    @property
    def matrices(self) -> tuple[int, ...]:
        """The operands that are Matrices."""
        return tuple(a for a, k in zip(self.args, self.kinds, strict=False) if k is Kind.MATRIX)


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
