"""The rules of the bytecode as data. A backend may assume that a program it gets was verified."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError
from ..grammar.ops import Form
from ..grammar.types import STATISTICS, Kind
from .program import CODE, FACT_NAMES, OPCODES, Program

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class VerifyError(ProxforgeError):
    """A program that breaks a rule of the bytecode: it was not made by the compiler, or was damaged."""

    def __init__(self, message: str) -> None:
        super().__init__("program", message)


@dataclass(frozen=True, eq=False)
class _Kinds:
    """Of every opcode: ``result`` ``[O]`` and ``operands`` ``[O, 2]`` (-1: none) as kinds, and its ``form``."""

    result: Ints
    operands: Ints
    form: NDArray[np.object_]


@lru_cache(maxsize=1)
def _kinds(count: int) -> _Kinds:
    """Of the first ``count`` opcodes; their number grows when an op is registered."""
    operands = np.full((count, 2), -1)
    for i, opcode in enumerate(OPCODES[:count]):
        operands[i, : len(opcode.operands)] = opcode.operands
    forms = np.array([None if o.op is None else o.op.form for o in OPCODES[:count]], np.object_)
    return _Kinds(np.array([o.result for o in OPCODES[:count]], np.int64), operands, forms)


class _Instructions:
    """All instructions at once: arrays ``[N]`` or, for both operands, ``[N, 2]``.

    ``made``: the instruction that wrote what an operand reads, -1 where nothing did. ``axes``: ``[N, 2]``, ``given``
    the same of the operands ``[N, 2, 2]``: numbers for names, 0 for none.
    """

    def __init__(self, p: Program) -> None:
        kinds = _kinds(len(OPCODES))
        self.program = p
        self.count = len(p.opcode)
        self.result, self.operands = kinds.result[p.opcode], kinds.operands[p.opcode]
        self.form = kinds.form[p.opcode]
        self.leaf = self.operands[:, 0] < 0
        self.dst, self.src = p.dst.astype(np.int64), p.src.astype(np.int64)
        self.reads = self.operands >= 0
        self.made = self._made()
        names: dict[str, int] = {"": 0}
        numbers = [names.setdefault(axis, len(names)) for pair in p.axes for axis in pair]
        self.axes = np.array(numbers, np.int64).reshape(-1, 2)
        self.given = np.where((self.made >= 0)[..., None], self.axes[np.maximum(self.made, 0)], 0)
        types = (STATISTICS[name].type for name in p.statistics)
        loaded = [[names.setdefault(axis, len(names)) for axis in (t.rows, t.cols)] for t in types]
        self.loaded = np.array(loaded or [[0, 0]], np.int64)

    def _made(self) -> Ints:
        """The latest instruction before each that wrote the register that it reads."""
        n = self.count
        register = np.maximum(self.dst, 0)
        width = int(max(register.max(initial=0), self.src.max(initial=0))) + 1
        written = (self.result * width + register) * (n + 1) + np.arange(n)
        order = np.sort(written)
        wanted = (self.operands * width + np.maximum(self.src, 0)) * (n + 1)
        place = np.searchsorted(order, wanted + np.arange(n)[:, None]) - 1
        found = order[np.maximum(place, 0)] if n else wanted
        same = (place >= 0) & (found // (n + 1) == wanted // (n + 1)) & self.reads & (self.src >= 0)
        return np.where(same, found % (n + 1), -1)


def _table(s: _Instructions) -> Flags:
    p = s.program
    sizes = np.full(len(OPCODES), np.iinfo(np.int64).max)
    for name, size in (
        ("load.m", len(p.statistics)),
        ("recall.s", len(p.recalled)),
        ("fact.x", len(FACT_NAMES)),
        ("const.s", len(p.constants)),
        ("const.x", len(p.constants)),
    ):
        sizes[CODE[name]] = size
    return np.asarray(~s.leaf | ((s.src[:, 0] >= 0) & (s.src[:, 0] < sizes[p.opcode])))


def _two_matrices(s: _Instructions) -> Flags:
    return np.asarray((s.operands == Kind.MATRIX).all(axis=1))


def _joined(s: _Instructions) -> Flags:
    a, b = s.given[:, 0], s.given[:, 1]
    product = (s.form == Form.PRODUCT) & (a[:, 1] == b[:, 0])
    return np.asarray(~_two_matrices(s) | product | ((s.form != Form.PRODUCT) & (a == b).all(axis=1)))


def _expected_axes(s: _Instructions) -> Flags:
    """The axes that the operands and the op's shape rule give."""
    first = np.where(s.operands[:, 0] == Kind.MATRIX, 0, 1)
    of = s.given[np.arange(s.count), first]
    rows, cols = of[:, 0], of[:, 1]
    cols = np.where((s.form == Form.PRODUCT) & _two_matrices(s), s.given[:, 1, 1], cols)
    cols = np.where(s.form == Form.GRAM, rows, cols)
    expected = np.stack((rows, cols), axis=1)
    loads = s.program.opcode == CODE["load.m"]
    expected[loads] = s.loaded[s.src[loads, 0]]
    expected[s.result != Kind.MATRIX] = 0
    return np.asarray((s.axes == expected).all(axis=1))


def _in_file(s: _Instructions) -> Flags:
    return np.asarray((s.dst >= 0) & (s.dst < np.array(s.program.registers)[s.result]))


def _written(s: _Instructions) -> Flags:
    return np.asarray(((s.made >= 0) | ~s.reads).all(axis=1))


def _apart(s: _Instructions) -> Flags:
    return np.asarray(~((s.operands == s.result[:, None]) & (s.src == s.dst[:, None])).any(axis=1))


def _layers_first(s: _Instructions) -> Flags:
    outside = s.result == Kind.SCORE
    return np.asarray(outside | (np.cumsum(outside) == 0))


RULES: tuple[tuple[str, Callable[[_Instructions], Flags]], ...] = (
    ("the destination is a register of its file", _in_file),
    ("a leaf reads an entry of its table", _table),
    ("every operand was written before", _written),
    ("a result does not overwrite its operand", _apart),
    ("the operands' axes fit the op", _joined),
    ("the result's axes follow from the operands", _expected_axes),
    ("what works on a layer comes before what works on a network", _layers_first),
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
    if n and not (program.opcode.min() >= 0 and program.opcode.max() < len(OPCODES)):
        raise VerifyError(f"an opcode is outside 0..{len(OPCODES) - 1}")
    instructions = _Instructions(program)
    for rule, holds in RULES:
        broken = np.flatnonzero(~holds(instructions))
        if len(broken):
            i = int(broken[0])
            raise VerifyError(f"instruction {i} ({OPCODES[program.opcode[i]].name}) breaks the rule: {rule}")
    written = set(instructions.dst[instructions.result == Kind.SCORE].tolist())
    missing = [int(r) for r in program.outputs if int(r) not in written]
    if missing or not len(program.outputs):
        raise VerifyError(f"the program returns x{missing[0]}, which is never written" if missing else "no output")
