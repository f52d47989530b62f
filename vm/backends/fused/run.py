"""The layers' part of one program on one batch after another: the plan's launches, torch for whole segments."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ....grammar.errors import ProxforgeError
from ....grammar.types import Kind
from ...program import Program
from ..torch_ops import apply
from .plan import Phase, Plan, plan
from .sweep import Input, Sweep
from .table import CHUNK, LANES, POINTERS, STRIP, TILE

Argument = Tensor | int | Sequence[Tensor]


class Launcher(Protocol):
    """Runs one of the kernel's functions on ``blocks`` warps. A sequence of tensors is passed as `Pointers`."""

    def __call__(self, kernel: str, blocks: int, shared: int, arguments: Sequence[Argument]) -> None: ...


class Pointers(ctypes.Structure):
    """Addresses of the matrices that a sweep reads or writes."""

    _fields_ = [("at", ctypes.c_void_p * POINTERS)]


CValue = ctypes.c_int | ctypes.c_void_p | Pointers


def c_values(arguments: Sequence[Argument]) -> list[CValue]:
    """The arguments of a kernel as C has them."""
    found: list[CValue] = []
    for a in arguments:
        if isinstance(a, int):
            found.append(ctypes.c_int(a))
        elif isinstance(a, Tensor):
            found.append(ctypes.c_void_p(a.data_ptr()))
        else:
            found.append(Pointers((ctypes.c_void_p * POINTERS)(*(t.data_ptr() for t in a))))
    return found


def fused(
    launcher: Launcher, program: Program, device: torch.device, keep: Sequence[int], registers: Sequence[int]
) -> Fused | None:
    """What runs the layers' part; None where one formula alone is more than the kernel holds. ``keep``: the Scalars of
    these instructions are wanted, and those that end in these ``registers``."""
    found = plan(program)
    return None if found is None else Fused(launcher, program, found, device, keep, registers)


class Fused:
    """A plan with its code on the device."""

    def __init__(
        self,
        launcher: Launcher,
        program: Program,
        plan: Plan,
        device: torch.device,
        keep: Sequence[int],
        registers: Sequence[int],
    ) -> None:
        self._launch = launcher
        self._plan = plan
        self._device = device
        self._statistics = program.statistics
        self._constants = torch.tensor(program.constants, dtype=torch.float64, device=device)
        self._steps = [[torch.from_numpy(code).to(device) for code, _ in phase.steps] for phase in plan.phases]
        self._sweeps = [
            [[torch.from_numpy(part).to(device) for part in (s.code, s.kinds, s.entries)] for s in phase.sweeps]
            for phase in plan.phases
        ]
        self._keep = torch.tensor([plan.rows[i] for i in keep], dtype=torch.int64, device=device)
        final = [plan.rows[plan.final[register]] for register in registers]
        self._final = torch.tensor(final, dtype=torch.int64, device=device)

    def run(self, layers: int, load: Callable[[str], Tensor], recalled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The wanted Scalars of a batch, ``[K, layers]`` and ``[R, layers]``. ``load``: a statistic ``[layers, r, c]``.
        ``recalled``: ``[layers]`` each."""
        table = torch.zeros((self._plan.height, layers), dtype=torch.float64, device=self._device)
        for row, values in enumerate(recalled):
            table[row] = values
        held: dict[Input, Tensor] = {}
        for phase, steps, sweeps in zip(self._plan.phases, self._steps, self._sweeps, strict=True):
            self._scalars_and_wholes(phase, steps, table, held, load)
            for sweep, code in zip(phase.sweeps, sweeps, strict=True):
                self._sweep(sweep, code, table, held, load)
            for key in phase.over:
                held.pop(key, None)
        return table[self._keep], table[self._final]

    def _scalars_and_wholes(
        self,
        phase: Phase,
        steps: list[Tensor],
        table: Tensor,
        held: dict[Input, Tensor],
        load: Callable[[str], Tensor],
    ) -> None:
        layers = table.shape[1]
        for (_, wholes), code in zip(phase.steps, steps, strict=True):
            if len(code):
                blocks = len(code) * -(-layers // LANES)
                self._launch("scalars", blocks, 0, (code, self._constants, table, layers))
            for i in wholes:
                v = self._plan.values[i]
                assert v.op is not None
                operands = [
                    self._matrix(a, held, load) if k is Kind.MATRIX else table[self._plan.rows[a]]
                    for a, k in zip(v.args, v.kinds, strict=False)
                ]
                value = apply(v.op, v.kinds, operands)
                if v.matrix:
                    held["whole", i] = value.contiguous()
                else:
                    table[self._plan.rows[i]] = value

    def _matrix(self, i: int, held: dict[Input, Tensor], load: Callable[[str], Tensor]) -> Tensor:
        v = self._plan.values[i]
        return load(self._statistics[v.index]) if v.op is None else held["whole", i]

    def _sweep(
        self,
        sweep: Sweep,
        uploaded: list[Tensor],
        table: Tensor,
        held: dict[Input, Tensor],
        load: Callable[[str], Tensor],
    ) -> None:
        code, kinds, entries = uploaded
        layers, slots, tables = table.shape[1], len(kinds), len(sweep.columns)
        inputs = [load(self._statistics[i]) if kind == "load" else held[kind, i] for kind, i in sweep.inputs]
        shapes = {tuple(x.shape[1:]) for x, (kind, _) in zip(inputs, sweep.inputs, strict=True) if kind != "columns"}
        if len(shapes) > 1:
            named = ", ".join(map(str, sorted(shapes)))
            raise ProxforgeError("shape", f"matrices {list(sweep.axes)} of one layer have the shapes {named}")
        ((rows, cols),) = shapes
        outputs = [table.new_empty((layers, rows, cols)) for _ in sweep.outputs]
        blocks = layers * (-(-cols // TILE) * -(-rows // STRIP) if tables else -(-rows * cols // CHUNK))
        totals = table.new_empty((blocks, slots))
        states = table.new_empty((blocks, tables, 2, TILE))
        shared = 8 * (TILE * (sweep.registers + 2 * tables) + slots)
        numbers = (sweep.registers, slots, tables, layers, rows, cols, int(tables > 0))
        self._launch("sweep", blocks, shared, (inputs, outputs, code, len(code), table, totals, states, *numbers))
        held.update((("whole", x), made) for x, made in zip(sweep.outputs, outputs, strict=True))
        if slots:
            blocks = -(-len(entries) * layers // LANES)
            arguments = (entries, len(entries), kinds, totals, table, slots, layers, rows * cols)
            self._launch("finish", blocks, 0, arguments)
        if tables:
            found = table.new_empty((tables, layers, cols, 2))
            blocks = -(-tables * layers * cols // LANES)
            self._launch("finish_columns", blocks, 0, (states, found, tables, layers, rows, cols))
            held.update((("columns", x), found[j]) for j, x in enumerate(sweep.columns))
