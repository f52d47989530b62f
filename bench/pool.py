"""Worker processes of one thread each, for work that Python functions do."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from ..grammar.errors import ProxforgeError


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """What has not started is given up when the block is left by an exception.

    Raises ProxforgeError when a worker was killed.
    """
    made = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield made
    except BrokenProcessPool as error:
        message = "a worker process was killed (too little memory?): run the command again, it continues"
        raise ProxforgeError("worker", message) from error
    finally:
        made.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """In a worker: one thread for torch, and an end when the parent ends, even by SIGKILL."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
