"""Numbers that several threads change, and how a thread waits for one of them without a call of the system.

Waking a thread that sleeps takes some 40 microseconds, which is a lot beside a population that takes a millisecond. So
a thread looks again and again for a while, as those of OpenMP do (its ``active`` wait policy), before it sleeps.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

NEXT, INSIDE = range(2)
"""The numbers of a sweep, int64 ``[2]``: the next share that nobody has claimed, the threads that may have one."""
SPINS = 1 << 14
"""How often a thread looks: for up to a millisecond, as a pause of the processor takes 20 to 60 ns."""
_PAUSES = platform.machine() in ("x86_64", "AMD64")
_FUNCTION: Any = cgutils.get_or_insert_function


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _added(context: Any, array: Any, index: Any, change: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], *args[:2])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


def _seen(context: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _PAUSES:
            pause = _FUNCTION(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
            builder.call(pause, [])
        place = _place(context, builder, signature.args[0], *args)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(array, types.int64), codegen


added: Any = intrinsic(_added)
"""array, index, change: the number as it was before it was changed."""
seen: Any = intrinsic(_seen)
"""array, index: the number, after a short pause."""


def _make_rung(fingerprint: str) -> Callable[..., Any]:
    def rung(bell: Any, before: int, spins: int) -> bool:
        """Waits until ``bell[0]`` is another number, so often at most; whether it is."""
        fingerprint  # noqa: B018
        found = before
        for _ in range(spins):
            found = seen(bell, 0)
            if found != before:
                break
        return found != before

    return rung


def _make_left(fingerprint: str) -> Callable[..., Any]:
    def left(counter: Any, spins: int) -> bool:
        """Waits until no thread is `INSIDE`, so often at most; whether it is so."""
        fingerprint  # noqa: B018
        found = added(counter, INSIDE, 0)  # and nothing that this thread wrote before is seen later
        for _ in range(spins):
            if found == 0:
                break
            found = seen(counter, INSIDE)
        return bool(found == 0)

    return left


MAKERS = {"rung": _make_rung, "left": _make_left}
