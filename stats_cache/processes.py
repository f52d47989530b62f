"""Worker processes that answer: a JSON value a line on their standard input, an answer a line on their output.

They run their own program, not a copy of the caller's: a plain script without ``if __name__ == "__main__"`` may use
them. They are gone when their input ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from ..grammar.errors import ProxforgeError

Job = TypeVar("Job")
Result = TypeVar("Result")

_READ_BYTES = 1 << 16


class Process:
    """The caller's end of one worker process, of one thread. ``module``: its ``main`` calls `serve`."""

    def __init__(self, module: str) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
            environment[f"{library}_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {module} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def send(self, value: object) -> None:
        """A value that is not answered. One that cannot be sent is noticed by the next `ask`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended, so `ask` reads no answer
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()

    def ask(self, value: object, ended: str) -> Any:
        """The answer to a value. ProxforgeError: what the worker raised, or, of kind ``worker`` with the message
        ``ended`` in which ``{}`` is the exit status, when the process is no more."""
        assert self._process.stdout is not None
        self.send(value)
        line = self._process.stdout.readline()
        if not line:
            raise ProxforgeError("worker", ended.format(self._process.wait()))
        answer = json.loads(line)
        if "error" in answer:
            raise ProxforgeError(answer["error"]["kind"], answer["error"]["message"])
        return answer["value"]

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Wait for its end and give the pipes back; no other thread may be in ``ask``."""
        self._process.communicate()


@contextmanager
def spread(
    jobs: Sequence[Job], processes: int, start: Callable[[], Process], run: Callable[[Process, Job], Result]
) -> Iterator[Iterator[Result]]:
    """The jobs' results as they come. The processes have ended when the context has."""
    started: list[Process] = []
    idle: SimpleQueue[Process] = SimpleQueue()

    def ask(job: Job) -> Result:
        process = idle.get()
        try:
            return run(process, job)
        finally:
            idle.put(process)

    with ThreadPoolExecutor(processes) as threads:
        try:
            for _ in range(processes):
                started.append(start())
                idle.put(started[-1])
            futures = [threads.submit(ask, job) for job in jobs]
            yield (future.result() for future in as_completed(futures))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()
    for process in started:
        process.close()


def serve(answer: Callable[[Any], object]) -> None:
    """Answer values until the standard input ends; then end at once, even in the middle of one: nobody waits for it.

    ``answer``: gives what `Process.ask` returns, or None for a value that was sent without a question.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the caller, who ends the workers
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        value = json.loads(lines.get())
        try:
            found = answer(value)
            if found is None:
                continue
            line = {"value": found}
        except ProxforgeError as error:
            line = {"error": error.to_dict()}
        print(json.dumps(line), file=answers, flush=True)


def _read(lines: SimpleQueue[bytes]) -> None:
    """Split the standard input into lines; end the process when it ends (the caller is done, or dead)."""
    buffer = b""
    while part := os.read(0, _READ_BYTES):
        *complete, buffer = (buffer + part).split(b"\n")
        for line in complete:
            lines.put(line)
    os._exit(0)
