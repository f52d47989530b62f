"""What the jobs of a layer left behind becomes what is known of the layer, always in the order of the jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


MAKERS = {"join": _make_join, "join_columns": _make_join_columns}
