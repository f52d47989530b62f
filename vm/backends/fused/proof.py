"""Whether the fused kernel may be used on a device: it is compiled there and compared with torch, op by op, before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from ....grammar.expr import Node, Pool
from ....grammar.ops import OPS
from ....grammar.text import text
from ....grammar.types import Kind
from ....stats_cache.memory import MemoryCache
from ....stats_cache.source import Source
from ...compile import assemble
from ...program import in_use
from .. import Backend
from ..torch_ops import BUILT_IN
from .launch import CudaLauncher
from .run import Launcher

Array = NDArray[np.float64]
Make = Callable[[Source, Launcher | None], Backend]
"""The torch backend on all networks of a source, with the kernel, or op by op where there is no launcher."""
Proven = tuple[Launcher | None, str]
"""What launches the kernel, None for op by op; and in words which of them, with the reason."""

LAUNCHERS: dict[str, Callable[[torch.device], Launcher]] = {"cuda": CudaLauncher}
"""By type of device; on others the torch backend runs op by op, and says nothing of it."""
BOUND = 1e-9
"""Of the sum of an operand's absolute values."""
SHAPES = ((1, 1), (1, 130), (127, 1), (3, 43), (5, 7), (65, 130))
"""Around a tile; the last is three chunks, two strips and two blocks of columns."""
SPECIAL = (0.0, 0.5, 1e-40, 1e-30, 3e38, 88.0, -120.0, np.inf, -np.inf, np.nan)
REDUCED = ("sum", "l1_norm", "min", "max")
"""How the elements of a Matrix are compared."""

_known: dict[tuple[str, int], Proven] = {}
_lock = Lock()


def proven(device: torch.device, make: Make) -> Proven:
    """The launcher of a device if its results are torch's. It is tried once for a device; a failure is a warning."""
    if device.type not in LAUNCHERS:
        return None, ""
    index = device.index
    if index is None and device.type == "cuda":
        index = torch.cuda.current_device()
    with _lock:
        key = device.type, index or 0
        if key not in _known:
            _known[key] = _tried(device, make)
        return _known[key]


def _tried(device: torch.device, make: Make) -> Proven:
    try:
        launcher = LAUNCHERS[device.type](device)
        differing = differences(launcher, make)
    except (ImportError, RuntimeError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        if not differing:
            return launcher, "fused kernel"
        listed = ", ".join(differing[:3])
        reason = f"it differs from torch in {len(differing)} of its trials, among them {listed}"
    warnings.warn(
        f"the fused kernel is not used on {device}, which runs op by op instead: right, but slower. {reason}",
        stacklevel=5,
    )
    return None, "op by op, as the fused kernel failed its trial"


def differences(launcher: Launcher, make: Make) -> list[str]:
    """The trial Scalars that the kernel and torch do not agree on, as text."""
    source, trials = trial_source(), trial_scalars()
    every = list(dict.fromkeys(n for node, sizes in trials.items() for n in (node, *sizes)))
    found = dict(zip(every, kept_scalars(make(source, launcher), every), strict=True))
    wanted = dict(zip(every, kept_scalars(make(source, None), every), strict=True))
    differing = []
    with np.errstate(invalid="ignore"):
        for node, sizes in trials.items():
            a, b = found[node], wanted[node]
            scale = np.fmax.reduce([np.abs(wanted[n]) for n in (node, *sizes)])
            same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.isfinite(a) & (np.abs(a - b) <= BOUND * scale))
            if not same.all():
                differing.append(text(node))
    return differing


def trial_source() -> MemoryCache:
    """One network of layers of every shape, with zeros, constants, and what is hardly a number."""
    rng = np.random.default_rng(0)
    layers: dict[str, list[Array]] = {"qkv.w": [], "qkv.g": []}
    for rows, columns in SHAPES:
        for segments in layers.values():
            segments.append(rng.normal(0, 1, (rows, columns)))
    for value in SPECIAL:
        layers["qkv.w"] += [rng.normal(0, 1, (5, 7)), np.full((5, 7), value)]
        layers["qkv.w"][-2][rng.integers(5), rng.integers(7)] = value
        layers["qkv.g"] += [rng.normal(0, 1, (5, 7)) for _ in range(2)]
    with np.errstate(over="ignore"):
        return MemoryCache([layers])


def trial_scalars() -> dict[Node, tuple[Node, ...]]:
    """Scalars of every built-in op but `@`, each with those whose sizes its errors are measured by."""
    pool, found = Pool(), dict[Node, tuple[Node, ...]]()

    def size(node: Node) -> Node:
        return node if node.type.kind is Kind.SCALAR else pool.apply(OPS["sum"], pool.apply(OPS["abs"], node))

    for opcode in in_use():
        op = opcode.op
        if op is None or op.name not in BUILT_IN or Kind.SCORE in opcode.operands or op.name == "@":
            continue
        if op.no_scalar and opcode.operands == (Kind.SCALAR,):
            continue
        for wrap in ("identity", "abs", "sigmoid"):
            matrices = [pool.apply(OPS[wrap], pool.statistic(s)) for s in ("qkv.w", "qkv.g")[: op.arity]]
            scalars = [pool.apply(OPS[s], x) for s, x in zip(("max", "l1_norm"), matrices, strict=False)]
            operands = zip(matrices, scalars, opcode.operands, strict=True)
            value = pool.apply(op, *(m if kind is Kind.MATRIX else s for m, s, kind in operands))
            scalar = value.type.kind is Kind.SCALAR
            for root in (value,) if scalar else [pool.apply(OPS[r], value) for r in REDUCED]:
                found[root] = tuple(map(size, root.args))
    return found


def kept_scalars(backend: Backend, nodes: Sequence[Node]) -> Array:
    """The values of Scalars in all layers, ``[K, T]``."""
    pool = Pool()
    program, order = assemble([pool.score(n) for n in nodes], lambda node: False)
    place = {node: i for i, node in enumerate(order)}
    return backend.run(program, (), [place[n] for n in nodes])[1]
