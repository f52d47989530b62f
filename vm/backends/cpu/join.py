"""What the jobs of a layer left behind becomes what is known of the layer, always in the order of the jobs; and what is
computed from that for all layers at once.

The tables are small, and behind a sweep the processor's caches hold its tiles: one call of a compiled function takes as
long as one of numpy's, of which the same would take five or ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ....grammar.reference import FLOAT32_MAX, FLOAT32_TINY
from .emit import MAX, MEAN, MIN
from .layout import LAYER, NEW_COLUMNS, OLD_COLUMNS, ROW, ROW_END, WIDTH


def _make_join(fingerprint: str) -> Callable[..., None]:
    def join(jobs: Any, kinds: Any, totals: Any, out: Any) -> None:
        """The totals of jobs ``[J, S]`` as totals of layers, ``out`` ``[S, T]``, in the order of the jobs.

        ``kinds`` ``[S]``: what each total is; `MEAN` is followed by the deviations that belong to it.
        """
        fingerprint  # noqa: B018
        seen = 0.0
        for j in range(len(jobs)):
            layer = jobs[j, LAYER]
            n = float((jobs[j, ROW_END] - jobs[j, ROW]) * jobs[j, WIDTH])
            fresh = j == 0 or jobs[j - 1, LAYER] != layer
            if fresh:
                seen = 0.0
            for s in range(len(kinds)):
                kind, value = kinds[s], totals[j, s]
                if fresh:
                    out[s, layer] = value
                elif kind == MIN:
                    out[s, layer] = value if value < out[s, layer] or value != value else out[s, layer]
                elif kind == MAX:
                    out[s, layer] = value if value > out[s, layer] or value != value else out[s, layer]
                elif kind == MEAN:
                    apart = value - out[s, layer]
                    out[s, layer] += apart * n / (seen + n)
                    out[s + 1, layer] += apart * apart * seen * n / (seen + n)
                else:
                    out[s, layer] += value
            seen += n

    return join


def _make_join_columns(fingerprint: str) -> Callable[..., None]:
    def join_columns(jobs: Any, found: Any, out: Any, sums: bool) -> None:
        """Takes numbers of columns by job ``[K, ..]`` into those of layers, ``out`` ``[K, ..]``: adds them, or keeps
        the largest."""
        fingerprint  # noqa: B018
        for j in range(len(jobs)):
            new, old, width = jobs[j, NEW_COLUMNS], jobs[j, OLD_COLUMNS], jobs[j, WIDTH]
            for k in range(len(found)):
                for c in range(width):
                    x, known = float(found[k, new + c]), out[k, old + c]
                    out[k, old + c] = known + x if sums else x if x > known else known

    return join_columns


def _make_added_up(fingerprint: str) -> Callable[..., None]:
    def added_up(steps: Any, table: Any) -> None:
        """Rows of a table ``[S, T]`` as sums of others. ``steps`` ``[N, 4]``: the row, its terms, and what the second
        counts: 1, -1, or 0 where the first counts -1 and there is no second."""
        fingerprint  # noqa: B018
        for k in range(len(steps)):
            row, a, b, sign = steps[k]
            for t in range(table.shape[1]):
                if sign > 0:
                    table[row, t] = table[a, t] + table[b, t]
                elif sign < 0:
                    table[row, t] = table[a, t] - table[b, t]
                else:
                    table[row, t] = -table[a, t]

    return added_up


def _make_small(fingerprint: str) -> Callable[..., bool]:
    def small(table: Any, rows: Any, counts: Any, limit: float) -> bool:
        """Whether a number in these rows of a table ``[S, T]`` is not 0, and below ``limit`` for each of the counted
        elements; ``counts``: ``[rows, T]``, or ``[1, T]`` for all of them."""
        fingerprint  # noqa: B018
        for k in range(len(rows)):
            count = k if len(counts) > 1 else 0
            for t in range(table.shape[1]):
                value = table[rows[k], t]
                if value != 0.0 and abs(value) < limit * counts[count, t]:
                    return True
        return False

    return small


def _make_limited(fingerprint: str) -> Callable[..., None]:
    def limited(values: Any, rows: Any, table: Any) -> None:
        """Writes values ``[M, T]`` to these rows of a table, in float32's range, see `reference.in_range`."""
        fingerprint  # noqa: B018
        for k in range(len(rows)):
            for t in range(table.shape[1]):
                value = values[k, t]
                size = abs(value)
                if size > FLOAT32_MAX:
                    value *= math.inf
                elif size < FLOAT32_TINY:
                    value = 0.0
                table[rows[k], t] = value

    return limited


MAKERS = {
    "join": _make_join,
    "join_columns": _make_join_columns,
    "added_up": _make_added_up,
    "small": _make_small,
    "limited": _make_limited,
}
