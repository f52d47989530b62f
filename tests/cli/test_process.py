"""The command line as a process: locale, closed pipes, full disks, signals, what it loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEARCH = ["search", "-b", "digits", "-s", "elitism_preserve"]


def test_output_in_a_locale_without_greek():
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    for args in (["ops", "--json"], ["ops", "--markdown"], ["check", "qkv.w # \udcff", "--json"]):
        shown = subprocess.run(
            [sys.executable, "-m", "proxforge", *args], cwd=ROOT, capture_output=True, check=True, env=env
        )
        if "--json" in args:
            json.loads(shown.stdout)


@pytest.mark.parametrize("env", [dict(os.environ), {}], ids=["this environment", "an empty one"])
def test_a_full_disk_under_the_output_is_an_error_and_no_traceback(env):
    """Also where the interpreter keeps what it could not write, and would try again when it ends (exit code 120)."""
    command = [sys.executable, "-m", "proxforge", "ops", "--json"]
    with Path("/dev/full").open("w") as full:
        shown = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False, env=env)
    assert shown.returncode == 2
    assert shown.stderr.startswith(b"system error: OSError")
    assert b"Traceback" not in shown.stderr


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -m proxforge ops --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False)
    assert shown.returncode in (0, 141)
    assert shown.stderr == b""


def test_the_module_runs_and_help_is_quick():
    """`python -m proxforge check` needs neither torch nor numba."""
    code = (
        "import sys; from proxforge.cli import run; assert run(['check', 'abs(qkv.w)']) == 0; "
        "assert not {'torch', 'numba', 'scipy', 'pandas'} & set(sys.modules), 'slow imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    shown = subprocess.run(
        [sys.executable, "-m", "proxforge", "check", "qkv.w +"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert "ends too early" in shown.stderr


def test_ctrl_c_keeps_the_run(cache, tmp_path):
    """SIGINT in the middle of a search: exit code 130, and the same command goes on to the same result."""
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "proxforge",
        *SEARCH,
        "--steps",
        "40",
        "--cache",
        str(cache),
        "--out",
        str(out),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    deadline = time.monotonic() + 120
    while not (out / "events.jsonl").exists() or (out / "events.jsonl").stat().st_size < 5000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert json.loads(printed)["error"]["kind"] == "interrupted"
    continued = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    fresh = subprocess.run(
        [*command[:-1], str(tmp_path / "fresh"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert json.loads(continued.stdout)["best"] == json.loads(fresh.stdout)["best"]
    assert (out / "events.jsonl").read_bytes() == (tmp_path / "fresh" / "events.jsonl").read_bytes()
