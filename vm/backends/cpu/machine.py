"""The machine: runs the code of one pass over the tiles of many segments. Compiled by numba on first use, then cached.

Every function works on one thread and releases the interpreter; threads take different jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ...jit import kept
from . import atomics, columns, emit, gram, join, moves
from .atomics import INSIDE, NEXT, added
from .emit import Code
from .layout import COLUMN, COLUMNS, LAYER, NEW_COLUMNS, NEW_ROWS, OLD_COLUMNS, ROW, ROW_END, TILE_ROWS, WIDTH

STEP, TAKE, COPY_IN, COPY_OUT, TOTAL, MOMENTS, COLUMN_STATISTICS, COLUMN_STEP, COLUMN_SUMS, ROW_SUMS, STEP_SUM = range(
    11
)
"""The first number of an instruction; then: variant, destination, two sources, two indices into tables.

`STEP_SUM` is a `STEP` on one source and the sum of its result, which it need not store: its variant is the number of
the step in `emit.SUMMED`, its indices are that of the sum in the table of totals and the variant of the `STEP`.
"""
NOW, LATER = range(2)
"""The variants of `TAKE`: it asks for the next tile itself, or leaves that to the next instruction that is `_heavy`."""

_int, _real = types.int64, types.float64


def coded(instructions: Iterable[tuple[int, ...]]) -> NDArray[np.int64]:
    """The code, int64 ``[N, 7]``, with the variants of each `TAKE`: memory keeps up with what computes for long, and
    only there does asking for the next tile cost nothing."""
    code = np.array(list(instructions), np.int64)
    variant = NOW
    for line in code[::-1]:
        if line[0] == TAKE:
            line[1], variant = variant, NOW
        elif _heavy(int(line[0]), int(line[1])):
            variant = LATER
    return code


def _heavy(kind: int, variant: int) -> bool:
    if kind in (STEP, STEP_SUM):
        return (emit.STEPS if kind == STEP else emit.SUMMED)[variant] in emit.HEAVY
    return kind == COLUMN_STATISTICS or (kind == COLUMN_STEP and variant == emit.SOFTMAX)


def _generate(emitted: Callable[[Code], Any]) -> Any:
    """A function of its own, called where the instruction is used: in one function with everything else each loop would
    lose registers to constants of the others."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = f"{emitted.__name__}.{signature.args[0].dtype}"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(_returned(signature), [a.type for a in args]), name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block())
            result = emitted(Code(context, inside, signature, function.args))
            inside.ret_void() if result is None else inside.ret(result)
        result = builder.call(function, args)
        return context.get_dummy_value() if signature.return_type == types.void else result

    return codegen


def _returned(signature: Any) -> Any:
    return ir.VoidType() if signature.return_type == types.void else ir.DoubleType()


def _step(context: Any, scratch: Any, number: Any, d: Any, a: Any, b: Any, s: Any, t: Any, n: Any, ahead: Any) -> Any:
    return types.void(scratch, _int, _int, _int, _int, _real, _real, _int, _int), _generate(emit.step)


def _step_sum(context: Any, scratch: Any, number: Any, a: Any, n: Any, ahead: Any) -> Any:
    return types.float64(scratch, _int, _int, _int, _int), _generate(emit.step_sum)


def _total(context: Any, scratch: Any, kind: Any, a: Any, b: Any, s: Any, n: Any) -> Any:
    return types.float64(scratch, _int, _int, _int, _real, _int), _generate(emit.total)


def _take(context: Any, scratch: Any, d: Any, address: Any, n: Any, ahead: Any) -> Any:
    return types.void(scratch, _int, _int, _int, _int), _generate(moves.take)


def _copy_in(context: Any, scratch: Any, d: Any, address: Any, n: Any) -> Any:
    return types.void(scratch, _int, _int, _int), _generate(moves.copy_in)


def _copy_out(context: Any, scratch: Any, a: Any, address: Any, n: Any) -> Any:
    return types.void(scratch, _int, _int, _int), _generate(moves.copy_out)


def _column_statistics(
    context: Any,
    scratch: Any,
    kind: Any,
    a: Any,
    rows: Any,
    width: Any,
    largest: Any,
    sums: Any,
    place: Any,
    ahead: Any,
) -> Any:
    signature = types.void(scratch, _int, _int, _int, _int, largest, sums, _int, _int)
    return signature, _generate(columns.column_statistics)


def _column_step(
    context: Any,
    scratch: Any,
    kind: Any,
    d: Any,
    a: Any,
    rows: Any,
    width: Any,
    largest: Any,
    factors: Any,
    place: Any,
    ahead: Any,
) -> Any:
    signature = types.void(scratch, _int, _int, _int, _int, _int, largest, factors, _int, _int)
    return signature, _generate(columns.column_step)


def _column_sums(context: Any, scratch: Any, a: Any, rows: Any, width: Any, sums: Any, place: Any) -> Any:
    return types.void(scratch, _int, _int, _int, sums, _int), _generate(columns.column_sums)


def _row_sums(context: Any, scratch: Any, a: Any, rows: Any, width: Any, sums: Any, place: Any) -> Any:
    return types.void(scratch, _int, _int, _int, sums, _int), _generate(columns.row_sums)


def _flush_mode(context: Any) -> Any:
    return types.int32(), lambda context, builder, signature, args: emit.flush_mode(builder)


def _set_mode(context: Any, mode: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit.set_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int32), codegen


flush_mode: Any = intrinsic(_flush_mode)
set_mode: Any = intrinsic(_set_mode)
step: Any = intrinsic(_step)
step_sum: Any = intrinsic(_step_sum)
total: Any = intrinsic(_total)
take: Any = intrinsic(_take)
copy_in: Any = intrinsic(_copy_in)
copy_out: Any = intrinsic(_copy_out)
column_statistics: Any = intrinsic(_column_statistics)
column_step: Any = intrinsic(_column_step)
column_sums: Any = intrinsic(_column_sums)
row_sums: Any = intrinsic(_row_sums)


_COMPILED_IN = (
    "lanes", "functions", "kernels", "emit", "columns", "moves", "layout", "atomics", "join", "gram", "machine",
)  # fmt: skip


def _fingerprint() -> str:
    """Of everything that is compiled in: numba's own check of a cached function sees this file alone."""
    folder = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for name in _COMPILED_IN:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _make_run(fingerprint: str) -> Callable[..., None]:
    SUM, DEVIATIONS, MIN, MAX, WIDE_SUM = emit.SUM, emit.DEVIATIONS, emit.MIN, emit.MAX, emit.WIDE_SUM
    HEAVY_STEPS, HEAVY_SUMS = (
        sum(1 << i for i, name in enumerate(names) if name in emit.HEAVY) for names in (emit.STEPS, emit.SUMMED)
    )
    ROUNDED = emit.ROUNDED
    SOFTMAX, SMALLEST_TOTAL, LARGEST_TOTAL = emit.SOFTMAX, emit.SMALLEST_TOTAL, emit.LARGEST_TOTAL

    def run(
        bell: Any,
        counter: Any,
        last: int,
        shares: Any,
        jobs: Any,
        code: Any,
        scratch: Any,
        capacity: int,
        addresses: Any,
        scalars: Any,
        totals: Any,
        new_largest: Any,
        new_sums: Any,
        new_columns: int,
        largest: Any,
        factors: Any,
        old_columns: int,
        column_totals: Any,
        row_totals: Any,
        new_rows: int,
    ) -> None:
        fingerprint  # noqa: B018 - a part of the key under which numba caches this function
        mode = flush_mode()
        added(bell, 0, 1)
        added(counter, INSIDE, 1)
        while True:
            share = added(counter, NEXT, 1)
            if share >= last:
                break
            for j in range(shares[share], shares[share + 1]):
                layer, end, width, stride = jobs[j, LAYER], jobs[j, ROW_END], jobs[j, WIDTH], jobs[j, COLUMNS]
                tile_rows, new_place, old_place = jobs[j, TILE_ROWS], jobs[j, NEW_COLUMNS], jobs[j, OLD_COLUMNS]
                seen = 0
                for row in range(jobs[j, ROW], end, tile_rows):
                    rows = min(tile_rows, end - row)
                    n = rows * width
                    offset = row * stride + jobs[j, COLUMN]
                    if row + tile_rows < end:
                        next_tile = tile_rows * stride
                    elif j + 1 < shares[share + 1] and jobs[j + 1, LAYER] == layer:
                        next_tile = jobs[j + 1, ROW] * stride + jobs[j + 1, COLUMN] - offset
                    else:
                        next_tile = 0
                    ahead = 0
                    for k in range(len(code)):
                        kind, variant, x, y = code[k, 0], code[k, 1], code[k, 5], code[k, 6]
                        d, a, b = code[k, 2] * capacity, code[k, 3] * capacity, code[k, 4] * capacity
                        summed = kind == STEP_SUM
                        if summed:
                            value = step_sum(scratch, variant, a, n, ahead)
                            ahead = 0 if HEAVY_SUMS >> variant & 1 else ahead
                            if scratch.itemsize == 8 or SMALLEST_TOTAL <= abs(value) <= LARGEST_TOTAL:
                                totals[j, x] += value
                                continue
                        if kind == STEP or summed:
                            number, s, t = (y, 0, 0) if summed else (variant, x, y)
                            step(scratch, number, d, a, b, scalars[s, layer], scalars[t, layer], n, ahead)
                            ahead = 0 if HEAVY_STEPS >> number & 1 else ahead
                            if not summed:
                                continue
                            variant, a, b = SUM, d, d
                        if kind == TOTAL or summed:
                            value = total(scratch, variant, a, b, 0.0, n)
                            old = totals[j, x]
                            if variant == MIN:
                                totals[j, x] = value if value < old or value != value else old
                            elif variant == MAX:
                                totals[j, x] = value if value > old or value != value else old
                            else:
                                totals[j, x] = old + value
                        elif kind == TAKE:
                            address = addresses[x, layer] + 4 * offset
                            following = 0 if next_tile == 0 else address + 4 * next_tile
                            ahead = following if variant == LATER else 0
                            take(scratch, d, address, n, 0 if variant == LATER else following)
                        elif kind == COLUMN_STEP:
                            place = x * old_columns + old_place
                            column_step(scratch, variant, d, a, rows, width, largest, factors, place, ahead)
                            ahead = 0 if variant == SOFTMAX else ahead
                        elif kind == COLUMN_STATISTICS:
                            place = x * new_columns + new_place
                            column_statistics(scratch, variant, a, rows, width, new_largest, new_sums, place, ahead)
                            ahead = 0
                        elif kind == MOMENTS:
                            mean = total(scratch, WIDE_SUM, a, a, 0.0, n) / n
                            spread = total(scratch, DEVIATIONS, a, a, mean, n)
                            near = spread <= n * (ROUNDED * mean) ** 2  # perhaps all are one number
                            if near and total(scratch, DEVIATIONS, a, a, scratch[a], n) == 0.0:
                                mean, spread = float(scratch[a]), 0.0
                            apart = mean - totals[j, x]
                            totals[j, x] += apart * n / (seen + n)
                            totals[j, x + 1] += spread + apart * apart * seen * n / (seen + n)
                        elif kind == COPY_IN:
                            copy_in(scratch, d, addresses[x, layer] + scratch.itemsize * offset, n)
                        elif kind == COPY_OUT:
                            copy_out(scratch, a, addresses[x, layer] + scratch.itemsize * offset, n)
                        elif kind == COLUMN_SUMS:
                            column_sums(scratch, a, rows, width, column_totals, x * new_columns + new_place)
                        else:
                            place = x * new_rows + jobs[j, NEW_ROWS] + row - jobs[j, ROW]
                            row_sums(scratch, a, rows, width, row_totals, place)
                    seen += n
        added(counter, INSIDE, -1)
        set_mode(mode)

    return run


_LOCK = Lock()
_COMPILED: dict[tuple[str, bool], Any] = {}
_INTS, _REALS, _TABLE = types.int64[::1], types.float64[::1], types.float64[:, ::1]
_JOBS = types.int64[:, ::1]


def _signatures(number: Any) -> dict[str, Any]:
    """The types of the arguments, where tiles hold numbers of this type."""
    flat, table = number[::1], number[:, ::1]
    return {
        "run": types.void(
            _INTS, _INTS, _int, _INTS, _JOBS, _JOBS, flat, _int, _JOBS, _TABLE, _TABLE, flat, flat, _int, flat, flat,
            _int, _REALS, _REALS, _int,
        ),
        "rung": types.boolean(_INTS, _int, _int),
        "left": types.boolean(_INTS, _int),
        "join": types.void(_JOBS, _INTS, _TABLE, _TABLE),
        "added_up": types.void(_JOBS, _TABLE),
        "small": types.boolean(_TABLE, _INTS, _TABLE, _real),
        "limited": types.void(_TABLE, _INTS, _TABLE),
        "gram": types.void(_REALS, _int, _int, _int, _REALS),
        "join_columns": types.void(_JOBS, table, _TABLE, types.boolean),
    }  # fmt: skip


def compiled(name: str, double: bool = True) -> Any:
    """``run``, `gram` or one of `atomics` or `join`, compiled (about three seconds, once) or read from the disk, by one
    thread."""
    key = name, double
    if key not in _COMPILED:
        with _LOCK:
            if key not in _COMPILED:
                _COMPILED[key] = _compiled(name, double)
    return _COMPILED[key]


def _compiled(name: str, double: bool) -> Any:
    make = {"run": _make_run, **atomics.MAKERS, **join.MAKERS, **gram.MAKERS}[name]
    signature = _signatures(types.float64 if double else types.float32)[name]
    return kept(make(_fingerprint()), signature)
