"""The threads of BLAS."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keeps BLAS to the thread that calls it: on small matrices, and while a pool of threads calls it, its own threads
    would wait for each other, and what it returns could depend on their number."""
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit
