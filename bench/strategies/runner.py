"""All runs of a comparison: resumable, over several processes, the same runs whatever their number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ...grammar.errors import ProxforgeError
from ..journal import append, replacing, whole_lines
from .group import Group
from .plan import Plan, Run
from .worker import results

PLAN, RUNS = "plan.json", "runs.jsonl"
TOGETHER = 120_000
"""Evaluations of the runs that go in lock-step: as many as a kill can lose."""

Told = Callable[[int, int], None]
"""Runs done, of how many."""


def run_all(
    plan: Plan,
    seeds: Sequence[int],
    out: Path,
    *,
    workers: int = 1,
    told: Told | None = None,
    group: Group | None = None,
) -> list[Run]:
    """Every strategy of the plan with every seed; what is in ``out`` already is not run again.

    ``group``: what runs them, in this process (for scores from elsewhere). A killed comparison continues where it was,
    up to the runs that were going on. Raises ProxforgeError ``run`` for a directory of another comparison.
    """
    with _locked(out):
        found = _read(plan, out)
        wanted = [(name, seed) for seed in seeds for name in plan.strategies]
        left = [pair for pair in wanted if pair not in found]
        size = max(1, TOGETHER // plan.budgets[-1])
        size = min(size, -(-len(left) // workers)) if left else 1
        jobs = [left[i : i + size] for i in range(0, len(left), size)]
        if told is not None:
            told(len(wanted) - len(left), len(wanted))
        with (
            (out / RUNS).open("a", encoding="utf-8", newline="\n") as file,
            _results(plan, jobs, workers, group) as made,
        ):
            for runs in made:
                append(file, [run.to_dict() for run in runs])
                found.update({(run.strategy, run.seed): run for run in runs})
                if told is not None:
                    told(sum(pair in found for pair in wanted), len(wanted))
        return [found[pair] for pair in sorted(wanted, key=lambda p: (list(plan.strategies).index(p[0]), p[1]))]


@contextmanager
def _results(
    plan: Plan, jobs: Sequence[Sequence[tuple[str, int]]], workers: int, group: Group | None
) -> Iterator[Iterator[list[Run]]]:
    if workers > 1 and len(jobs) > 1 and group is None:
        with results(plan, jobs, min(workers, len(jobs))) as made:
            yield made
    elif jobs:
        here = group or Group(plan)
        yield (here.run(job) for job in jobs)
    else:
        yield iter(())


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / "bench.lock", blocking=False):
            yield
    except Timeout:
        raise ProxforgeError("run", f"another process is running in {out}; wait for it or choose another") from None


def _read(plan: Plan, out: Path) -> dict[tuple[str, int], Run]:
    """The runs that are there. A last line that a kill left half-written is cut off."""
    path = out / PLAN
    given = {"settings": plan.settings(), "strategies": {n: dict(o) for n, o in plan.strategies.items()}}
    try:
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            different = [k for k, v in given["settings"].items() if old["settings"].get(k) != v]
            different += [n for n, o in given["strategies"].items() if old["strategies"].get(n, o) != o]
            if different:
                raise ProxforgeError(
                    "run", f"{out} holds another comparison: {', '.join(different)} differ; choose another directory"
                )
            given["strategies"] = {**old["strategies"], **given["strategies"]}
        with replacing(path) as file:
            file.write(json.dumps(given, indent=1) + "\n")
        runs = [Run.from_dict(json.loads(line)) for line in whole_lines(out / RUNS)]
    except (ValueError, KeyError, TypeError) as error:
        raise ProxforgeError("run", f"{out} is damaged: {error}; delete it and run again") from error
    return {(run.strategy, run.seed): run for run in runs}
