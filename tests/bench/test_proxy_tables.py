"""The table of proxies: its figures, its journal, its files, its command."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from proxforge.bench import proxy_tables_values
from proxforge.bench.measures.scoring import score_network, scorer
from proxforge.bench.proxies import BASELINES, FIGURES
from proxforge.bench.proxies.ensembles import ENSEMBLES, parse_ensemble
from proxforge.bench.proxy_tables import JOURNAL, Column, judged, lowest, proxy_table, row
from proxforge.bench.proxy_tables_files import FORMS, scatter
from proxforge.bench.truth.base import BENCHMARKS, load_benchmark
from proxforge.cli import run
from proxforge.grammar.errors import ProxforgeError
from proxforge.search.correlation import partial_kendall

PROXIES = ("SNIP", "NWOT", "depth")


@pytest.fixture(scope="module")
def digits():
    return load_benchmark("digits:12")


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("table")
    return out, proxy_table(digits, PROXIES, [parse_ensemble("linear: SNIP, NWOT")], seeds=2, out=out)


def test_rows_are_what_they_say(digits, made):
    _, found = made
    assert [r.proxy for r in found.rows[::3]] == [
        "SNIP",
        "NWOT",
        "depth",
        *BASELINES[:2],
        "depth*width",
        "linear: SNIP, NWOT",
    ]
    family = digits.recipe().family()
    chosen = scorer("SNIP", family)
    recipes = [[replace(digits.recipe(seed=seed), archs=(arch,)) for arch in digits.archs] for seed in (0, 1)]
    scores = np.array([[score_network(r, [chosen])[chosen.key].value for r in line] for line in recipes])
    first = found.rows[0]
    truth = digits.targets["full"]
    assert first.kendall == pytest.approx(kendalltau(scores.mean(0), truth).statistic)
    each = [kendalltau(line, truth).statistic for line in scores]
    assert first.seed_std == pytest.approx(np.std(each, ddof=1))
    assert (first.n, first.seeds, first.status, first.kind) == (12, 2, "ok", "formula")
    assert first.kendall_ci[0] <= first.kendall <= first.kendall_ci[1]
    assert first.ms_per_network > 0
    params = [size.params for size in digits.sizes]
    assert first.partial_kendall == pytest.approx(partial_kendall(scores.mean(0), truth, params))


def test_an_ensemble_is_made_seed_by_seed(digits, made):
    _, found = made
    total = found.scores["linear: SNIP, NWOT"]
    assert total.shape == (12,)
    values = proxy_tables_values.network_scores(
        digits.recipe(), [scorer(p, digits.recipe().family()) for p in PROXIES[:2]], (0, 1), path=made[0] / JOURNAL
    )
    keys = [scorer(p, digits.recipe().family()).key for p in PROXIES[:2]]
    each = [[[values[i, s][k].value for i in range(12)] for k in keys] for s in (0, 1)]
    expected = np.mean([[rankdata(m) / 12 for m in seed] for seed in each], axis=(0, 1))
    assert total == pytest.approx(expected)


def test_a_table_continues_from_its_journal(digits, made, monkeypatch):
    out, found = made
    journal = out / JOURNAL
    lines = journal.read_text().splitlines()
    assert len(lines) == 1 + 2 * 12
    journal.write_text("\n".join(lines[:5]) + '\n{"network": 1')
    seen = []
    real = proxy_tables_values.run_unit
    monkeypatch.setattr(proxy_tables_values, "run_unit", lambda unit, batch: seen.append(unit) or real(unit, batch))
    again = proxy_table(digits, PROXIES, [parse_ensemble("linear: SNIP, NWOT")], seeds=2, out=out)
    assert len(seen) == 20
    assert [(r.proxy, r.kendall) for r in again.rows] == [(r.proxy, r.kendall) for r in found.rows]
    seen.clear()
    proxy_table(digits, ("SNIP", "L2Norm"), [], seeds=2, out=out)
    assert len(seen) == 24
    assert {s.label for unit in seen for s in unit.wanted} == {"L2Norm"}


def test_a_journal_of_other_networks_is_refused(digits, made):
    with pytest.raises(ProxforgeError, match="begun with networks and input"):
        proxy_table(digits, ("depth",), [], recipe=digits.recipe(input_seed=1), out=made[0])


@pytest.mark.slow
def test_two_workers_give_the_same(digits):
    small = load_benchmark("digits:4")
    one, two = (proxy_table(small, ("SNIP",), [], workers=n) for n in (1, 2))
    assert [replace(r, ms_per_network=0.0) for r in one.rows] == [replace(r, ms_per_network=0.0) for r in two.rows]


def test_what_networks_do_not_have_is_undefined(data_dir):
    cells = load_benchmark("nas-bench-201:2", data_dir)
    found = proxy_table(
        cells, ("DSS", "params"), [], targets=("test_cifar10",), recipe=cells.recipe(resolution=8, batch=2)
    )
    assert next((r.proxy, r.status, r.kendall) for r in found.rows) == ("DSS", "undefined", None)


def test_statuses():
    inf = math.inf
    assert judged(np.array([[1.0, 2.0, -inf]]), worst=True) == "ok"
    assert judged(np.array([[1.0, 2.0, -inf]]), worst=False) == "inf"
    assert judged(np.array([[1.0, 2.0, inf]]), worst=True) == "inf"
    assert judged(np.array([[1.0, 2.0, math.nan]]), worst=True) == "nan"
    assert judged(np.array([[3.0, 3.0, 3.0]]), worst=True) == "constant"
    assert judged(np.array([[-inf, -inf]]), worst=True) == "constant"


def test_minus_infinity_is_ranked_last():
    scores = np.array([[2.0, -math.inf, 1.0, 3.0]])
    assert lowest(scores[0]).argmin() == 1
    found = row("b", Column("NWOT", scores, 1.0, "ok", "measure"), "t", np.array([3.0, 1.0, 2.0, 4.0]), np.arange(4.0))
    assert (found.kendall, found.pearson, found.worst) == (1.0, None, 1)


def test_networks_without_truth_are_left_out():
    scores = Column("x", np.array([[1.0, 2.0, 3.0, 4.0]]), 1.0, "ok", "formula")
    found = row("b", scores, "t", np.array([1.0, math.nan, 2.0, 3.0]), np.arange(4.0))
    assert (found.n, found.kendall) == (3, 1.0)
    flat = row("b", scores, "t", np.array([1.0, math.nan, 1.0, 1.0]), np.arange(4.0))
    assert (flat.status, flat.kendall) == ("target", None)


def test_the_papers_figures_are_of_known_benchmarks():
    for benchmark, proxy, _ in FIGURES:
        assert benchmark in BENCHMARKS
        assert proxy in (*ENSEMBLES, *BASELINES) or scorer(proxy, load_family(benchmark)).key


def load_family(benchmark):
    from proxforge.stats_cache.recipe import find_space

    spaces = {
        "nas-bench-201": "nas-bench-201",
        "vit-bench-101/pit": "pit",
        "vit-bench-101/autoformer": "autoformer-sub",
    }
    return find_space(spaces[benchmark])


def test_files(made):
    _, found = made
    text = {name: make(found) for name, make in FORMS.items()}
    rows = list(csv.DictReader(text["table.csv"].splitlines()))
    assert len(rows) == len(found.rows)
    assert float(rows[0]["kendall"]) == found.rows[0].kendall
    assert json.loads(text["table.json"]) == found.to_dict()
    assert text["table.md"].count("\n") == len(found.rows) // 3 + 2
    regrets = [line.split(" | ") for line in text["regret.md"].splitlines()[2:]]
    known = {(r.proxy, r.target): r.regret for r in found.rows if r.regret is not None}
    target = found.rows[0].target
    assert [line[0] for line in regrets] == [
        *(
            f"| {p}"
            for p, _ in sorted(((p, r.regret) for (p, t), r in known.items() if t == target), key=lambda x: x[1])
        ),
        "| at random (mean)",
    ]
    assert float(regrets[0][1].split()[0]) == round(min(r.regret for (_, t), r in known.items() if t == target), 2)
    assert float(regrets[-1][1].split()[0]) == round(found.targets[target].max() - found.targets[target].mean(), 2)
    assert r"depth*width (baseline)" in text["table.tex"]
    assert "_" not in text["table.tex"].replace(r"\_", "")
    assert text["table.html"].count("<svg") == len(found.rows)
    plot = ElementTree.fromstring(scatter(np.arange(4.0), np.array([1.0, math.nan, 2.0, 3.0]), "a < b"))
    assert len(plot.findall(".//circle")) == 3


def test_the_command_keeps_its_contract(tmp_path, capsys):
    args = [
        "bench",
        "proxies",
        "-b",
        "digits",
        "--networks",
        "6",
        "--proxies",
        "SNIP, sum(qkv.w)",
        "--ensemble",
        "AZ-NAS",
        "--out",
        str(tmp_path),
        "--target",
        "full",
        "--json",
    ]
    assert run(args) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert set(found) == {"benchmark", "n", "rows"}
    assert (found["benchmark"], found["n"]) == ("digits:6", 6)
    contract = (
        "proxy target n seeds kendall kendall_ci spearman pearson partial_kendall seed_std ms_per_network paper status"
    )
    assert all(set(contract.split()) <= set(r) for r in found["rows"])
    assert [r["proxy"] for r in found["rows"]] == ["SNIP", "sum(qkv.w)", *BASELINES, "AZ-NAS"]
    assert {p.name for p in tmp_path.iterdir() if p.suffix != ".lock"} == {JOURNAL, *FORMS}
    assert json.loads((tmp_path / "table.json").read_text()) == found


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--proxies", "SNIPP"], "did you mean"),
        (["--proxies", "AZ"], "several scores"),
        (["--target", "ful"], "did you mean"),
        (["--ensemble", "SNIP"], "needs two"),
        (["--networks", "1000"], "cannot be drawn"),
    ],
)
def test_errors_of_the_command(args, message, capsys):
    assert run(["bench", "proxies", "-b", "digits", *args]) == 2
    assert message in capsys.readouterr().err


def test_score_with_an_ensemble(tmp_path, capsys):
    args = ["score", "-b", "digits:10", "--ensemble", "linear: SNIP, params", "--cache", str(tmp_path), "--json"]
    assert run(args) == 0
    rows = {r["proxy"]: r for r in json.loads(capsys.readouterr().out)["rows"] if r["target"] == "full"}
    assert rows["linear: SNIP, params"]["formula"] == "linear: SNIP, params"
    assert rows["linear: SNIP, params"]["kendall"] is not None
    table = proxy_table(
        load_benchmark("digits:10"), ("SNIP",), [parse_ensemble("linear: SNIP, params")], targets=("full",)
    )
    assert rows["linear: SNIP, params"]["kendall"] == pytest.approx(table.rows[-1].kendall)
