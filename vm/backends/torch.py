"""The torch backend: CPU or GPU, a whole population over batches of layers of one shape.

Arithmetic is float64 in float32's range, so values and statuses are the reference's up to float64 rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ...grammar.errors import ProxforgeError
from ...grammar.types import Kind
from ...stats_cache.passes import one_thread
from ...stats_cache.source import Source
from ..layers import by_register, fact_table, finish
from ..program import OPCODES, Opcode, Program
from . import Array
from .fused.proof import Proven, proven
from .fused.run import Launcher, fused
from .torch_ops import BELOW_TINY, apply

CHUNK = {"cpu": 1 << 18, "cuda": 1 << 22}
"""Elements of one statistic in one batch: in the caches of a CPU, enough to fill a GPU; the operands of all products of
matrices of a population are held at once."""
RESIDENT = {"cpu": 1 << 30, "cuda": 1 << 33}
"""Bytes of batches that stay on the device between runs."""


class _Batch:
    """Layers whose segments agree in shape: (network, layer) pairs and their places among all layers."""

    def __init__(self, layers: list[tuple[int, int]], places: list[int]) -> None:
        self.layers = layers
        self.places = torch.tensor(places)


class TorchBackend:
    """See `Backend`. ``device``: ``auto`` (a GPU if torch sees one), ``cpu``, ``cuda``, ``cuda:1``, ..

    ``launcher``: of the fused kernel that computes what is not left to torch's ops; None: every op is torch's. Unless
    one is given it is the device's, if that has proven itself (`fused.proof`): GPUs have one, the CPU has none.
    """

    name = "torch"
    recalled = 0

    def __init__(
        self,
        source: Source,
        networks: Sequence[int],
        device: str = "auto",
        launcher: Launcher | Literal["proven"] | None = "proven",
    ) -> None:
        self._device = _device(device)
        self._launcher, path = _proven(self._device) if launcher == "proven" else (launcher, "")
        self.device = f"{self._device}{path and ', '}{path}"
        self._source = source
        self._networks = tuple(networks)
        self._counts = [source.networks[i].layers for i in self._networks]
        self._facts = fact_table(source, self._networks)
        self._chunk = CHUNK[self._device.type]
        self._batches = self._grouped(sorted(source.statistics))
        self._resident: OrderedDict[tuple[str, tuple[tuple[int, int], ...]], Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._threads, "proxforge-torch")

    def run(self, program: Program, recalled: Sequence[Array] = (), keep: Sequence[int] = ()) -> tuple[Array, Array]:
        """See `Backend.run`."""
        total = sum(self._counts)
        remembered = [torch.as_tensor(r, dtype=torch.float64, device=self._device) for r in recalled]
        slots = {index: row for row, index in enumerate(keep)}
        kept = torch.empty((len(slots), total), dtype=torch.float64, device=self._device)
        live = {register: row for row, register in enumerate(_scalars_of_scores(program))}
        final = torch.empty((len(live), total), dtype=torch.float64, device=self._device)
        instructions = list(program.instructions(0, program.split))
        whole = None if self._launcher is None else fused(self._launcher, program, self._device, keep, list(live))

        def one(batch: _Batch) -> None:
            with torch.inference_mode():  # a setting of the thread
                places = batch.places.to(self._device)
                if whole is not None:
                    known = [r[places] for r in remembered]
                    kept[:, places], final[:, places] = whole.run(len(places), partial(self._load, batch=batch), known)
                    return
                scalars = self._layers(program, instructions, batch, remembered, slots, kept)
                for register, row in live.items():
                    final[row, places] = scalars[register]

        with one_thread():  # threads take whole batches instead: the order of a sum is the same with any number
            for _ in map(one, self._batches) if self._threads == 1 else self._pool.map(one, self._batches):
                pass
        scores = finish(program, final.cpu().numpy(), by_register(live), self._counts, self._facts)
        return scores, kept.cpu().numpy()

    def _layers(
        self,
        program: Program,
        instructions: list[tuple[Opcode, int, tuple[int, int]]],
        batch: _Batch,
        recalled: list[Tensor],
        slots: dict[int, int],
        kept: Tensor,
    ) -> dict[int, Tensor]:
        places = batch.places.to(self._device)
        registers: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})
        for i, (opcode, dst, src) in enumerate(instructions):
            if opcode.name == "load.m":
                value = self._load(program.statistics[src[0]], batch)
            elif opcode.name == "recall.s":
                value = recalled[src[0]][places]
            elif opcode.op is None:
                value = torch.full_like(places, program.constants[src[0]], dtype=torch.float64)
            else:
                operands = [registers[k][r] for k, r in zip(opcode.operands, src, strict=False)]
                value = apply(opcode.op, opcode.operands, operands)
            registers[opcode.result][dst] = value
            if i in slots:
                kept[slots[i], places] = value
        return registers[Kind.SCALAR]

    def _grouped(self, statistics: Sequence[str]) -> list[_Batch]:
        """Batches of layers whose segments agree in shape, within the size limit; the same for every program, so that
        a value does not depend on what runs beside it."""
        groups: dict[tuple[tuple[int, int], ...], list[tuple[int, int, int]]] = {}
        place = 0
        for network, count in zip(self._networks, self._counts, strict=True):
            for layer in range(count):
                shapes = tuple(self._source.shape(network, s, layer) for s in statistics)
                groups.setdefault(shapes, []).append((network, layer, place))
                place += 1
        batches = []
        for shapes, members in groups.items():
            step = max(1, self._chunk // max((r * c for r, c in shapes), default=1))
            for start in range(0, len(members), step):
                part = members[start : start + step]
                batches.append(_Batch([(n, layer) for n, layer, _ in part], [p for *_, p in part]))
        return batches

    def _load(self, statistic: str, batch: _Batch) -> Tensor:
        """The segments as float64 ``[B, r, c]``, which nobody may change; recently used ones are still there."""
        key = (statistic, tuple(batch.layers))
        with self._lock:
            found = self._resident.get(key)
            if found is not None:
                self._resident.move_to_end(key)
                return found
        segments = np.stack([self._source.read(n, statistic, layer) for n, layer in batch.layers])
        host = torch.from_numpy(segments)
        if self._device.type == "cuda":
            host = host.pin_memory()  # copied while this thread already reads the next ones
        made = hardshrink(host.to(self._device, non_blocking=True), BELOW_TINY).to(torch.float64)
        with self._lock:  # no other thread works on this batch
            self._resident[key] = made
            self._bytes += made.nbytes
            while self._bytes > RESIDENT[self._device.type] and len(self._resident) > 1:
                self._bytes -= self._resident.popitem(last=False)[1].nbytes
        return made


def _proven(device: torch.device) -> Proven:
    def make(source: Source, launcher: Launcher | None) -> TorchBackend:
        return TorchBackend(source, range(len(source.networks)), str(device), launcher)

    return proven(device, make)


def _scalars_of_scores(program: Program) -> list[int]:
    """The Scalar registers that the networks' part reads."""
    rest = zip(program.opcode[program.split :], program.src[program.split :], strict=True)
    return sorted({int(src[0]) for code, src in rest if OPCODES[code].operands == (Kind.SCALAR,)})


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ProxforgeError("device", f"'{name}' is no torch device; expected cpu, cuda or cuda:<index>") from None
    if device.type not in CHUNK:
        raise ProxforgeError("device", f"the device '{name}' is not supported; expected cpu, cuda or cuda:<index>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ProxforgeError("device", f"torch sees {torch.cuda.device_count()} CUDA devices, '{name}' is none of them")
    return device
