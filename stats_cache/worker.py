"""Networks collected by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..grammar.errors import ProxforgeError
from .gather import Job, gather
from .manifest import Stored
from .processes import Process, serve, spread
from .source import CacheError

Result = tuple[Job, Path, Stored]


@contextmanager
def results(jobs: list[Job], processes: int) -> Iterator[Iterator[Result]]:
    """The jobs' results as they come; inline for one process. The workers have ended when the context has."""
    if processes == 1:
        yield ((job, *gather(job)) for job in jobs)
        return
    with spread(jobs, processes, lambda: Process(__name__), _gathered) as made:
        yield made


def _gathered(process: Process, job: Job) -> Result:
    """``gather`` over there. Raises what it raises, and CacheError when the process has ended."""
    ended = (
        f"a worker process ended while collecting network {job.index} (exit status {{}}). If it was killed for memory, "
        "use fewer workers; what was collected before is kept"
    )
    try:
        answer = process.ask(job.to_json(), ended)
    except ProxforgeError as error:
        if error.kind in ("cache", "worker"):
            raise CacheError(error.message) from error
        raise
    return job, Path(answer["file"]), Stored.from_json(answer["stored"])


def _answer(value: Any) -> dict[str, Any]:
    file, stored = gather(Job.from_json(value))
    return {"file": str(file), "stored": stored.to_json()}


def main() -> None:
    """The worker's end."""
    serve(_answer)
