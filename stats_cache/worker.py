"""A worker process: a job a line on its standard input, an answer a line on its output, gone when the input ends.

It runs its own program, not a copy of the caller's: a plain script without ``if __name__ == "__main__"`` may use it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from ..grammar.errors import ProxforgeError
from .gather import Job, gather
from .manifest import Stored
from .source import CacheError

_READ_BYTES = 1 << 16


class Worker:
    """The caller's end of one worker process."""

    def __init__(self) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        for library in ("OMP", "MKL", "OPENBLAS"):
            environment[f"{library}_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def gather(self, job: Job) -> tuple[Path, Stored]:
        """``gather`` over there. Raises what it raises, and CacheError when the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise CacheError(
                f"a worker process ended while collecting network {job.index} (exit status {self._process.wait()}). If "
                "it was killed for memory, use fewer workers; what was collected before is kept"
            )
        answer = json.loads(line)
        if "error" in answer:
            kind, message = answer["error"]["kind"], answer["error"]["message"]
            raise CacheError(message) if kind == "cache" else ProxforgeError(kind, message)
        return Path(answer["file"]), Stored.from_json(answer["stored"])

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Wait for its end and give the pipes back; no other thread may be in ``gather``."""
        self._process.communicate()


Result = tuple[Job, Path, Stored]


@contextmanager
def results(jobs: list[Job], processes: int) -> Iterator[Iterator[Result]]:
    """The jobs' results as they come; inline for one process. The workers have ended when the context has."""
    if processes == 1:
        yield ((job, *gather(job)) for job in jobs)
        return
    workers: list[Worker] = []
    idle: SimpleQueue[Worker] = SimpleQueue()

    def ask(job: Job) -> Result:
        worker = idle.get()
        try:
            return (job, *worker.gather(job))
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(processes) as threads:
        try:
            for _ in range(processes):
                workers.append(Worker())
                idle.put(workers[-1])
            futures = [threads.submit(ask, job) for job in jobs]
            yield (future.result() for future in as_completed(futures))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.kill()
    for worker in workers:
        worker.close()


def main() -> None:
    """Answer jobs until the standard input ends; then end at once, even in the middle of a job: nobody waits for it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the caller, who ends the workers
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        job = Job.from_json(json.loads(lines.get()))
        try:
            file, stored = gather(job)
            answer = {"file": str(file), "stored": stored.to_json()}
        except ProxforgeError as error:
            answer = {"error": error.to_dict()}
        print(json.dumps(answer), file=answers, flush=True)


def _read(lines: SimpleQueue[bytes]) -> None:
    """Split the standard input into lines; end the process when it ends (the caller is done, or dead)."""
    buffer = b""
    while part := os.read(0, _READ_BYTES):
        *complete, buffer = (buffer + part).split(b"\n")
        for line in complete:
            lines.put(line)
    os._exit(0)
