"""A worker process: the plan in the first line of its input, then groups of runs; gone when the input ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ...grammar.errors import ProxforgeError
from .group import Group
from .plan import Plan, Run


class Worker:
    """The caller's end of one worker process."""

    def __init__(self, plan: Plan) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
            environment[f"{library}_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._send(plan.to_dict())

    def run(self, pairs: Sequence[tuple[str, int]]) -> list[Run]:
        """See `Group.run`. ProxforgeError ``system`` when the process has ended."""
        assert self._process.stdout is not None
        self._send([list(pair) for pair in pairs])
        line = self._process.stdout.readline()
        if not line:
            raise ProxforgeError(
                "system", f"a worker process ended (exit status {self._process.wait()}); use fewer workers"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise ProxforgeError(answer["error"]["kind"], answer["error"]["message"])
        return [Run.from_dict(run) for run in answer["runs"]]

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.communicate()

    def _send(self, value: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            message = f"a worker process ended (exit status {self._process.wait()}); use fewer workers"
            raise ProxforgeError("system", message) from error


def main() -> None:
    """The worker's end."""
    group: Group | None = None
    for line in sys.stdin:
        value = json.loads(line)
        try:
            if group is None:
                group = Group(Plan.from_dict(value))
                continue
            runs = group.run([(name, seed) for name, seed in value])
            answer: dict[str, object] = {"runs": [json.loads(run.to_line()) for run in runs]}
        except ProxforgeError as error:
            answer = {"error": {"kind": error.kind, "message": error.message}}
        print(json.dumps(answer), flush=True)
