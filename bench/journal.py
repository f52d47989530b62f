"""Journals: JSON lines that grow while long work goes on, so that a killed run continues where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from filelock import FileLock, Timeout

from ..grammar.errors import ProxforgeError

Row = TypeVar("Row")


class Journal(Generic[Row]):
    """``rows``: those that were there when it was opened."""

    def __init__(self, rows: list[Row], file: TextIO | None) -> None:
        self.rows = rows
        self._file = file

    def append(self, row: Mapping[str, Any]) -> None:
        """One line more, forced to disk; nothing where there is no file."""
        if self._file is not None:
            append(self._file, [row])


@contextmanager
def journal(
    path: Path | None, header: Mapping[str, Any], read: Callable[[Any], Row], what: str, kind: str = "file"
) -> Iterator[Journal[Row]]:
    """A file whose first line is the header and whose others are rows, for one process at a time; without a path, none.

    ``read``: a row from its JSON; ValueError, KeyError, TypeError or AttributeError for anything else. Raises
    ProxforgeError: ``kind`` for a file that is not ``what``, or has another header; ``file`` for one that cannot be
    written; ``run`` where another process has it.
    """
    if path is None:
        yield Journal([], None)
        return
    lock = FileLock(path.with_name(f".{path.name}.lock"), blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ProxforgeError("run", f"another process is writing {path}; wait for it or write elsewhere") from None
    except OSError as error:
        raise ProxforgeError("file", f"cannot write {path}: {error.strerror}; choose another place") from error
    try:
        rows = _rows(path, json.loads(json.dumps(header)), read, what, kind)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            yield Journal(rows, file)
    finally:
        lock.release()


def _rows(path: Path, header: dict[str, Any], read: Callable[[Any], Row], what: str, kind: str) -> list[Row]:
    lines = whole_lines(path)
    if not lines:
        with replacing(path) as file:
            append(file, [header])
        return []
    try:
        first, *rest = [json.loads(line) for line in lines]
        rows = [read(row) for row in rest]
        different = sorted(k for k in {**first, **header} if first.get(k) != header.get(k))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is not {what} ({error!r}): delete it to start anew, or write elsewhere"
        raise ProxforgeError(kind, message) from error
    if different:
        found = ", ".join(f"{k} {first.get(k)!r}"[:200] for k in different)
        wanted = ", ".join(f"{k} {header.get(k)!r}"[:200] for k in different)
        message = f"{path} was begun with {found}, this run has {wanted}: delete it, or write elsewhere"
        raise ProxforgeError(kind, message)
    return rows


def append(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as lines at the end of an open file, forced to disk."""
    file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    file.flush()
    os.fsync(file.fileno())


def whole_lines(path: Path) -> list[str]:
    """The lines of a file, none where there is no file. What has no end was being written when a run was killed: it is
    cut off. UnicodeDecodeError, a ValueError, for what is no text."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1].decode()
    if len(whole.encode()) < len(content):
        with replacing(path) as file:
            file.write(whole)
    return whole.splitlines()


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file to write that takes the place of ``path`` when it is whole and on disk, and not before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
