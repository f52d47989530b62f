"""Architecture search: candidates, journal, winners, regret, training."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace

import numpy as np
import pytest
import torch

from proxforge.bench.nas import run as run_module
from proxforge.bench.nas import train as train_module
from proxforge.bench.nas.known import search_benchmark
from proxforge.bench.nas.regret import regret_of
from proxforge.bench.nas.run import HISTORY, NasOptions, by_score, run_nas
from proxforge.bench.nas.train import TRAINED, compare, compared
from proxforge.bench.nas.winners import module_text, winners
from proxforge.bench.proxies.ensembles import Ensemble, aggregate, parse_ensemble
from proxforge.bench.truth.base import load_benchmark
from proxforge.cli import run
from proxforge.grammar.errors import ProxforgeError
from proxforge.stats_cache.recipe import Recipe, find_space
from proxforge.stats_cache.spaces.budget import Budget, Range

MICRO = Recipe("micro", ({},), classes=10, batch=2)
DEPTH = Ensemble("depth*width", "log", ("depth*width",))
BUDGET = Budget(params=Range.parse("2K..20K"))
EVOLVED = NasOptions(samples=12, strategy="evolution", initial=4, population=3)


def test_random_draws_are_those_of_the_seed_and_within_the_budget():
    found = run_nas(MICRO, DEPTH, NasOptions(samples=15, seed=3), BUDGET)
    family = find_space("micro")
    for step, candidate in enumerate(found.history):
        assert candidate.arch == family.sample_within(np.random.default_rng([3, step]), BUDGET, 10)
        size = family.size(candidate.arch, 10)
        assert 2000 <= size.params <= 20_000
        assert candidate.scores["depth*width"] == pytest.approx(size.depth * size.width)
    top = winners(MICRO, found)
    totals = [w["scores"]["total"] for w in top]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(found.totals.max())
    assert len({json.dumps(w["arch"]) for w in top}) == len(top)


def test_evolution_mutates_the_best_of_the_whole_history():
    found = run_nas(MICRO, DEPTH, replace(EVOLVED, samples=40), BUDGET)
    family = find_space("micro")
    for step in range(4, 40):
        before = found.history[:step]
        rng = np.random.default_rng([0, step])
        best = np.argsort(-by_score(DEPTH, ["depth*width"], before), kind="stable")[:3]
        parent = before[int(rng.choice(best))]
        assert found.history[step].arch == family.mutate_within(parent.arch, rng, BUDGET, 10)
    assert found.totals[20:].mean() > found.totals[:4].mean()


def test_ranks_are_taken_over_the_whole_history():
    ensemble = parse_ensemble("params, depth")
    found = run_nas(MICRO, ensemble, NasOptions(samples=10), BUDGET)
    table = np.array([[c.scores[name] for c in found.history] for name in ("params", "depth")])
    assert found.totals == pytest.approx(aggregate(table, "log"))


@pytest.mark.parametrize("options", [NasOptions(samples=12), EVOLVED], ids=["random", "evolution"])
def test_a_killed_run_continues(tmp_path, options, monkeypatch):
    whole = run_nas(MICRO, DEPTH, options, BUDGET, out=tmp_path)
    lines = (tmp_path / HISTORY).read_text().splitlines()
    assert len(lines) == 13
    (tmp_path / HISTORY).write_text("\n".join(lines[:8]) + '\n{"arch')
    scored = []
    real = run_module.score_task
    monkeypatch.setattr(run_module, "score_task", lambda task: scored.append(task) or real(task))
    again = run_nas(MICRO, DEPTH, options, BUDGET, out=tmp_path)
    assert len(scored) <= 5
    assert again.history == whole.history
    assert again.seconds >= float(json.loads(lines[7])["seconds"])
    with pytest.raises(ProxforgeError, match="was begun with options"):
        run_nas(MICRO, DEPTH, replace(options, seed=9), BUDGET, out=tmp_path)
    more = run_nas(MICRO, DEPTH, replace(options, samples=14), BUDGET, out=tmp_path)
    assert more.history[:12] == whole.history


def test_a_network_is_scored_once(monkeypatch):
    scored = []
    real = run_module.score_task
    monkeypatch.setattr(run_module, "score_task", lambda task: scored.append(task[0].archs) or real(task))
    found = run_nas(Recipe("cifar-resnet", ({},), classes=10), DEPTH, NasOptions(samples=80), Budget())
    assert len(found.history) == 80
    assert len(scored) == len({str(archs) for archs in scored}) < 64


def test_a_network_without_a_score_is_never_chosen():
    history = run_nas(MICRO, DEPTH, NasOptions(samples=4), BUDGET)
    broken = replace(history, totals=np.array([math.nan, 1.0, math.nan, 2.0]))
    assert broken.order() == [3, 1]


def test_the_winner_is_a_module(tmp_path):
    arch = find_space("micro").sample(np.random.default_rng(0))
    (tmp_path / "winner.py").write_text(module_text(MICRO, arch))
    made = runpy.run_path(str(tmp_path / "winner.py"))["build"]()
    expected = find_space("micro").build(arch, seed=0)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(made(images), expected(images))
    other = module_text(Recipe("nas-bench-201", ({},), classes=3, resolution=8), {"cell": ["none"] * 6})
    (tmp_path / "other.py").write_text(other)
    assert runpy.run_path(str(tmp_path / "other.py"))["build"](1)(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_regret():
    truth = np.array([10.0, 30.0, 20.0, 40.0, math.nan])
    found = regret_of(np.array([1.0, 5.0, 2.0, 3.0, 9.0]), truth, np.array([1.0, 2.0, 9.0, 3.0, 4.0]))
    assert found is not None
    assert (found.n, found.chosen, found.best, found.regret, found.percentile) == (4, 30.0, 40.0, 10.0, 62.5)
    assert (found.random, found.largest) == (15.0, 20.0)
    assert found.regret_ci[0] <= found.regret <= found.regret_ci[1]
    perfect = regret_of(truth, truth, truth)
    assert perfect is not None
    assert (perfect.regret, perfect.regret_ci) == (0.0, (0.0, 0.0))
    tied = regret_of(np.array([1.0, 1.0, 0.0, math.nan, 0.0]), truth, truth)
    assert tied is not None
    assert (tied.chosen, tied.n) == (20.0, 3)
    assert regret_of(np.full(5, math.nan), truth, truth) is None


def test_search_among_the_networks_of_a_benchmark(tmp_path):
    truth = load_benchmark("digits:20")
    found, regret = search_benchmark(truth, truth.recipe(), parse_ensemble("params, depth"), Budget(), out=tmp_path)
    assert len(found.history) == 20
    assert set(regret) == {"full", "low", "kd"}
    chosen = found.order()[0]
    assert regret["full"]["chosen"] == pytest.approx(truth.targets["full"][chosen])
    few, _ = search_benchmark(truth, truth.recipe(), DEPTH, Budget(params=Range.parse("..10K")))
    assert 2 <= len(few.history) < 20
    with pytest.raises(ProxforgeError, match="choose a wider range"):
        search_benchmark(truth, truth.recipe(), DEPTH, Budget(params=Range.parse("..10")))


def test_trained_groups_are_compared(tmp_path, monkeypatch):
    trained = []

    def fake(arch, seed, recipe, logits):
        trained.append((arch["width"], seed))
        return dict.fromkeys(("full", "low", "kd"), 50.0 + arch["width"] + seed)

    monkeypatch.setattr(train_module, "train_network", fake)
    monkeypatch.setattr(train_module, "train_teacher", lambda recipe: (99.0, np.zeros((1, 10))))
    best, rest = [{"width": 20}], [{"width": 10}, {"width": 20}, {"width": 24}]
    full, *_ = compare(best, rest, 2, out=tmp_path)
    assert sorted(trained) == [(10, 1), (10, 2), (20, 1), (20, 2), (24, 1), (24, 2)]
    assert (full.winners_mean, full.random_mean) == (71.5, 69.5)
    assert full.difference == pytest.approx(2.0)
    assert full.difference_ci[0] < 2 < full.difference_ci[1]
    assert full.percentile == 50.0
    journal = tmp_path / TRAINED
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:3]) + '\n{"arch": "x')
    trained.clear()
    assert compare(best, rest, 2, out=tmp_path)[0] == full
    assert len(trained) == 4


def test_the_interval_covers_both_groups():
    found = compared("full", np.array([5.0, 5.0]), np.array([1.0, 3.0]), 1)
    assert (found.difference, found.difference_ci) == (3.0, (2.0, 4.0))


def test_the_command_keeps_its_contract(tmp_path, capsys):
    args = ["nas", "--space", "micro", "--ensemble", "params, depth", "--samples", "10", "--params", "2K..20K"]
    assert run([*args, "--strategy", "evolution", "--initial", "4", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"best", "sampled", "seconds", "regret"}
    assert set(found["best"]) == {"arch", "params", "flops", "scores"}
    assert (found["sampled"], found["regret"]) == (10, None)
    assert json.loads((tmp_path / "winners.json").read_text())["winners"][0] == found["best"]
    assert (tmp_path / "winner.py").exists()
    assert run(["nas", "-b", "digits:12", "--proxy", "params", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["regret"]["full"]["n"] == known["sampled"] == 12
    assert known["regret"]["full"]["regret"] == known["regret"]["full"]["largest"]
    assert run(["nas", "-b", "digits:12", "--proxy", "params"]) == 0
    assert "what the choice costs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--proxy", "params"], "either a space"),
        (["--space", "micro", "-b", "digits", "--proxy", "params"], "either a space"),
        (["--space", "micro"], "--proxy or --ensemble"),
        (["--space", "micro", "--proxy", "params", "--strategy", "evoluton"], "did you mean"),
        (["--space", "pit", "--train", "digits", "--proxy", "params"], "space micro"),
        (["--space", "micro", "--proxy", "sum(conv.w)"], "do not have"),
        (["--space", "micro", "--proxy", "params", "--params", "1..2"], "choose a wider range"),
    ],
)
def test_errors_of_the_command(args, message, capsys):
    assert run(["nas", *args]) == 2
    assert message in capsys.readouterr().err
