"""The backends, by name. A backend is imported when it is used: torch is slow to load."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError, nearest
from ...stats_cache.source import Source
from ..program import Program

Array = NDArray[np.float64]


class Backend(Protocol):
    """Runs verified programs over the chosen networks of one source."""

    name: str
    device: str

    @property
    def recalled(self) -> int:
        """How many totals of earlier programs were asked for and remembered."""
        ...

    def run(self, program: Program, recalled: Sequence[Array] = (), keep: Sequence[int] = ()) -> tuple[Array, Array]:
        """Scores ``[P, A]``, and the Scalars ``[K, T]`` of the instructions ``keep`` for all T layers of the networks.

        ``recalled``: float64 ``[T]`` for each entry of the program's table of recalled Scalars.
        """
        ...


NAMES = ("auto", "reference", "cpu", "cpu-float32", "torch")
"""``cpu-float32`` computes elements in float32: twice as fast, but near ties between networks are rounding (see
docs/performance.md)."""
_NVIDIA = Path("/proc/driver/nvidia")


def backend(name: str, source: Source, networks: Sequence[int], device: str = "auto") -> Backend:
    """The backend called ``name`` on ``device`` (``auto``: a GPU if there is one); see `choice` for ``auto``."""
    why = ""
    if name == "auto":
        name, why = choice(device)
    made = _backend(name, source, networks, device)
    if why:
        made.device += f"; chosen because {why}"
    return made


def choice(device: str) -> tuple[str, str]:
    """What ``auto`` means on a device, and why: ``torch`` on a GPU, ``cpu`` elsewhere, if numba is there."""
    if device not in ("auto", "cpu"):
        return "torch", f"the device is {device}"
    if device == "auto" and _NVIDIA.exists():
        return "torch", "this machine has a GPU"
    if importlib.util.find_spec("numba") is None:
        return "torch", "numba is not installed"
    return "cpu", "no GPU is used"


def _backend(name: str, source: Source, networks: Sequence[int], device: str) -> Backend:
    if name in ("reference", "cpu", "cpu-float32") and device not in ("auto", "cpu"):
        raise ProxforgeError("backend", f"the {name} backend runs on the cpu, not on '{device}'")
    if name == "reference":
        from .reference import ReferenceBackend

        return ReferenceBackend(source, networks)
    if name in ("cpu", "cpu-float32"):
        from .cpu import CpuBackend

        return CpuBackend(source, networks, number=np.float64 if name == "cpu" else np.float32)
    if name == "torch":
        from .torch import TorchBackend

        return TorchBackend(source, networks, device)
    message = f"no backend is called '{name}'{nearest(name, NAMES)}; there are {', '.join(NAMES)}"
    raise ProxforgeError("backend", message)
