"""Threads over jobs. What is computed does not depend on how many there are."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")

CACHE_LINE = 64
TABLE = 1 << 25
"""Bytes of a table that is kept."""


def available() -> int:
    """The processors that this process may use, at most ``OMP_NUM_THREADS`` where that is set."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(given)) if given.isdigit() and int(given) > 0 else usable


class Threads:
    """``count`` threads, the calling one among them, each with its own scratch memory, and the tables that all of them
    write to."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1, "proxforge-cpu") if count > 1 else None
        self._local = threading.local()
        self._tables: dict[str, NDArray[Any]] = {}

    def each(self, function: Callable[[Item], Any], items: Sequence[Item]) -> None:
        """Calls the function with every item; raises what it raises."""
        left = deque(items)

        def work() -> None:
            while True:
                try:
                    item = left.popleft()
                except IndexError:
                    return
                function(item)

        others = [] if self._pool is None else [self._pool.submit(work) for _ in range(min(self.count, len(items)) - 1)]
        try:
            work()
        finally:
            left.clear()
            failed = [other.exception() for other in others]  # waits for them
        for error in filter(None, failed):
            raise error

    def ahead(self, function: Callable[[], Any]) -> None:
        """Calls the function in another thread, if there is one, while the calling one goes on: for what is kept by
        whoever computes it first. What it raises is raised again for who needs it."""
        if self._pool is not None:
            self._pool.submit(function)

    def scratch(self, size: int, number: type[np.floating[Any]]) -> NDArray[Any]:
        """Memory of the calling thread for at least so many numbers; what is in it is left from before."""
        held: NDArray[Any] | None = getattr(self._local, "scratch", None)
        if held is None or len(held) < size or held.dtype != number:
            held = aligned(size, number)
            self._local.scratch = held
        return held

    def table(self, name: str, shape: tuple[int, int], number: type[np.floating[Any]], first: float) -> NDArray[Any]:
        """A table of so many rows and columns, filled; the next one of this name lies in the same memory. New memory
        costs more than what is done with it: the system clears it, page by page."""
        size = shape[0] * shape[1]
        held = self._tables.get(name)
        if held is None or len(held) < size or held.dtype != number:
            held = np.empty(size, number)
            self._tables[name] = held if held.nbytes <= TABLE else held[:0]
        found = held[:size].reshape(shape)
        found.fill(first)
        return found


def aligned(size: int, number: type[np.floating[Any]]) -> NDArray[Any]:
    """So many zeros, from the beginning of a cache line: a vector that crosses two lines takes twice as long."""
    extra = CACHE_LINE // np.dtype(number).itemsize
    room = np.zeros(size + extra, number)
    start = -room.ctypes.data % CACHE_LINE // room.itemsize
    return room[start : start + size]
