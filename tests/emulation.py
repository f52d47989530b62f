"""The fused kernel compiled by the system's C++ compiler: one block at a time, one lane after the other."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor

from proxforge.vm.backends.fused import proof
from proxforge.vm.backends.fused.run import Argument, Launcher, c_values
from proxforge.vm.backends.fused.table import SHARED, source

FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-O2", "-ffp-contract=off", "-shared", "-fPIC")


@cache
def library(text: str) -> ctypes.CDLL:
    """The compiled source; the test is skipped where there is no compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler (c++, g++, clang++) on this machine, so the kernel cannot be emulated")
    folder = Path(tempfile.mkdtemp(prefix="proxforge-kernel-"))
    try:
        (folder / "kernel.cpp").write_text(text, encoding="utf-8")
        command = [compiler, *FLAGS, str(folder / "kernel.cpp"), "-o", str(folder / "kernel.so")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(folder / "kernel.so"))
    finally:
        shutil.rmtree(folder)


class Emulation:
    """A `Launcher` on the CPU. ``launches``: how many of each function."""

    def __init__(self, text: str | None = None) -> None:
        self._library = library(source() if text is None else text)
        self.launches: dict[str, int] = {}

    def __call__(self, kernel: str, blocks: int, shared: int, arguments: Sequence[Argument]) -> None:
        assert 0 <= shared <= SHARED
        assert blocks > 0
        for a in arguments:
            assert not isinstance(a, Tensor) or (a.is_contiguous() and a.device.type == "cpu")
        values = c_values(arguments)
        function = self._library[kernel]
        for block in range(blocks):
            self._library.set_block(block)
            function(*values)
        self.launches[kernel] = self.launches.get(kernel, 0) + 1


def use(monkeypatch: pytest.MonkeyPatch, launcher: Launcher) -> None:
    """From now on the torch backend has this launcher on the CPU, as if it had passed its trial."""
    offer(monkeypatch, lambda: launcher)
    proof._known["cpu", 0] = launcher, "fused kernel"


def offer(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Launcher]) -> None:
    """From now on the torch backend tries this launcher on the CPU, as it does CUDA's on a GPU."""
    monkeypatch.setitem(proof.LAUNCHERS, "cpu", lambda device: make())
    monkeypatch.setattr(proof, "_known", {})
