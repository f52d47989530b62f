"""A run is recomputed from its text; what was changed afterwards is found."""

from __future__ import annotations

import json

import pytest
from tiny import cache, real_problem, targets

from proxforge.search.loop import run_search
from proxforge.search.problem import Problem
from proxforge.search.rundir import RunError
from proxforge.search.spaces import TreeSpace
from proxforge.search.strategies import make_strategy
from proxforge.search.verification import TOLERANCE, recorded, verify_run

CHOICE = {"name": "jcm", "weights": {}, "share": 0.1, "penalty": 0.0}


@pytest.fixture
def run(tmp_path):
    plain = real_problem("cpu")
    problem = Problem.of(
        cache(), targets(), (plain.search, plain.test), backend="cpu", about={"benchmark": "tiny", "choice": CHOICE}
    )
    strategy = make_strategy("evolution", TreeSpace(), {"steps": 1000, "population": 8})
    result = run_search(problem, strategy, budget=40, out=tmp_path / "run")
    return tmp_path / "run", result


def changed(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_a_run_is_as_reported(run):
    path, result = run
    told = []
    found = verify_run(recorded(path), cache(), targets(), lambda *step: told.append(step))
    assert found.ok
    assert found.problems == ()
    assert found.checked == result.evaluations + 2 * (len(result.front) + 1)
    assert found.largest_difference <= TOLERANCE
    assert told[-1] == (40, 40)
    assert set(found.to_dict()) == {"ok", "checked", "largest_difference", "problems"}


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("result.json", lambda r: r["best"].update(jcm_test=0.9), "best on the test part"),
        ("result.json", lambda r: r["front"][0].update(search=0.99), "front on the search part"),
        ("result.json", lambda r: r.update(evaluations=41), "evaluations: reported 41"),
        ("result.json", lambda r: r["front"].pop(), "the front is not"),
        ("config.json", lambda c: c["targets"].update(a="0" * 16), "the targets differ: a"),
    ],
)
def test_what_was_changed_is_named(run, file, change, words):
    path, _ = run
    changed(path / file, change)
    found = verify_run(recorded(path), cache(), targets())
    assert not found.ok
    assert any(words in problem for problem in found.problems), found.problems


def test_a_changed_score_is_found(run):
    path, result = run
    first = next(e for e in result.history if e.jcm is not None)
    log = path / "events.jsonl"
    log.write_text(log.read_text().replace(f'"jcm":{first.jcm!r}', f'"jcm":{first.jcm - 0.1!r}', 1))
    found = verify_run(recorded(path), cache(), targets())
    assert any(first.formula in problem for problem in found.problems)
    assert found.largest_difference == pytest.approx(0.1)


def test_what_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(RunError, match="no finished run"):
        recorded(tmp_path)
    path, _ = run
    (path / "result.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        recorded(path)
