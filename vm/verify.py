"""The rules of the bytecode as data. A backend may assume that a program it gets was verified."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..grammar.errors import ProxforgeError
from ..grammar.ops import Form
from ..grammar.types import STATISTICS, Kind
from .program import FACT_NAMES, OPCODES, Opcode, Program

Axes = tuple[str, str]


class VerifyError(ProxforgeError):
    """A program that breaks a rule of the bytecode: it was not made by the compiler, or was damaged."""

    def __init__(self, message: str) -> None:
        super().__init__("program", message)


@dataclass
class _State:
    """What is known before one instruction: the axes in each defined register, per file."""

    program: Program
    index: int
    opcode: Opcode
    dst: int
    src: tuple[int, int]
    defined: tuple[dict[int, Axes], ...] = field(default_factory=lambda: ({}, {}, {}))

    @property
    def operands(self) -> list[Axes | None]:
        return [self.defined[k].get(r) for k, r in zip(self.opcode.operands, self.src, strict=False)]

    @property
    def axes(self) -> Axes:
        return self.program.axes[self.index]


def _table(s: _State) -> int:
    p = s.program
    sizes = {
        "load.m": len(p.statistics),
        "recall.s": len(p.recalled),
        "fact.x": len(FACT_NAMES),
        "const.s": len(p.constants),
        "const.x": len(p.constants),
    }
    return sizes[s.opcode.name]


def _expected_axes(s: _State) -> Axes:
    """The axes that the operands and the op's shape rule give."""
    if s.opcode.result is not Kind.MATRIX:
        return ("", "")
    if s.opcode.op is None:
        t = STATISTICS[s.program.statistics[s.src[0]]].type
        return (t.rows, t.cols)
    found = [a for a, k in zip(s.operands, s.opcode.operands, strict=True) if k is Kind.MATRIX and a is not None]
    return (found[0][0], found[-1][1]) if s.opcode.op.form is Form.PRODUCT else found[0]


def _joined(s: _State) -> bool:
    if s.opcode.op is None or s.opcode.operands != (Kind.MATRIX, Kind.MATRIX):
        return True
    a, b = s.operands
    assert a is not None
    assert b is not None
    return a[1] == b[0] if s.opcode.op.form is Form.PRODUCT else a == b


RULES: tuple[tuple[str, Callable[[_State], bool]], ...] = (
    ("the destination is a register of its file", lambda s: 0 <= s.dst < s.program.registers[s.opcode.result]),
    ("a leaf reads an entry of its table", lambda s: s.opcode.op is not None or 0 <= s.src[0] < _table(s)),
    ("every operand was written before", lambda s: all(a is not None for a in s.operands)),
    (
        "a result does not overwrite its operand",
        lambda s: all(k is not s.opcode.result or r != s.dst for k, r in zip(s.opcode.operands, s.src, strict=False)),
    ),
    ("the operands' axes fit the op", _joined),
    ("the result's axes follow from the operands", lambda s: s.axes == _expected_axes(s)),
)
"""What holds for every instruction, checked in this order."""


def verify(program: Program) -> None:
    """VerifyError names the instruction and the rule it breaks; nothing is raised for a valid program."""
    n = len(program.opcode)
    if not (len(program.dst) == len(program.src) == len(program.axes) == n and program.src.shape == (n, 2)):
        raise VerifyError(f"the arrays of the program differ in length: {n} opcodes, {len(program.dst)} destinations")
    unknown = [s for s in program.statistics if s not in STATISTICS]
    if unknown:
        raise VerifyError(f"the program reads '{unknown[0]}', which is no statistic")
    if not all(map(math.isfinite, program.constants)):
        raise VerifyError("a constant of the program is not finite")
    if any(not 0 <= c < len(OPCODES) for c in program.opcode.tolist()):
        raise VerifyError(f"an opcode is outside 0..{len(OPCODES) - 1}")
    defined: tuple[dict[int, Axes], ...] = ({}, {}, {})
    per_network = False
    for i, (opcode, dst, src) in enumerate(program.instructions()):
        state = _State(program, i, opcode, dst, src, defined)
        for rule, holds in RULES:
            if not holds(state):
                raise VerifyError(f"instruction {i} ({opcode.name}) breaks the rule: {rule}")
        if per_network and opcode.result is not Kind.SCORE:
            raise VerifyError(f"instruction {i} ({opcode.name}) works on a layer but follows one of a network")
        per_network = opcode.result is Kind.SCORE
        defined[opcode.result][dst] = state.axes
    missing = [int(r) for r in program.outputs if int(r) not in defined[Kind.SCORE]]
    if missing or not len(program.outputs):
        raise VerifyError(f"the program returns x{missing[0]}, which is never written" if missing else "no output")
