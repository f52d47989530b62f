"""The loop: counters, the test part, repeatability, and what the run returns."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import SEARCH, TEST, HashScores, hash_problem, real_problem, targets

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.parse import parse
from proxforge.search.archive import Archive
from proxforge.search.events import Event
from proxforge.search.loop import run_search
from proxforge.search.objective import JCM
from proxforge.search.problem import Problem
from proxforge.search.spaces import TreeSpace
from proxforge.search.strategies import make_strategy
from proxforge.vm.evaluate import Evaluator

ROOT = Path(__file__).parents[2]
TINY = TreeSpace(("qkv.w", "fc1.w"), ("mean", "abs", "log_softmax", "softmax", "sign", "-", "*"))
FULL = TreeSpace()
OPTIONS = {"steps": 8, "population": 6}


@pytest.mark.parametrize("name", ["random", "elitism_preserve"])
def test_counters(name):
    """Every program is scored once; what is known or constant costs nothing and is counted apart."""
    made: list[HashScores] = []
    asked = []
    result = run_search(hash_problem(made=made), make_strategy(name, TINY, {"steps": 60}), progress=asked.append)
    scored = [digest for run in made[0].runs for digest in run]
    assert len(scored) == len(set(scored)) == result.evaluations == len(result.history)
    assert [e.hash for e in result.history] == scored
    assert result.rejected > 0
    assert result.duplicates > 0
    assert result.invalid == sum(e.jcm is None for e in result.history) > 0
    assert result.asked == result.evaluations + result.duplicates + result.rejected
    last = asked[-1]
    assert (last.evaluations, last.rejected, last.duplicates) == (
        result.evaluations,
        result.rejected,
        result.duplicates,
    )
    assert last.step == last.steps
    assert last.best.jcm == result.best.jcm_search


def test_events_tell_the_whole_run(tmp_path):
    result = run_search(hash_problem(), make_strategy("random", TINY, {"steps": 60}), out=tmp_path / "run")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    for ask in range(60):
        mine = [e for e in events if e["ask"] == ask]
        assert [e["index"] for e in mine] == list(range(len(mine)))
        assert [e["status"] == "rejected" for e in mine] == [True] * (len(mine) - 20) + [False] * 20
    by_status = {s: [e for e in events if e["status"] == s] for s in {e["status"] for e in events}}
    assert set(by_status) == {"ok", "nan", "inf", "duplicate", "rejected"}
    assert len(by_status["duplicate"]) == result.duplicates
    assert len(by_status["rejected"]) == result.rejected
    assert {e["kind"] for e in by_status["rejected"]} == {"constant"}
    first = {}
    for e in events:
        assert (e["jcm"] is not None) == (e["status"] == "ok") or e["status"] == "duplicate"
        if e["status"] not in ("rejected", "duplicate"):
            first[e["hash"]] = e["jcm"]
        elif e["status"] == "duplicate":
            assert e["jcm"] == first[e["hash"]]


def test_the_test_part_is_scored_once_for_the_best_and_the_front():
    made: list[HashScores] = []
    result = run_search(hash_problem(made=made), make_strategy("elitism_preserve", FULL, OPTIONS))
    assert [m.networks for m in made] == [SEARCH, TEST]
    (scored,) = made[1].runs
    assert scored[0] == result.best.hash
    assert set(scored) == {result.best.hash, *(point.hash for point in result.front)}


def test_the_values_are_those_of_the_objective_on_each_part():
    problem = real_problem()
    result = run_search(problem, make_strategy("random", FULL, OPTIONS), seed=3)
    node = parse(result.best.proxy, canonical_pool())
    assert node.digest.hex() == result.best.hash
    for part, value in ((SEARCH, result.best.jcm_search), (TEST, result.best.jcm_test)):
        scores = problem.evaluator(part).run([node]).scores
        assert JCM({n: y[list(part)] for n, y in targets().items()})(scores) == [value]


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("name", ["random", "elitism_preserve"])
def test_twice_is_the_same_to_the_byte(tmp_path, name, backend):
    results = [
        run_search(real_problem(backend), make_strategy(name, FULL, OPTIONS), seed=5, out=tmp_path / run)
        for run in "ab"
    ]
    for file in ("result.json", "events.jsonl", "config.json", "checkpoint.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    without = run_search(real_problem(backend), make_strategy(name, FULL, OPTIONS), seed=5)
    assert without.to_dict(clock=False) == results[0].to_dict(clock=False)
    assert without.history == results[0].history
    other = run_search(real_problem(backend), make_strategy(name, FULL, OPTIONS), seed=6)
    assert other.history != without.history


def test_random_search_does_not_depend_on_how_many_are_scored_at_once():
    """One program at a time, through an evaluator of its own each time: nothing is carried over but the values."""

    class OneByOne:
        def __init__(self, networks):
            self._networks = networks

        def run(self, roots):
            from dataclasses import replace

            from tiny import cache

            source = cache()
            parts = [Evaluator(source, self._networks, backend_name="torch").run([r]) for r in roots]
            return replace(
                parts[0],
                scores=np.concatenate([p.scores for p in parts]),
                status=np.concatenate([p.status for p in parts]),
                network=np.concatenate([p.network for p in parts]),
            )

    strategy = make_strategy("random", FULL, {"steps": 3, "population": 10})
    together = run_search(real_problem("torch"), strategy)
    assert run_search(replace(real_problem("torch"), evaluator=OneByOne), strategy).history == together.history


def test_to_dict_and_to_frame():
    result = run_search(hash_problem(), make_strategy("random", TINY, OPTIONS), seed=1)
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(found) >= {"best", "params", "evaluations", "rejected", "duplicates", "seconds"}
    assert set(found["best"]) >= {"proxy", "jcm_search", "jcm_test", "rows"}
    assert found["params"]["strategy"] == {"name": "random", "steps": 8, "population": 6}
    assert found["params"]["seed"] == 1
    assert found["params"]["benchmark"] == "hash"
    assert found["seconds"] == result.seconds
    assert set(found["seconds"]) == {"compile", "evaluate", "correlate", "strategy", "files", "total"}
    assert found["seconds"]["total"] >= sum(v for k, v in found["seconds"].items() if k != "total")
    assert all(v >= 0 for v in found["seconds"].values())
    frame = result.to_frame()
    assert list(frame["evaluation"]) == list(range(1, result.evaluations + 1))
    assert frame["best"].iloc[-1] == frame["jcm"].max() == result.best.jcm_search


def test_a_run_without_a_valid_program_has_no_best():
    class Nothing(HashScores):
        def run(self, roots):
            result = super().run(roots)
            result.status[:] = 1
            return result

    result = run_search(Problem(Nothing, targets(), SEARCH, TEST), make_strategy("random", TINY, OPTIONS))
    assert result.best is None
    assert result.invalid == result.evaluations > 0
    assert result.to_dict()["best"] is None


def test_a_score_that_orders_nothing_measured_is_constant():
    """All networks that the target 'b' was measured on share one score: no tau, and no number in its place."""
    y = {"b": np.array([1.0, 2.0, 3.0, np.nan, np.nan, 1.0, 2.0, 3.0])}

    class Flat(HashScores):
        def run(self, roots):
            from proxforge.vm.result import judge

            return judge(np.tile([5.0, 5.0, 5.0, 1.0], (len(roots), 1)))

    result = run_search(Problem(Flat, y, range(4), range(4, 8)), make_strategy("random", TINY, OPTIONS))
    assert {e.status for e in result.history} == {"constant"}
    assert result.best is None


def test_the_best_is_the_first_of_equals():
    values = [None, 0.25, 0.5, 0.5, None, 0.125]
    events = [Event(0, i, "nan" if v is None else "ok", None, f"f{i}", f"h{i}", v) for i, v in enumerate(values)]
    assert Archive(events).best is events[2]
    assert Archive(events[:1]).best is None


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"seed": -1}, "expected 0 or more"),
        ({"budget": 0}, "the budget is 0; expected 1 or more"),
        ({"patience": 0}, "the patience is 0; expected 1 or more"),
        ({"seconds": 0.0}, "more than 0"),
    ],
)
def test_a_seed_or_limit_out_of_range_is_refused(limits, words):
    with pytest.raises(ProxforgeError, match=words):
        run_search(hash_problem(), make_strategy("random", TINY), **limits)


def test_parts_that_share_networks_are_refused():
    with pytest.raises(ProxforgeError, match=r"\[2, 3\]"):
        Problem(HashScores, targets(), [1, 2, 3], [2, 3, 4])


def test_a_target_that_cannot_be_judged_on_the_test_part_is_refused_at_the_start():
    made: list[HashScores] = []
    problem = hash_problem(made=made)
    y = {"a": np.where(np.isin(np.arange(20), TEST), np.nan, np.arange(20.0))}
    with pytest.raises(ProxforgeError, match="fewer than two"):
        run_search(Problem(problem.evaluator, y, SEARCH, TEST), make_strategy("random", TINY))
    assert made == []


def test_importing_the_search_loads_nothing_heavy():
    code = "import sys; import proxforge.search.loop, proxforge.search.strategies; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {"torch", "numba", "scipy", "pandas", "rich"}.isdisjoint(done.stdout.split())
    assert "proxforge.search.loop" in done.stdout.split()
