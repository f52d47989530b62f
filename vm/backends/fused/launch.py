"""The fused kernel on an NVIDIA GPU: compiled by NVRTC when it is first used, launched on torch's current stream.

`cuda.bindings` (NVIDIA's own) and NVRTC come with torch's CUDA wheels, so no CUDA toolkit is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from .run import Argument, c_values
from .table import LANES, source

FUNCTIONS = ("sweep", "finish", "finish_columns", "scalars")
OPTIONS = ("--std=c++17", "--fmad=false")
"""Products are rounded before they are added, as everywhere else: the same bytes on every architecture."""


class KernelError(RuntimeError):
    """The kernel cannot be compiled, loaded or launched."""


class CudaLauncher:
    """A `Launcher` for one device. Raises ImportError without `cuda.bindings`, KernelError for what CUDA refuses."""

    def __init__(self, device: torch.device) -> None:
        if torch.version.cuda is None:
            raise KernelError("this torch was not built for CUDA")
        from cuda.bindings import driver

        self._driver, self._device = driver, device
        with torch.cuda.device(device):
            torch.zeros(1, device=device)  # makes torch's context the current one
            image = compiled("sm_{}{}".format(*torch.cuda.get_device_capability(device)))
            (self._module,) = _done(driver.cuModuleLoadData(image))
            self._functions = {
                name: _done(driver.cuModuleGetFunction(self._module, name.encode()))[0] for name in FUNCTIONS
            }

    def __call__(self, kernel: str, blocks: int, shared: int, arguments: Sequence[Argument]) -> None:
        """Does not wait for the kernel."""
        values = c_values(arguments)
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device).cuda_stream
            function, at = self._functions[kernel], ctypes.addressof(addresses)
            _done(self._driver.cuLaunchKernel(function, blocks, 1, 1, LANES, 1, 1, shared, stream, at, 0))


def compiled(architecture: str) -> bytes:
    """The kernel as a cubin for ``sm_90``, .., which takes no GPU."""
    from cuda.bindings import nvrtc

    program = _done(nvrtc.nvrtcCreateProgram(source().encode(), b"proxforge.cu", 0, [], []))[0]
    options = [option.encode() for option in (f"--gpu-architecture={architecture}", *OPTIONS)]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(error):
        log = b" " * _done(nvrtc.nvrtcGetProgramLogSize(program))[0]
        _done(nvrtc.nvrtcGetProgramLog(program, log))
        raise KernelError(f"NVRTC does not compile it for {architecture}: {log.decode(errors='replace')[:1000]}")
    image: bytes = b" " * _done(nvrtc.nvrtcGetCUBINSize(program))[0]
    _done(nvrtc.nvrtcGetCUBIN(program, image))
    _done(nvrtc.nvrtcDestroyProgram(program))
    return image


def _done(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call of CUDA returned beside its error, which is raised."""
    error, *found = answer
    if int(error):
        raise KernelError(f"CUDA says {error!r}")
    return tuple(found)
