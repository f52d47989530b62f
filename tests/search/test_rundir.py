"""Run directories: killed anywhere and continued, the end is the same, byte by byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import hash_problem

from proxforge.search import loop
from proxforge.search.loop import run_search
from proxforge.search.rundir import RunDir, RunError, open_run
from proxforge.search.spaces import TreeSpace
from proxforge.search.strategies import STRATEGIES, make_strategy

SPACE = TreeSpace(("qkv.w", "fc1.w"), ("mean", "abs", "log_softmax", "softmax", "sign", "-", "*"))
FILES = {"config.json", "events.jsonl", "checkpoint.json", "result.json"}
SETTINGS = {
    "random": {"steps": 40},
    "elitism_preserve": {"steps": 16},
    "automl_zero": {"steps": 60, "population": 40},
    "probe_model": {"steps": 30, "candidates": 6, "rounds": 1},
}
"""Runs of some 30 asks and 100 events or more; `OTHERS` where nothing is said."""
OTHERS = {"steps": 80}
DELAY = 0.006

CHILD = """
import sys
from test_rundir import DELAY, run
run(sys.argv[1], sys.argv[2], delay=DELAY)
"""


class Killed(Exception):
    pass


def run(name, out, *, delay=0.0, seed=4, progress=None, **options):
    strategy = make_strategy(name, SPACE, {**SETTINGS.get(name, OTHERS), **options})
    return run_search(hash_problem(delay), strategy, seed=seed, out=out, progress=progress)


def content(path: Path) -> dict[str, bytes]:
    return {file: (path / file).read_bytes() for file in FILES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Name of a strategy -> the files of a run that nothing interrupted."""
    found = {}
    for name in STRATEGIES:
        path = tmp_path_factory.mktemp("whole") / name
        run(name, path)
        found[name] = content(path)
    return found


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("lines", [1, 80])
def test_sigkill_and_continue(name, lines, tmp_path, whole):
    root = Path(__file__).parents[2]
    paths = os.pathsep.join((str(root), str(Path(__file__).parent)))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, name, str(tmp_path / "run")], env=os.environ | {"PYTHONPATH": paths}
    )
    log = tmp_path / "run" / "events.jsonl"
    until = time.monotonic() + 30
    while not (log.exists() and log.read_bytes().count(b"\n") >= lines) and time.monotonic() < until:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it was killed: nothing is tested"
    assert not (tmp_path / "run" / "result.json").exists()
    run(name, tmp_path / "run")
    assert content(tmp_path / "run") == whole[name]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("every", [0.0, 0.003])
def test_stopped_again_and_again(name, every, tmp_path, whole, monkeypatch):
    """Stops again and again, each time with half a line behind it."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", every)
    asks = stops = 0

    def progress(_):
        nonlocal asks
        asks += 1
        if asks == 5 + 20 * stops:
            raise Killed

    while True:
        try:
            run(name, tmp_path, progress=progress)
        except Killed:
            asks, stops = 0, stops + 1
            with (tmp_path / "events.jsonl").open("a") as log:
                log.write('{"ask":99,"index":0,"status"')
        else:
            break
    assert stops >= 2
    assert content(tmp_path) == whole[name]


@pytest.mark.parametrize(("seconds", "written"), [(1e9, 2), (0.0, 40)])
def test_checkpoints_are_written_first_last_and_when_due(seconds, written, tmp_path, monkeypatch):
    """Not after every ask: replacing a file costs as much as some evaluations."""
    calls = []
    write = RunDir.checkpoint
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
    monkeypatch.setattr(RunDir, "checkpoint", lambda self, state: (calls.append(state["asks"]), write(self, state)))
    run("random", tmp_path)
    assert len(calls) == written
    assert (calls[0], calls[-1]) == (1, 40)


def test_a_finished_run_is_not_run_again(tmp_path, whole):
    run("random", tmp_path)
    asked = []
    again = run("random", tmp_path, progress=asked.append)
    assert asked == []
    assert content(tmp_path) == whole["random"]
    assert again.evaluations > 0


def test_ctrl_c_finishes_the_step_and_says_how_to_continue(tmp_path, whole):
    asks = []

    def progress(_):
        asks.append(1)
        if len(asks) == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunError, match="continue") as caught:
        run("elitism_preserve", tmp_path / "run", progress=progress)
    assert caught.value.kind == "interrupted"
    assert str(tmp_path / "run") in caught.value.message
    assert len(asks) == 4
    assert signal.getsignal(signal.SIGINT) is before
    run("elitism_preserve", tmp_path / "run")
    assert content(tmp_path / "run") == whole["elitism_preserve"]
    asks.clear()
    with pytest.raises(RunError, match="nothing was kept"):
        run("elitism_preserve", None, progress=progress)


def test_the_second_ctrl_c_stops_at_once():
    def progress(_):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)  # to this thread, handled before it returns: two never become one

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run("random", None, progress=progress)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_search_in_a_thread_works(tmp_path, whole):
    thread = threading.Thread(target=run, args=("random", tmp_path))
    thread.start()
    thread.join()
    assert content(tmp_path) == whole["random"]


def test_seconds_add_up_over_sessions(tmp_path):
    first = run("random", tmp_path).seconds
    assert json.loads((tmp_path / "timing.json").read_text()) == first
    second = run("random", tmp_path).seconds
    assert second["total"] > first["total"]
    assert second["strategy"] == first["strategy"] > 0


def test_another_run_in_the_directory_is_refused_and_the_difference_named(tmp_path, whole):
    run("random", tmp_path)
    with pytest.raises(RunError, match="seed is 4 there and 5 here"):
        run("random", tmp_path, seed=5)
    with pytest.raises(RunError, match=r"strategy\.population is 20 there and 7 here"):
        run("random", tmp_path, population=7)
    with pytest.raises(RunError, match=r"strategy\.name is \"random\" there.*and 3 more"):
        run("elitism_preserve", tmp_path)
    assert content(tmp_path) == whole["random"]


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="other files"):
        run("random", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        run("random", tmp_path / "run")


def test_a_run_killed_before_its_configuration_was_written_starts(tmp_path, whole):
    (tmp_path / "config.json.tmp").write_text('{"schem')
    (tmp_path / "run.lock").touch()
    run("random", tmp_path)
    assert content(tmp_path) == whole["random"]
    assert {p.name for p in tmp_path.iterdir()} == FILES | {"timing.json", "run.lock"}


def test_events_without_a_checkpoint_are_of_no_use(tmp_path, whole):
    """A kill between the first events and the first checkpoint."""
    run("random", tmp_path)
    (tmp_path / "checkpoint.json").unlink()
    run("random", tmp_path)
    assert content(tmp_path) == whole["random"]


def test_one_process_at_a_time(tmp_path):
    with open_run(tmp_path, {"a": 1}), pytest.raises(RunError, match="another process"), open_run(tmp_path, {"a": 1}):
        pass


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("checkpoint.json", lambda b: b[: len(b) // 2]),
        ("checkpoint.json", lambda b: b"[1]"),
        ("checkpoint.json", lambda b: b.replace(b'"asks"', b'"acks"')),
        ("checkpoint.json", lambda b: b.replace(b'"state":[', b'"state":["x",')),
        ("events.jsonl", lambda b: b[:-20]),
        ("events.jsonl", lambda b: b"#" + b[1:]),
        ("events.jsonl", lambda b: b.replace(b'"jcm"', b'"jam"', 1)),
        ("config.json", lambda b: b[:50]),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, damage):
    run("elitism_preserve", tmp_path)
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(RunError, match=file.split(".")[0]) as caught:
        run("elitism_preserve", tmp_path)
    assert "damaged" in caught.value.message
