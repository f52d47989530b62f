"""The tools that measure speed: workloads, engines that compute the same, reports. Nothing here looks at a clock."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from proxforge.bench.speed import engines, limits, measure, rebuild
from proxforge.bench.speed.engines import ENGINES, missing
from proxforge.bench.speed.measure import Report
from proxforge.bench.speed.workloads import (
    ARRAYS,
    NODES,
    Tree,
    Workload,
    delicate,
    evolved_workload,
    expected,
    random_workload,
)
from proxforge.commands.speed import speed
from proxforge.grammar.errors import ProxforgeError

SMALL = random_workload(12, 3000)


def test_workloads_are_the_same_every_time_and_as_large_as_they_say():
    again = random_workload(12, 3000)
    assert again.trees == SMALL.trees
    np.testing.assert_array_equal(again.data, SMALL.data)
    assert (len(SMALL.trees), SMALL.data.shape, SMALL.data.dtype) == (12, (ARRAYS, 3000), np.float32)
    assert abs(SMALL.nodes / 12 - NODES) < 2
    assert all(NODES - 2 <= t.nodes <= NODES + 2 for t in SMALL.trees)


def test_an_evolved_population_shares_more():
    evolved = evolved_workload(200, 2000)
    assert len(evolved.trees) == 200
    assert evolved.shared > 0.4 > random_workload(40, 2000).shared


def test_shared_counts_equal_operator_nodes():
    x = Tree("x")
    y = Tree("exp", (x,))
    trees = (Tree("abs", (y,)), Tree("+", (y, Tree("exp", (Tree("x", index=1),)))))
    workload = Workload("hand", trees, np.zeros((ARRAYS, 2), np.float32))
    assert workload.nodes == 5
    assert workload.shared == pytest.approx(0.2)
    assert str(trees[1]) == "(exp(x0) + exp(x1))"


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "torch-compile"])
def test_engines_compute_the_same(engine):
    if missing(engine):
        pytest.skip(f"{ENGINES[engine][1]} is not installed")
    prepared = ENGINES[engine][0](SMALL, 1)
    np.testing.assert_allclose(prepared.means(), expected(SMALL), rtol=1e-4)
    prepared.run()
    np.testing.assert_allclose(prepared.means(), expected(SMALL), rtol=1e-4)


@pytest.fixture(scope="module")
def report() -> Report:
    return measure.measure([2000], 6, 10, [1, 2], ["proxforge", "numpy", "torch"], repeats=2)


def test_a_report_has_a_row_for_every_engine_and_number_of_threads(report):
    found = [(r["workload"], r["engine"], r["threads"]) for r in report.rows]
    expected_rows = [("proxforge", 1), ("proxforge", 2), ("numpy", 1), ("torch", 1), ("torch", 2)]
    assert found == [(w, *row) for w in ("random-6", "evolved-10") for row in expected_rows]
    assert all(r["gpops"] > 0 and r["repeats"] == 2 for r in report.rows)
    for r in report.rows:
        base = next(s for s in report.rows if (s["workload"], s["engine"]) == (r["workload"], "torch"))
        if r["threads"] == 1:
            assert r["ratio_torch"] == pytest.approx(r["gpops"] / base["gpops"])
        assert r["ratio_operon"] is None
        assert (r["of_limit"] is not None) == (r["engine"] == "proxforge")
    assert report.limits["memory_gbs"] > 0
    assert report.limits["kernel_sum_gpops"] > 0
    assert report.limits["thread_gain"]["1"] == 1.0 < 4.0 * report.limits["thread_gain"]["2"]
    assert json.loads(json.dumps(report.machine)) == report.machine


def test_an_engine_that_computes_something_else_is_an_error(monkeypatch):
    wrong = engines.Prepared(lambda: None, lambda: expected(SMALL) * 1.01)
    monkeypatch.setitem(ENGINES, "numpy", (lambda workload, threads: wrong, "numpy", False))
    with pytest.raises(AssertionError, match="numpy"):
        measure.measure([3000], 12, 0, [1], ["numpy"], repeats=1)


def test_what_float32_cannot_be_trusted_with_is_known():
    x, y = Tree("x"), Tree("x", index=1)
    e = Tree("exp", (x,))
    grown = Tree("tanh", (Tree("logabs", (Tree("exp", (e,)),)),))
    lost = Tree("-", (Tree("+", (x, y)), x))
    data = np.ones((ARRAYS, 250_000), np.float32)
    data[0, 200_000] = 5.0  # exp(exp(5)) is 3e64
    data[1] = 1e-9
    near = Tree("/", (x, Tree("-", (Tree("+", (x, y)), x))))  # float32 divides by 0
    workload = Workload("hand", (grown, e, lost, near, Tree("-", (y, x)), Tree("/", (x, y))), data)
    wanted = expected(workload)
    assert delicate(workload, wanted, 1e-3).tolist() == [True, False, True, True, False, False]
    data[0], data[1] = 1.0, 2.0
    data[:2, 5] = 1.0, 2.0**-24 * 1.2  # the sum is 1 + 2^-23 in float32 and its divisor twice too large there
    few = Workload("hand", (Tree("abs", (near,)),), data)
    assert delicate(few, expected(few), 1e3).tolist() == [True]


def test_what_torch_compiles_is_a_function_of_its_own():
    first, second = (engines._mean_of(lambda arrays: arrays[0]) for _ in range(2))
    assert first.__code__ is not second.__code__


def test_an_engine_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(ENGINES, "gplearn", (ENGINES["gplearn"][0], "no_such_module", False))
    report = measure.measure([2000], 3, 0, [1], ["numpy", "gplearn"], repeats=1)
    assert [r["engine"] for r in report.rows] == ["numpy"]
    assert report.left_out == ["gplearn (no_such_module is not installed)"]


def test_the_kernel_sum_grows_with_the_instructions():
    one = Workload("one", SMALL.trees[:1], SMALL.data)
    few, many = (limits.kernel_seconds(limits.instructions_of(w), np.float64) for w in (one, SMALL))
    assert 0 < few < many


def run(*args: str):
    return CliRunner().invoke(speed, args, catch_exceptions=False)


def test_the_command_emits_the_contract():
    args = ["--elements", "2e3", "--programs", "3", "--threads", "1", "--engines", "proxforge,numpy", "--repeats", "1"]
    document = json.loads(run(*args, "--json").stdout)
    assert set(document) == {"machine", "limits", "rows", "left_out"}
    columns = {"workload", "engine", "threads", "gpops", "spread", "ratio_torch", "ratio_operon", "of_limit"}
    assert columns <= set(document["rows"][0])
    assert "GPops/s" in run(*args).stdout


@pytest.mark.parametrize("value", ["", "abc", "1e5,", "0", "1e999", "nan"])
def test_lists_of_numbers_are_checked(value):
    found = run("--elements", value)
    assert found.exit_code == 2
    assert "no list of numbers" in found.output or "below 1" in found.output


def test_unknown_engines_are_named():
    with pytest.raises(ProxforgeError, match="did you mean 'numexpr'"):
        run("--engines", "numexp")
    with pytest.raises(ProxforgeError, match="neither random nor evolved"):
        run("--programs", "0")


def test_the_comparison_with_building_anew_is_arithmetic():
    found = rebuild.Comparison("b", 100, 20, 3, search_seconds=2.0, evaluate_seconds=1.0, network_seconds=0.5)
    assert (found.rebuild_seconds, found.collect_seconds, found.ratio) == (1000.0, 10.0, 500.0)
    assert found.ratio_with_cache == pytest.approx(1000 / 12)
    assert found.to_dict()["ratio"] == 500.0
