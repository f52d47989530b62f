"""Threads over jobs. What is computed does not depend on how many there are."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .atomics import NEXT, SPINS
from .layout import Ints
from .machine import compiled

Item = TypeVar("Item")

CACHE_LINE = 64
TABLE = 1 << 25
"""Bytes of a table that is kept."""
_CLOSED = 1 << 62
"""More shares than there are."""


def available() -> int:
    """The processors that this process may use, at most ``OMP_NUM_THREADS`` where that is set."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(given)) if given.isdigit() and int(given) > 0 else usable


class Threads:
    """``count`` threads, the calling one among them, each with its own scratch memory, and the tables that all of them
    write to.

    One thread at a time calls `each` and `together`. A thread that has worked with the others stays awake for a while:
    the next work comes soon, see `atomics`.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1, "proxforge-cpu") if count > 1 else None
        self._local = threading.local()
        self._tables: dict[str, NDArray[Any]] = {}
        self._bell = np.zeros(1, np.int64)
        self._quiet = np.zeros(1, np.int64)
        self._lock = threading.Lock()
        self._work: Callable[[Ints], Any] | None = None
        self._posted = 0  # how often there was work
        self._helping = 0  # threads in `_help`, or on their way there
        self._helpers: list[Future[None]] = []

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

        self._bell += 1  # who is awake is free for this
        others = [] if self._pool is None else [self._pool.submit(work) for _ in range(min(self.count, len(items)) - 1)]
        try:
            work()
        finally:
            left.clear()
            failed = [other.exception() for other in others]  # waits for them
        for error in filter(None, failed):
            raise error

    def together(self, work: Callable[[Ints], Any], several: int, counters: Ints) -> None:
        """Calls the function in this thread and in up to ``several - 1`` others, with the bell for `machine`'s ``run``;
        returns when none of them has a share left. Raises what it raises, of what comes later the next time.

        ``counters``: int64 ``[B, 2]``, what the function gives to ``run``, see `atomics`: a thread that comes when all
        shares are claimed does no harm, so nobody waits for it.
        """
        if several == 1 or self._pool is None:
            work(self._quiet)
            return
        with self._lock:
            self._work = work
            self._posted += 1
            absent = max(0, several - 1 - self._helping)
            self._helping += absent
        self._helpers += [self._pool.submit(self._help) for _ in range(absent)]
        try:
            work(self._bell)
        finally:
            counters[:, NEXT] = _CLOSED
            left = compiled("left")
            for counter in counters:
                while not left(counter, SPINS):
                    time.sleep(0)
            self._work = None
        ended = [helper for helper in self._helpers if helper.done()]
        self._helpers = [helper for helper in self._helpers if helper not in ended]
        for helper in ended:
            helper.result()

    def _help(self) -> None:
        """In another thread: works as long as there is work, and waits awake for more."""
        done, waited = 0, False
        while True:
            before = int(self._bell[0])
            with self._lock:
                work = self._work if self._posted != done else None
                done = self._posted
                if work is None and waited:
                    self._helping -= 1
                    return
            waited = work is None
            if work is None:
                compiled("rung")(self._bell, before, SPINS)
                continue
            try:
                work(self._quiet)
            except BaseException:  # raised again; whatever ends this thread, it helps no longer
                with self._lock:
                    self._helping -= 1
                raise

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
        if not size:
            return np.empty(shape, number)
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
