"""A search over every space: repeatable to the byte, resumable, and not mixed up with another space."""

from __future__ import annotations

import json

import pytest
from tiny import hash_problem, real_problem

from proxforge.search.loop import run_search
from proxforge.search.rundir import RunError
from proxforge.search.spaces import make_space
from proxforge.search.strategies import STRATEGIES, make_strategy

SPACES = {
    "tree": {"ops": "autoprox"},
    "expression": {"depth": 4, "numbers": (2.0,), "layers": ("layer_mean", "layer_sum")},
    "memory": {"length": 6, "numbers": (2.0,)},
}
FILES = ("config.json", "events.jsonl", "checkpoint.json", "result.json")
OPTIONS = {"steps": 8, "population": 6}


class Killed(Exception):
    pass


def run(space, strategy, out, problem=hash_problem, options=None, **more):
    chosen = make_space(space, SPACES[space] | (options or {}))
    return run_search(problem(), make_strategy(strategy, chosen, OPTIONS), seed=9, out=out, **more)


def content(path):
    return {name: (path / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("space", SPACES)
def test_stopped_and_continued(space, strategy, tmp_path):
    whole = run(space, strategy, tmp_path / "whole")
    stops = 0

    def progress(_):
        nonlocal stops
        stops += 1
        if stops in (2, 5, 7):
            raise Killed

    while not (tmp_path / "parts" / "result.json").exists():
        try:
            run(space, strategy, tmp_path / "parts", progress=progress)
        except Killed:
            continue
    assert stops > 7
    assert content(tmp_path / "whole") == content(tmp_path / "parts")
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["space"] == make_space(space, SPACES[space]).describe() == whole.params["space"]
    assert whole.evaluations > 5


@pytest.mark.parametrize("space", ["expression", "memory"])
def test_programs_of_every_space_are_scored(space):
    result = run(space, "random", None, real_problem)
    assert result.best is not None
    assert result.evaluations > 20
    assert {e.status for e in result.history} >= {"ok"}


def test_another_space_is_another_run(tmp_path):
    run("expression", "random", tmp_path)
    with pytest.raises(RunError, match=r"space\.depth is 4 there and 5 here"):
        run("expression", "random", tmp_path, options={"depth": 5})
    with pytest.raises(RunError, match=r'space\.name is "expression" there and "memory" here'):
        run("memory", "random", tmp_path)
