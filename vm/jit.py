"""Functions that numba compiles once and keeps for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def kept(function: Callable[..., None], signature: Any, **options: Any) -> Callable[..., None]:
    """The function compiled for the types of its arguments, without the interpreter's lock, or read from the disk.

    numba keeps what it compiles beside the function's file, or else in the user's cache folder; where neither can be
    written, it is compiled again in every process. What is kept is that of this one file: of a function that takes in
    others, a variable in its closure must change with these. ``options``: further ones of `numba.njit`.
    """
    import numba

    def compiled(keep: bool) -> Callable[..., None]:
        compiler = numba.njit([signature], nogil=True, error_model="numpy", cache=keep, **options)
        made: Callable[..., None] = compiler(function)
        return made

    try:
        return compiled(True)
    except (RuntimeError, OSError):  # numba finds no folder that it may write to, or the disk is full
        return compiled(False)
