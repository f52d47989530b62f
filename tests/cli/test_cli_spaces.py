"""The command line: search spaces are chosen, searched and counted."""

from __future__ import annotations

import json

import pytest

import proxforge
from proxforge.cli import run
from proxforge.search.spaces import ExpressionSpace


@pytest.fixture
def call(capsys):
    def called(*args: object):
        code = run([*map(str, args), "--json"])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, json.loads(printed.out)

    return called


SEARCH = ("search", "-b", "digits", "--strategy", "random", "--steps", 2, "--population", 4)


@pytest.mark.parametrize(
    ("options", "space"),
    [
        (("--space", "expression", "--depth", 3, "--layers", "layer_sum"), {"depth": 3, "layers": ["layer_sum"]}),
        (("--space", "memory", "--length", 4, "--registers", 2, "--numbers", "2,-.5"), {"numbers": ["2.0", "-0.5"]}),
        (("--inputs", "qkv.w, F1g", "--ops", "abs, mean,neg,+,-"), {"inputs": ["qkv.w", "qkv.g"]}),
        (("--ops", "abs,mean,neg,+,-", "--unaries", 3, "--branches", 3), {"unaries": 3, "branches": 3}),
    ],
)
def test_a_search_of_a_space(call, cache, tmp_path, options, space):
    code, found = call(*SEARCH, *options, "--cache", cache, "--out", tmp_path)
    assert code == 0
    assert found["params"]["space"].items() >= space.items()
    assert found["evaluations"] > 0
    assert call(*SEARCH, *options, "--cache", cache, "--out", tmp_path)[1]["evaluations"] == found["evaluations"]
    code, other = call(*SEARCH, "--cache", cache, "--out", tmp_path)
    assert code == 2
    assert "another run: space" in other["error"]["message"]


def test_a_search_of_a_space_from_python(cache):
    space = ExpressionSpace(("qkv.w", "fc1.w"), depth=2)
    options = {"steps": 2, "population": 4}
    one = proxforge.search("digits", "random", options=options, space=space, cache=cache)
    other = proxforge.search(
        "digits",
        "random",
        options=options,
        space="expression",
        space_options={"inputs": ("qkv.w", "fc1.w"), "depth": 2},
        cache=cache,
    )
    assert one.to_dict(clock=False) == other.to_dict(clock=False)
    assert one.params["space"] == space.describe()


@pytest.mark.parametrize(
    ("args", "counts"),
    [
        (("--ops", "abs,neg,mean,+,-", "--inputs", "qkv.w,fc1.w"), (648, 584)),
        (("--space", "expression", "--depth", 1), (456, 264)),
        (("--space", "memory", "--length", 1, "--registers", 1), (540, 297)),
    ],
)
def test_bench_space(call, args, counts):
    code, found = call("bench", "space", *args)
    assert code == 0
    assert set(found) == {"raw", "typed", "valid", "distinct", "seconds"}
    assert (found["raw"], found["typed"]) == counts
    assert 0 < found["distinct"] < found["valid"] <= found["typed"]


def test_bench_space_for_people(capsys):
    assert run(["bench", "space", "--space", "expression", "--depth", "1"]) == 0
    printed = capsys.readouterr()
    assert "57.89%" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("args", "kind", "part"),
    [
        (("bench", "space", "--space", "expression"), "size", "at most 1,000,000"),
        (("bench", "space", "--unaries", 3), "size", "--limit-minutes is 120"),
        (("bench", "space", "--ops", "abs,neg,mean,+", "--limit-minutes", 1e-9), "size", "--limit-minutes is 1e-09"),
        (("bench", "space", "--space", "tre"), "config", "did you mean 'tree'"),
        (("bench", "space", "--depth", 3), "config", "'tree' has no option 'depth'"),
        (("bench", "space", "--numbers", "1,x"), "usage", "no list of numbers"),
        (("bench", "space", "--ops", "autoprx"), "config", "did you mean 'autoprox'"),
        (("bench", "space", "--ops", "abs"), "config", "at least one"),
        (("bench", "space", "--inputs", ""), "config", "at least one"),
        ((*SEARCH, "--space", "memory", "--length", 0), "config", "the length is 0"),
        ((*SEARCH, "--space", "expression", "--distribution", "even"), "config", "uniform or grow"),
    ],
    ids=lambda v: " ".join(map(str, v))[:40] if isinstance(v, tuple) else None,
)
def test_bad_options(call, args, kind, part):
    code, found = call(*args)
    assert code == 2
    assert found["error"]["kind"] == kind
    assert part in found["error"]["message"]
