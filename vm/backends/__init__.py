"""The backends, by name. A backend is imported when it is used: torch is slow to load."""

from __future__ import annotations

from collections.abc import Sequence
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

    def run(self, program: Program, recalled: Sequence[Array] = (), keep: Sequence[int] = ()) -> tuple[Array, Array]:
        """Scores ``[P, A]``, and the Scalars ``[K, T]`` of the instructions ``keep`` for all T layers of the networks.

        ``recalled``: float64 ``[T]`` for each entry of the program's table of recalled Scalars.
        """
        ...


NAMES = ("auto", "reference", "torch")


def backend(name: str, source: Source, networks: Sequence[int], device: str = "auto") -> Backend:
    """The backend called ``name`` (``auto`` is ``torch``) on ``device`` (``auto``: a GPU if there is one)."""
    if name == "reference":
        from .reference import ReferenceBackend

        if device not in ("auto", "cpu"):
            raise ProxforgeError("backend", f"the reference backend runs on the cpu, not on '{device}'")
        return ReferenceBackend(source, networks)
    if name in ("auto", "torch"):
        from .torch import TorchBackend

        return TorchBackend(source, networks, device)
    message = f"no backend is called '{name}'{nearest(name, NAMES)}; there are {', '.join(NAMES)}"
    raise ProxforgeError("backend", message)
