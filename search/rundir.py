"""The directory of a run: written to by one process, resumable after any kill, equal bytes for equal searches.

``config.json`` first; ``events.jsonl`` grows by whole asks; ``checkpoint.json`` is replaced after each and says how
long the events are, so what a kill left behind it is cut off; ``result.json`` at the end; ``timing.json`` is the only
file with a clock in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from ..grammar.errors import ProxforgeError
from .events import Event, dumps
from .result import SearchResult

CONFIG, EVENTS, CHECKPOINT, RESULT, TIMING = (
    "config.json",
    "events.jsonl",
    "checkpoint.json",
    "result.json",
    "timing.json",
)
_LOCK = "run.lock"
_ABSENT = object()


class RunError(ProxforgeError):
    """A run directory that cannot be used, or a run that was interrupted (kind ``interrupted``)."""

    def __init__(self, message: str, kind: str = "run") -> None:
        super().__init__(kind, message)


class RunDir:
    """The open directory of one run; made by `open_run`."""

    def __init__(self, path: Path, events: IO[str]) -> None:
        self.path = path
        self._events = events

    def resume(self) -> tuple[Any, list[Event]] | None:
        """The last checkpoint and the events up to it; what was written later is cut off. None in a new directory."""
        path = self.path / CHECKPOINT
        if not path.exists():
            self._events.truncate(0)
            return None
        checkpoint = _read(path)
        log = self.path / EVENTS
        if not isinstance(checkpoint, dict) or not {"events_bytes", "run"} <= checkpoint.keys():
            raise _damaged(path, "it is no checkpoint of a search")
        try:
            length = int(checkpoint["events_bytes"])
            content = log.read_bytes()[:length]
            if len(content) < length:
                raise _damaged(log, f"it holds {len(content)} bytes, the checkpoint was written after {length}")
            events = [Event.from_line(line) for line in content.decode().splitlines()]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(log, str(error)) from error
        self._events.truncate(length)
        return checkpoint["run"], events

    def append(self, events: Iterable[Event]) -> None:
        """Events of one ask, on their way to the disk when this returns."""
        with _writing(self.path / EVENTS):
            self._events.write("".join(e.to_line() for e in events))
            self._events.flush()

    def checkpoint(self, run: Any) -> None:
        """Replaces the checkpoint, in one step; ``run`` is plain JSON."""
        length = os.fstat(self._events.fileno()).st_size
        _write(self.path / CHECKPOINT, dumps({"run": run, "events_bytes": length}) + "\n", durable=False)

    def finish(self, result: SearchResult) -> None:
        """Writes ``result.json``; see `write_result`."""
        write_result(self.path, result)

    def seconds(self) -> dict[str, float]:
        """What earlier sessions of this run spent, as far as they came to their end; empty at first."""
        path = self.path / TIMING
        if not path.exists():
            return {}
        try:
            return {k: float(v) for k, v in _read(path).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise _damaged(path, str(error)) from error

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Writes ``timing.json``."""
        _write(self.path / TIMING, json.dumps(dict(seconds), indent=1) + "\n")


@contextmanager
def open_run(path: Path, config: Mapping[str, Any]) -> Iterator[RunDir]:
    """The directory of the run with that configuration, new or continued; no other process can have it meanwhile.

    Raises RunError for a directory with other files or another run in it (what differs is named), for one that is in
    use, and where it cannot be written.
    """
    config = json.loads(dumps(dict(config)))
    with ExitStack() as stack:
        with _writing(path):
            if path.is_dir() and not (path / CONFIG).exists() and not _begun(path):
                raise RunError(f"{path} holds other files and no run; choose a new or empty directory")
            path.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(path / _LOCK, blocking=False))
            except Timeout:
                message = f"another process is running in {path}; wait for it or choose another directory"
                raise RunError(message) from None
            for leftover in path.glob("*.tmp"):
                leftover.unlink()
            if (path / CONFIG).exists():
                _check_same(path, _read(path / CONFIG), config)
            else:
                _write(path / CONFIG, json.dumps(config, indent=1) + "\n")
            events = stack.enter_context((path / EVENTS).open("a", encoding="utf-8", newline="\n"))
        yield RunDir(path, events)


def write_result(path: Path, result: SearchResult) -> None:
    """Replaces ``result.json`` of a run directory, in one step: the result without the clock."""
    _write(path / RESULT, json.dumps(result.to_dict(clock=False), indent=1, allow_nan=False) + "\n")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _begun(path: Path) -> bool:
    """Whether the directory is empty, or a run was killed here before its configuration was written."""
    return all(p.name == _LOCK or p.suffix == ".tmp" for p in path.iterdir())


def _check_same(path: Path, found: Any, given: Any) -> None:
    different = list(_differences(found, given))
    if different:
        shown = "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")
        todo = "Repeat its settings to continue it, or choose another directory"
        raise RunError(f"{path} holds another run: {shown}. {todo}")


def _differences(found: Any, given: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(given, dict):
        for key in dict.fromkeys((*found, *given)):
            yield from _differences(found.get(key, _ABSENT), given.get(key, _ABSENT), f"{name}.{key}" if name else key)
    elif type(found) is not type(given) or found != given:
        yield f"{name} is {_shown(found)} there and {_shown(given)} here"


def _shown(value: Any) -> str:
    return "not given" if value is _ABSENT else f"{json.dumps(value):.60}"


def _read(path: Path) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, f"expected a JSON object, found {type(value).__name__}")
    return value


def _write(path: Path, text: str, *, durable: bool = True) -> None:
    """In one step. ``durable``: it also survives a power failure; without, any kill of the process."""
    temporary = path.with_name(f"{path.name}.tmp")
    with _writing(path):
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)


def _damaged(path: Path, what: str) -> RunError:
    return RunError(f"{path} is damaged: {what}. Delete the run directory and search again")
