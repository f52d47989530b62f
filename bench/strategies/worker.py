"""A worker process of a comparison: it is sent the plan, then asked for groups of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ...stats_cache.processes import Process, serve, spread
from .group import Group
from .plan import Plan, Run

Pairs = Sequence[tuple[str, int]]
"""(strategy, seed)."""


def results(plan: Plan, jobs: Sequence[Pairs], processes: int) -> AbstractContextManager[Iterator[list[Run]]]:
    """The runs of the jobs as they come, see `Group.run`. ProxforgeError ``worker`` when a process has ended."""

    def start() -> Process:
        process = Process(__name__)
        process.send(plan.to_dict())
        return process

    return spread(jobs, processes, start, _run)


def _run(process: Process, pairs: Pairs) -> list[Run]:
    answer = process.ask([list(pair) for pair in pairs], "a worker process ended (exit status {}); use fewer workers")
    return [Run.from_dict(run) for run in answer]


class _Answers:
    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._group: Group | None = None

    def __call__(self, value: Any) -> list[dict[str, Any]] | None:
        if self._plan is None:
            self._plan = Plan.from_dict(value)
            return None
        self._group = self._group or Group(self._plan)
        return [run.to_dict() for run in self._group.run([(name, seed) for name, seed in value])]


def main() -> None:
    """The worker's end."""
    serve(_Answers())
