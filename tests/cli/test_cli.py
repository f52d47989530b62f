"""The command line: the JSON contract, exit codes, and clear errors. One cache of ``digits`` serves all tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import proxforge
from proxforge.cli import run

ROOT = Path(__file__).parents[2]
AUTOPROXP = "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))"


@pytest.fixture
def call(capsys):
    """call(args) -> (exit code, the JSON document on stdout); nothing else may be there."""

    def called(*args: object):
        code = run([str(a) for a in args] + ["--json"])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, json.loads(printed.out)

    return called


def test_ops(call):
    code, found = call("ops", "--set", "autoprox")
    assert code == 0
    assert sum(op["arity"] == 1 for op in found) == 24
    assert [op["name"] for op in found if op["arity"] == 2] == ["+", "-", "*", "@"]
    assert sum(len(op["signatures"]) for op in found) == 56


def test_ops_page_in_the_docs_is_the_one_that_is_generated(capsys):
    assert run(["ops", "--markdown"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")


def test_check(call):
    code, found = call("check", AUTOPROXP)
    assert code == 0
    assert found["ok"] is True
    assert found["type"] == "Matrix[m, d]"
    assert found["canonical"] == AUTOPROXP
    assert found["statistics"] == ["qkv.w", "fc1.w"]
    assert found["instructions"] == len(found["disassembly"]) - 1 == 9
    assert len(found["hash"]) == 32
    assert "W_" in found["latex"]


@pytest.mark.parametrize(
    ("formula", "type_"),
    [("qkv.w @ fc2.w", "Matrix[3q, m]"), ("std(qkv.w)", "Scalar"), ("layer_sum(qkv.w) / 2", "Score")],
)
def test_check_shows_the_type_of_the_formula_as_written(call, formula, type_):
    assert call("check", formula)[1]["type"] == type_


@pytest.mark.parametrize(
    ("formula", "kind", "column"),
    [
        ("frobnius(qkv.w)", "name", 1),
        ("qkv.w + fc1.w", "shape", 7),
        ("abs(qkv.w", "syntax", 10),
        ("params + qkv.w", "type", 8),
        ("mean(normalize(qkv.w))", "constant", 1),
        ("(" * 1000, "size", 301),
    ],
)
def test_check_of_a_bad_formula(call, formula, kind, column):
    code, found = call("check", formula)
    assert code == 2
    assert found["ok"] is False
    assert (found["error"]["kind"], found["error"]["line"], found["error"]["column"]) == (kind, 1, column)


def test_errors_for_people_have_a_caret(capsys):
    assert run(["check", "abs(qkv.w + fc1.w)"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].endswith("          ^")


@pytest.mark.parametrize(
    ("args", "kind", "part"),
    [
        (["score", "frobnius(qkv.w)", "-b", "digits"], "name", "did you mean 'frobenius'"),
        (["score", "-b", "digits"], "usage", "no formula"),
        (["score", "params", "-b", "digitz"], "benchmark", "digits"),
        (["score", "params", "-b", "digits", "--split", "tests"], "config", "did you mean 'test'"),
        (["score", "params", "-b", "digits", "--backend", "troch"], "backend", "did you mean 'torch'"),
        (["score", "params", "-b", "digits", "--device", "tpu"], "device", "cpu, cuda"),
        (["score", "params"], "usage", "--benchmark"),
        (["score", "params", "-b", "vit-bench-101/pit", "--data", "no/such/folder"], "data", "no/such/folder"),
        (["score", "--file", "no/such/file", "-b", "digits"], "file", "no/such/file"),
        (["score", "params", "-b", "digits", "--cache", ""], "usage", "the path is empty"),
        (["score", "qkv.w", "-b", "digits", "--batch", "100000000000"], "cache", "choose fewer"),
        (["score", "--file", "."], "usage", "--benchmark"),
        (["score", "--file", ".", "-b", "digits"], "file", "expected a text file"),
        (["bench", "train", "digits", "--out", "."], "file", "no name for a file"),
        (["bench", "train", "digits", "--out", "setup.py/x.json"], "file", "cannot write"),
        (["bench", "train"], "usage", "Missing argument 'NAME'"),
        (["cache", "verify", "setup.py"], "cache", "no directory"),
        (["--json", "check", "qkv"], "name", "'qkv' is not known"),
        (["search", "-b", "digits", "--strategy", "elitism"], "config", "did you mean 'elitism_preserve'"),
        (["search", "-b", "digits", "--steps", "-1"], "config", "'steps' is -1"),
        (["search", "-b", "digits", "-s", "random", "--margin", "0.1"], "config", "'random' has no option 'margin'"),
        (["search", "-b", "digits", "--target", "ful"], "config", "did you mean 'full'"),
        (["collect", "-b", "digits", "--statistic", "qkv.x"], "cache", "qkv.x"),
        (["cache", "info", "no/such/folder"], "cache", "no directory"),
        (["ops", "--set", "autoprx"], "name", "did you mean 'autoprox'"),
        (["nothing"], "usage", "nothing"),
        (["check"], "usage", "EXPR"),
    ],
    ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None,
)
def test_bad_input_is_exit_code_2_and_one_error(call, cache, monkeypatch, args, kind, part):
    monkeypatch.setenv("PROXFORGE_CACHE", str(cache))
    code, found = call(*args)
    assert code == 2
    assert set(found["error"]) == {"kind", "message", "line", "column"}
    assert found["error"]["kind"] == kind
    assert part in found["error"]["message"]


def test_a_formula_file(call, cache, tmp_path):
    file = tmp_path / "formulas.txt"
    file.write_text("\ufeff# two proxies\nSNIP # by name\n\nl = abs(qkv.g); l * 2   # with memory\n", encoding="utf-8")
    code, found = call("score", "--file", file, "-b", "digits", "--cache", cache)
    assert code == 0
    assert {r["proxy"] for r in found["rows"] if not r["baseline"]} == {"SNIP", "l = abs(qkv.g); l * 2"}
    file.write_text("SNIP\nabs(qkv.w\n")
    code, found = call("score", "--file", file, "-b", "digits", "--cache", cache)
    assert (code, found["error"]["kind"], found["error"]["line"]) == (2, "syntax", 2)


def test_a_megabyte_of_parentheses_in_a_file(call, tmp_path):
    file = tmp_path / "hostile.txt"
    file.write_text("(" * 1_000_000)
    code, found = call("score", "--file", file, "-b", "digits")
    assert (code, found["error"]["kind"]) == (2, "size")


def test_score(call, cache):
    args = ["-b", "digits", "--cache", cache]
    code, found = call("score", AUTOPROXP, "frobenius(sign(qkv.w))", "log(qkv.w)", *args)
    assert code == 0
    assert found["benchmark"] == "digits"
    assert found["n"] >= 120
    rows = {(r["proxy"], r["target"]): r for r in found["rows"]}
    targets = {t for _, t in rows}
    assert len(targets) >= 3
    assert {p for p, _ in rows} == {AUTOPROXP, "frobenius(sign(qkv.w))", "log(qkv.w)", *BASELINES}
    for (proxy, _), r in rows.items():
        assert r["baseline"] is (proxy in BASELINES)
        assert r["n"] == found["n"]
        if proxy == "log(qkv.w)":
            assert (r["status"], r["kendall"], r["kendall_ci"], r["partial_kendall"]) == ("nan", None, None, None)
            continue
        low, high = r["kendall_ci"]
        assert -1 <= low <= r["kendall"] <= high <= 1
        assert r["status"] == "ok"
    assert all(rows["frobenius(sign(qkv.w))", t]["shape_only"] for t in targets)
    assert not any(rows[AUTOPROXP, t]["shape_only"] for t in targets)
    assert all(rows["params", t]["partial_kendall"] is None for t in targets)


BASELINES = {"params", "flops", "depth", "depth*width"}


def test_the_four_baselines_are_there_by_name_whatever_is_given(call, cache):
    _, found = call("score", "depth * width", "params+0", "params", "-b", "digits", "--cache", cache)
    flags = {r["proxy"]: r["baseline"] for r in found["rows"]}
    assert flags == {"depth * width": False, "params+0": False, **dict.fromkeys(BASELINES, True)}
    assert all(r["shape_only"] for r in found["rows"])


def test_a_benchmark_too_small_to_split_can_be_scored(cache):
    truth = proxforge.load_benchmark("digits")
    targets = {"full": truth.targets["full"][:2].copy(), "none": np.full(2, np.nan)}
    small = proxforge.Benchmark("small", "micro", truth.archs[:2], targets, ("full",), 10, 2)
    table = proxforge.score([proxforge.compile("abs(qkv.w)"), "log(qkv.w)"], small, cache=cache)
    statuses = {(r.proxy, r.target): (r.status, r.n) for r in table.rows}
    assert statuses["abs(qkv.w)", "full"] == ("ok", 2)
    assert statuses["abs(qkv.w)", "none"] == ("target", 0)
    assert statuses["log(qkv.w)", "full"] == ("nan", 2)
    with pytest.raises(proxforge.ProxforgeError, match="fewer than two"):
        proxforge.score("abs(qkv.w)", small, cache=cache, split="test")


def test_score_is_the_same_by_both_backends_and_in_python(call, cache):
    args = [AUTOPROXP, "-b", "digits", "--cache", cache, "--split", "test"]
    _, torch = call("score", *args, "--backend", "torch")
    _, reference = call("score", *args, "--backend", "reference")
    table = proxforge.score(AUTOPROXP, "digits", cache=cache, split="test")
    assert torch["rows"] == table.to_dict()["rows"]
    for one, other in zip(torch["rows"], reference["rows"], strict=True):
        pearson = one.pop("pearson"), other.pop("pearson")
        assert pearson[0] == pytest.approx(pearson[1], abs=1e-9)  # the one figure that sees the last digits of a score
        assert one == other
    frame = table.to_frame()
    assert len(frame) == len(torch["rows"])
    assert list(frame["kendall"]) == [r["kendall"] for r in torch["rows"]]


def test_the_parts_of_the_split_are_the_whole(call, cache):
    sizes = [
        call("score", "params", "-b", "digits", "--cache", cache, "--split", s)[1]["n"]
        for s in ("search", "test", "all")
    ]
    assert sizes[0] + sizes[1] == sizes[2]
    assert sizes[0] == round(0.6 * sizes[2])


SEARCH = [
    "search",
    "-b",
    "digits",
    "--strategy",
    "elitism_preserve",
    "--steps",
    "6",
    "--population",
    "5",
    "--seed",
    "3",
]


def test_the_same_search_twice_is_the_same_to_the_byte(call, cache, tmp_path):
    found = [call(*SEARCH, "--cache", cache, "--out", tmp_path / name)[1] for name in ("one", "two")]
    for document in found:
        spent = document.pop("seconds")
        assert set(spent) == {"collect", "compile", "evaluate", "correlate", "strategy", "files", "total"}
        assert document["counters"]["programs"] >= document["evaluations"]
    assert found[0] == found[1]
    for name in ("config.json", "events.jsonl", "result.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_search(call, cache, tmp_path):
    code, found = call(*SEARCH, "--cache", cache, "--out", tmp_path / "run")
    assert code == 0
    assert set(found) >= {"best", "params", "evaluations", "rejected", "duplicates", "seconds"}
    best = found["best"]
    assert set(best) >= {"proxy", "jcm_search", "jcm_test", "rows"}
    rows = {(r["split"], r["proxy"], r["target"]): r for r in best["rows"]}
    targets = {t for *_, t in rows}
    for split, jcm in (("search", best["jcm_search"]), ("test", best["jcm_test"])):
        taus = [rows[split, best["proxy"], t]["kendall"] for t in targets]
        assert sum(taus) / len(taus) == pytest.approx(jcm, abs=1e-12)
        assert {p for s, p, _ in rows if s == split} == {best["proxy"], *BASELINES}
    code, scored = call("score", best["proxy"], "-b", "digits", "--cache", cache, "--split", "test")
    taus = [r["kendall"] for r in scored["rows"] if r["proxy"] == best["proxy"]]
    assert sum(taus) / len(taus) == pytest.approx(best["jcm_test"], abs=1e-12)


def test_another_search_is_not_mixed_into_a_run(call, cache, tmp_path):
    call(*SEARCH, "--cache", cache, "--out", tmp_path / "run")
    code, found = call(*SEARCH, "--margin", "0.2", "--cache", cache, "--out", tmp_path / "run")
    assert code == 2
    assert "margin" in found["error"]["message"]


def test_collect_info_and_verify(call, tmp_path):
    code, found = call("collect", "-b", "digits", "--cache", tmp_path, "--statistic", "fc1.w", "--batch", "2")
    assert code == 0
    assert found["complete"] is True
    assert found["statistics"] == ["fc1.w"]
    assert call("cache", "info", tmp_path) == (0, found)
    assert call("cache", "verify", tmp_path) == (0, found)
    assert (found["ok"], found["problems"], found["networks"]) == (True, [], 144)
    file = Path(found["path"]) / "networks" / "0005.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    code, found = call("cache", "verify", tmp_path)
    assert code == 1
    assert [(p["file"], p["kind"]) for p in found["problems"]] == [(str(file), "checksum")]


def test_strategies(call):
    code, found = call("strategies")
    assert code == 0
    published = {s["name"]: s for s in found}["elitism_preserve"]["options"]
    assert (published["population"], published["steps"], published["margin"]) == (20, 200, 0.1)


def test_tables_for_people(cache, capsys):
    assert run(["score", "SNIP", "-b", "digits", "--cache", str(cache)]) == 0
    printed = capsys.readouterr()
    assert "SNIP" in printed.out
    assert "depth*width  (baseline)" in printed.out
    assert printed.err == ""
    for args in (["ops"], ["strategies"], ["--help"], ["score", "--help"], ["--version"], ["check", AUTOPROXP]):
        assert run(args) == 0
    assert "Matrix[r, c] -> Scalar" in capsys.readouterr().out


def test_a_table_in_markdown(cache, capsys):
    assert run(["score", "SNIP", "log(qkv.w)", "-b", "digits", "--cache", str(cache), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| proxy | full (n=144) | low (n=144) | kd (n=144) |"
    assert lines[2].startswith("| `SNIP` | 0.")
    assert lines[3] == "| `log(qkv.w)` | nan | nan | nan |"
    assert [line.split(" |")[0] for line in lines[4:]] == [f"| `{b}`  (baseline)" for b in BASELINE_ORDER]


BASELINE_ORDER = ("params", "flops", "depth", "depth*width")
