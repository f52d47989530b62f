"""``bench strategies``, ``strategies``, ``verify``, ``report``: their contracts, resumed and with several workers."""

from __future__ import annotations

import json

import pytest

from proxforge.bench.atlas import build
from proxforge.bench.strategies.runner import RUNS
from proxforge.cli import run
from proxforge.search.strategies import STRATEGIES

SMALL = ("bench", "strategies", "-b", "digits:16", "--strategies", "random,distinct_elite", "--budget", "12,25")


@pytest.fixture
def call(capsys, cache):
    """call(args) -> (exit code, the JSON document on stdout); statistics come from the shared cache."""

    def called(*args, collects=True):
        code = run([*map(str, args), *(("--cache", str(cache)) if collects else ()), "--json"])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, json.loads(printed.out)

    return called


def lines(folder):
    """The runs without the clock."""
    found = [json.loads(line) for line in (folder / RUNS).read_text().splitlines()]
    return sorted(({**r, "seconds": 0.0} for r in found), key=lambda r: (r["strategy"], r["seed"]))


def test_the_contract_of_the_comparison(call, tmp_path):
    code, found = call(*SMALL, "--seeds", 4, "--out", tmp_path / "a")
    assert code == 0
    assert set(found) >= {"benchmark", "budget", "rows", "pairs"}
    assert found["budget"] == 25
    assert [c["budget"] for c in found["at"]] == [12, 25]
    names = {"strategy", "seeds", "jcm_search", "jcm_test", "evaluations_to_target", "p_vs_random", "effect", "seconds"}
    for row in found["rows"]:
        assert set(row) >= names
        mean, low, high = row["jcm_search"]
        assert low <= mean <= high
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [("random", "distinct_elite")]
    files = {p.name for p in (tmp_path / "a").iterdir()}
    assert {"index.html", "search.svg", "test.svg", "ecdf.svg", "table-25.csv", "table-25.md", "table-25.tex"} <= files
    page = (tmp_path / "a" / "index.html").read_text()
    assert page.count("<svg") == 3
    assert "src=" not in page
    assert all(r["evaluations"] == 25 for r in lines(tmp_path / "a"))


def test_workers_a_kill_and_more_seeds_change_no_run(call, tmp_path):
    call(*SMALL, "--seeds", 3, "--out", tmp_path / "whole")
    call(*SMALL, "--seeds", 2, "--out", tmp_path / "parts")
    with (tmp_path / "parts" / RUNS).open("a") as file:
        file.write('{"strategy":"random","see')  # a kill while a line was written
    call(*SMALL, "--seeds", 3, "--workers", 2, "--out", tmp_path / "parts")
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    code, found = call(*SMALL, "--seeds", 3, "--split-seed", 1, "--out", tmp_path / "whole")
    assert code == 2
    assert "holds another comparison" in found["error"]["message"]


def test_a_search_verified_and_reported(call, tmp_path):
    place = tmp_path / "run"
    options = ("--budget", 30, "--steps", 100, "--objective", "worst", "--networks", 20, "--out", place)
    code, found = call("search", "-b", "digits", "-s", "evolution", "--forbid", "log,@", "--gradient-free", *options)
    assert code == 0
    assert found["stopped"] == "budget"
    assert found["front"][-1]["complexity"] >= found["front"][0]["complexity"]
    code, checked = call("verify", place)
    assert code == 0
    assert (checked["ok"], checked["problems"]) == (True, [])
    assert checked["checked"] >= 30
    code, _ = call("report", place, "--out", tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text()
    assert code == 0
    assert "<math" in page
    assert page.count("<svg") == 1 + 2 * 3
    assert "src=" not in page
    result = json.loads((place / "result.json").read_text())
    result["evaluations"] += 1
    (place / "result.json").write_text(json.dumps(result))
    code, checked = call("verify", place)
    assert code == 1
    assert not checked["ok"]


def test_the_command_in_a_report_makes_the_same_run(call, tmp_path):
    from proxforge.bench.run_report import command_of

    start = "sum(qkv.w) * mean(abs(fc1.w))"
    call("search", "-b", "digits:16", "-s", "random", "--budget", 12, "--population", 5, "--start", start,
         "--objective", "top", "--top-share", 0.3, "--weight", "kd=2", "--out", tmp_path / "a")  # fmt: skip
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    import shlex

    command = shlex.split(command_of(config))
    assert command[0] == "proxforge"
    call(*command[1:-1], tmp_path / "b")
    assert (tmp_path / "b" / "config.json").read_bytes() == (tmp_path / "a" / "config.json").read_bytes()
    assert (tmp_path / "b" / "events.jsonl").read_bytes() == (tmp_path / "a" / "events.jsonl").read_bytes()


def test_strategies(call):
    code, found = call("strategies", collects=False)
    assert code == 0
    assert {s["name"] for s in found} == set(STRATEGIES)
    assert all(s["paper"] and "steps" in s["options"] for s in found)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ("bench", "strategies", "-b", "digits", "--strategies", "evolutoin", "--out", "x"),
            "did you mean 'evolution'",
        ),
        (("bench", "strategies", "-b", "digits", "--budget", "a", "--out", "x"), "no list of numbers"),
        (("search", "-b", "digits", "--objective", "jcn"), "did you mean 'jcm'"),
        (("search", "-b", "digits", "--weight", "kd"), "no weight"),
        (("search", "-b", "digits", "--start", "abs(qkv.w)"), "does not join two branches"),
        (("search", "-b", "digits", "--forbid", "lgo"), "cannot be forbidden"),
        (("verify", "no/such/run"), "no finished run"),
        (("report", "no/such/run", "--out", "x.html"), "no finished run"),
    ],
)
def test_bad_input(call, args, words):
    code, found = call(*args)
    assert code == 2
    assert words in found["error"]["message"]


def test_an_atlas_is_the_same_with_any_number_of_processes_and_with_none(call, tmp_path, monkeypatch):
    few = ("--inputs", "qkv.w,fc1.w", "--ops", "mean,abs,softmax,*,@")

    def ranks(name, threads):
        assert call("atlas", "build", "-b", "digits:6", *few, "--out", tmp_path / name, "--threads", threads)[0] == 0
        return (tmp_path / name / "agree.npy").read_bytes()

    found = ranks("one", 1)
    assert found == ranks("two", 2)
    monkeypatch.setattr(build, "can_work", lambda *of: False)
    assert found == ranks("none", 2)


def test_scores_looked_up_in_an_atlas_lead_to_the_same_runs(call, tmp_path):
    few = ("--inputs", "qkv.w,fc1.w,hidden.a", "--ops", "mean,abs,softmax,sum,identity,-,*")
    code, _ = call("atlas", "build", "-b", "digits:16", *few, "--out", tmp_path / "atlas")
    assert code == 0
    call(*SMALL, *few, "--seeds", 2, "--out", tmp_path / "scored")
    code, _ = call(*SMALL, *few, "--seeds", 2, "--atlas", tmp_path / "atlas", "--out", tmp_path / "looked")
    assert code == 0
    found, expected = lines(tmp_path / "looked"), lines(tmp_path / "scored")
    for a, b in zip(found, expected, strict=True):
        assert [(s["evaluations"], s["formula"]) for s in a["best"]] == [
            (s["evaluations"], s["formula"]) for s in b["best"]
        ]
        assert [s["search"] for s in a["best"]] == pytest.approx([s["search"] for s in b["best"]], abs=1e-9)
        assert [s["test"] for s in a["best"]] == pytest.approx([s["test"] for s in b["best"]], abs=1e-9)
    code, found = call(
        *SMALL, *few, "--split-seed", 3, "--seeds", 2, "--atlas", tmp_path / "atlas", "--out", tmp_path / "x"
    )
    assert code == 2
    assert "another split" in found["error"]["message"]
