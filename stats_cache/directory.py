"""The directory of a cache while it is filled: alone with it, clean, and what was renamed stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from .manifest import MANIFEST, NETWORKS
from .source import CacheError


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone with the directory, which exists then; temporary files, also a killed collection's, are gone afterwards.

    So is the directory itself where nothing was put into it.
    """
    lock = FileLock(directory.with_name(f"{directory.name}.lock"))
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        (directory / NETWORKS).mkdir(parents=True, exist_ok=True)
        _clean(directory)
    except OSError as error:
        raise CacheError(f"cannot collect into {directory}: {error.strerror}") from error
    try:
        yield
    finally:
        _clean(directory)
        if not (directory / MANIFEST).exists():
            for folder in (directory / NETWORKS, directory):
                if not any(folder.iterdir()):
                    folder.rmdir()
        lock.release()


def _clean(directory: Path) -> None:
    for leftover in (*directory.glob("*.tmp"), *directory.glob(f"{NETWORKS}/*.tmp")):
        leftover.unlink(missing_ok=True)


def rename(temporary: Path, place: Path) -> None:
    try:
        temporary.replace(place)
    except OSError as error:
        raise CacheError(f"cannot write {place}: {error.strerror}") from error


def flush(directory: Path) -> None:
    """Make the renames in the directory durable (POSIX; Windows cannot open a directory and needs no such thing)."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
