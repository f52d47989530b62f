"""What is read off an atlas: commands, the survey, the picture, hashes, and a search that evaluates nothing."""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from proxforge.bench.atlas.analysis import query, shape_only, survey
from proxforge.bench.atlas.hashing import hashes, words
from proxforge.bench.atlas.lookup import problem_of
from proxforge.bench.atlas.order import Order
from proxforge.bench.atlas.picture import picture
from proxforge.bench.atlas.ranks import rank_scores
from proxforge.bench.atlas.store import Atlas, Found
from proxforge.cli import run
from proxforge.search.correlation import kendall_many, settled
from proxforge.search.loop import run_search
from proxforge.search.problem import Problem
from proxforge.search.strategies import make_strategy

from . import small


@pytest.fixture(scope="module")
def source():
    return small.cache()


@pytest.fixture(scope="module")
def atlas(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    small.build(folder / "a", small.task("scalars", source))
    return Atlas(folder / "a")


def test_hashes_are_those_of_hashlib():
    rng = np.random.default_rng(1)
    operands = [rng.integers(0, 1 << 63, (5, 2)).astype(np.uint64) for _ in range(2)]
    found = hashes(b"mean\0''\0001", *operands)
    for i in range(5):
        message = b"mean\0''\0001" + operands[0][i].tobytes() + operands[1][i].tobytes()
        assert tuple(found[i].tolist()) == words(blake2b(message, digest_size=16).digest())


def test_ranks_with_ties_and_missing_targets_are_those_of_the_scorer():
    rng = np.random.default_rng(2)
    targets = np.round(rng.normal(size=(3, 70)), 1)
    targets[1, [3, 65]] = np.nan
    parts = [np.arange(0, 70, 2), np.arange(1, 70, 2), np.arange(70)]
    order = Order.of(list(targets), parts)
    scores = np.round(rng.normal(size=(20, 2, 70)), 1)
    scores[0, 0, 1] = np.inf
    found = rank_scores(scores, order)
    assert found.status[0, 0].tolist() == [0, 1, 1]
    for p, part in enumerate(parts):
        untied = found.untied[1:, 1, p][:, list(order.mask)] * order.untied[p]
        mine = found.agree[1:, 1, p] / np.sqrt(untied.astype(np.float64))
        assert np.allclose(mine, kendall_many(settled(scores[1:, 1][:, part]), targets[:, part].copy()), atol=1e-12)


def test_the_survey_counts_every_program(atlas):
    found = survey(atlas)
    distinct = sum(len(programs) for programs in atlas.programs)
    assert sum(sum(by.values()) for by in found["status"].values()) == distinct
    assert sum(found["distribution"]["search"]["histogram"]) == found["distribution"]["search"]["programs"]
    assert found["best"][0]["jcm_search"] == pytest.approx(found["distribution"]["search"]["largest"])
    assert {m["name"] for m in found["marginals"]} >= {"qkv.w", "fc1.g", "+", "-", "*", "abs", "mean", "std"}
    ElementTree.fromstring(picture(found))
    curve = found["random"]["mean"]
    assert all(a["search"] <= b["search"] + 1e-12 for a, b in pairwise(curve))
    assert curve[-1]["regret"] == pytest.approx(0.0, abs=1e-6)


def test_what_depends_on_the_shape_only_is_as_the_compiler_has_it(atlas):
    flags = shape_only(atlas)
    for found in atlas.best(50, 0, atlas.layers, {}):
        assert flags[found.join] == atlas.node(found).facts.shape_only


def test_an_atlas_of_three_branches_is_surveyed(source, tmp_path):
    small.build(tmp_path / "a", small.task("three branches", source))
    atlas = Atlas(tmp_path / "a")
    found = survey(atlas)
    assert sum(sum(by.values()) for by in found["status"].values()) == sum(len(p) for p in atlas.programs)
    programs = {m["name"]: m["programs"] for m in found["marginals"]}
    assert programs["*"] + programs["-"] == 2 * found["distribution"]["search"]["programs"]
    assert programs["fc1.w"] + programs["fc1.g"] == 3 * found["distribution"]["search"]["programs"]
    flags = shape_only(atlas)
    for place in atlas.programs[0]["place"].tolist():
        program = Found(0, place >> 1, -1 if place & 1 else 1)
        assert flags[program.join] == atlas.node(program).facts.shape_only


def test_a_query_gives_the_rank(atlas):
    (best,) = atlas.best(1, 0, atlas.layers, {})
    found = query(atlas, atlas.row(best)["proxy"])
    assert found["rank"] == 1
    assert found["quantile"] == 1.0
    assert query(atlas, "mean(exp(qkv.w))") is None


def test_a_search_with_an_atlas_finds_what_a_search_finds(atlas, source):
    real = Problem.of(source, small.targets(), small.SPLIT, backend="reference")
    found = [
        run_search(problem, make_strategy("random", atlas.space, {"steps": 40}), seed=5)
        for problem in (real, problem_of(atlas, small.targets()))
    ]
    assert found[0].best.proxy == found[1].best.proxy
    assert found[0].best.jcm_search == pytest.approx(found[1].best.jcm_search, abs=1e-12)
    assert found[0].best.jcm_test == pytest.approx(found[1].best.jcm_test, abs=1e-12)


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PROXFORGE_CACHE", str(tmp_path / "cache"))

    def json_of(*args, code=0):
        assert run([*args, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    out = str(tmp_path / "atlas")
    made = json_of(
        "atlas", "build", "-b", "digits:12", "--inputs", "qkv.w", "--ops", "abs,neg,mean,sum,+,*", "--out", out
    )
    assert made["raw"] == 4**4 * 2
    assert set(made["seconds"]) == {"programs", "branches", "matrices", "ranks", "run", "files"}
    assert made["run"] == Atlas(tmp_path / "atlas").manifest["counts"]["run"]
    rows = json_of("atlas", "top", out, "-k", "3")["rows"]
    assert len(rows) == 3
    assert {"proxy", "jcm_search", "jcm_test", "taus"} <= set(rows[0])
    assert json_of("atlas", "query", out, rows[1]["proxy"])["rank"] <= 2
    assert json_of("atlas", "verify", out)["wrong"] == 0
    assert json_of("atlas", "stats", out, "--svg", str(tmp_path / "a.svg"))["benchmark"] == "digits:12"
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert json_of("atlas", "query", out, "std(qkv.w)", code=2)["error"]["kind"] == "atlas"
    assert run(["atlas", "stats", out]) == 0
    assert "lift at the top" in capsys.readouterr().out


def test_products_that_are_nothing_anywhere_are_constant_on_digits(tmp_path, capsys, monkeypatch):
    """The one factor is 0 where the other is not. By rules for the factors alone, what is left of that is rounding."""
    monkeypatch.setenv("PROXFORGE_CACHE", str(tmp_path / "cache"))
    out = str(tmp_path / "atlas")
    ops = "sqrt,neg,min_max,sign,identity,*,-"
    assert run(["atlas", "build", "-b", "digits:12", "--inputs", "fc1.g", "--ops", ops, "--out", out, "--json"]) == 0
    atlas = Atlas(tmp_path / "atlas")
    for formula in ("sqrt(-fc1.g) * min_max(sign(fc1.g))", "sqrt(-fc1.g) * sqrt(fc1.g)"):
        found = query(atlas, formula)
        assert set(found["status"].values()) == {"constant"}, formula
    assert query(atlas, "sqrt(fc1.g) * min_max(sign(fc1.g))")["jcm_search"] is not None


@pytest.mark.parametrize(
    ("larger", "raw", "inside", "outside"),
    [
        (("--unaries", "3"), 27**2 * 2, "mean(exp(exp(fc1.w))) + abs(fc1.w)", "exp(exp(exp(abs(fc1.w)))) + abs(fc1.w)"),
        (
            ("--unaries", "1", "--branches", "3"), 3**3 * 2**2, "abs(fc1.w) * exp(fc1.w) + mean(fc1.w)",
            "abs(fc1.w) + mean(fc1.w)",
        ),
    ],
)  # fmt: skip
def test_larger_spaces_are_read_as_they_were_built(tmp_path, capsys, monkeypatch, larger, raw, inside, outside):
    monkeypatch.setenv("PROXFORGE_CACHE", str(tmp_path / "cache"))
    out = str(tmp_path / "atlas")
    space = ("--inputs", "fc1.w", "--ops", "abs,exp,mean,+,*", *larger)
    assert run(["atlas", "build", "-b", "digits:12", *space, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["raw"] == raw
    assert run(["bench", "space", *space, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    atlas = Atlas(tmp_path / "atlas")
    assert [str(atlas.manifest["space"][name[2:]]) for name in larger[::2]] == list(larger[1::2])
    assert len(atlas.programs[0]) == counts["distinct"]
    assert int(atlas.programs[0]["many"].sum()) == counts["valid"]
    assert query(atlas, inside)["jcm_search"] is not None
    assert query(atlas, outside) is None
    assert run(["atlas", "top", out, "-k", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert run(["atlas", "verify", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wrong"] == 0


def test_what_cannot_be_built_is_refused_with_its_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PROXFORGE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "atlas"
    build = ["atlas", "build", "-b", "digits:12", "--out", str(out), "--json"]
    assert run([*build, "--inputs", "fc1.w", "--unaries", "3", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["working"] > told["bytes"] > 1e9
    assert "GB of disk" in told["refused"]
    assert run([*build, "--inputs", "fc1.w", "--unaries", "3"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["message"]) == ("size", told["refused"])
    assert run([*build, "--branches", "3", "--dry-run"]) == 0
    assert "--limit-minutes is 120" in json.loads(capsys.readouterr().out)["refused"]
    assert run([*build, "--branches", "3", "--no-products"]) == 2
    assert "every program is run" in json.loads(capsys.readouterr().out)["error"]["message"]
    small_one = [*build, "--inputs", "fc1.w", "--ops", "abs,mean,+"]
    assert run([*small_one, "--limit-gb", "1e-9"]) == 2
    assert "--limit-gb is 1e-09" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert run([*build, "--inputs", "fc1.w", "--limit-minutes", "1e-9"]) == 2
    assert "--limit-minutes is 1e-09" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not out.exists()
    assert run([*small_one, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] is None
    assert run([*build[:-1], "--inputs", "fc1.w", "--dry-run"]) == 0
    plan = " ".join(capsys.readouterr().err.split())
    assert run([*build, "--inputs", "fc1.w", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["run"] < told["most_run"]
    assert f"{told['seconds']['run']:.0f} s of this to run about {told['run']:,} joins that are no algebra" in plan
    assert f"{told['most_seconds']:.0f} s and {told['most_run']:,} where they are many" in plan
