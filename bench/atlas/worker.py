"""A worker process of a build: it is sent what the atlas is made of, then asked for networks, one after the other.

The products of the branches are many short calls of numpy, so threads would wait for the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...search.spaces.tree import TreeSpace
from ...stats_cache.processes import Process, serve, spread
from ...stats_cache.source import Source
from ...stats_cache.store import Cache, open_cache
from ...vm.register import built_in
from .branches import Branches
from .files import load, save
from .meetings import Meetings, meeting
from .task import Task
from .values import starts_of, stored_values


def can_work(source: Source, space: TreeSpace) -> bool:
    """Whether another process can have the statistics and the ops."""
    return isinstance(source, Cache) and all(map(built_in, space.ops))


def met(task: Task, out: Path, networks: Sequence[int], processes: int) -> AbstractContextManager[Iterator[int]]:
    """Writes the sums of the networks, see `place_of`; these as they are done. ``out``: the folder of the build, with
    the joins and the values. ProxforgeError ``worker`` when a process has ended."""
    assert isinstance(task.source, Cache)
    space = {key: value for key, value in task.space.describe().items() if key != "name"}
    told = {"cache": str(task.source.path), "space": space, "out": str(out)}

    def start() -> Process:
        process = Process(__name__)
        process.send(told)
        return process

    return spread(networks, processes, start, _run)


def place_of(out: Path, network: int) -> Path:
    """The file of the sums of a network."""
    return out / "work" / f"network_{network:06}.npy"


def meetings_of(source: Source, space: TreeSpace, out: Path) -> Meetings:
    """What the sums are computed with, from the files of a build."""
    branches, joins = Branches.of(space), load(out / "joins.npy")
    return Meetings(source, branches, stored_values(out / "work"), starts_of(source), joins[meeting(joins, branches)])


def _run(process: Process, network: int) -> int:
    ended = (
        f"a worker process ended at network {network} (exit status {{}}). If it was killed for memory, use fewer "
        "threads; run the command again, it continues"
    )
    return int(process.ask(network, ended))


class _Answers:
    def __init__(self) -> None:
        self._out: Path | None = None
        self._meetings: Meetings | None = None
        self._told: dict[str, Any] = {}

    def __call__(self, value: Any) -> int | None:
        if self._out is None:
            self._told, self._out = value, Path(value["out"])
            return None
        if self._meetings is None:
            source, space = open_cache(Path(self._told["cache"])), TreeSpace(**self._told["space"])
            self._meetings = meetings_of(source, space, self._out)
        save(place_of(self._out, value), self._meetings.of(value, value))
        return int(value)


def main() -> None:
    """The worker's end."""
    serve(_Answers())
