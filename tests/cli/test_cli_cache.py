"""The commands ``space``, ``collect`` and ``cache``: the JSON contract and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from proxforge.cli import run
from proxforge.stats_cache.spaces import SPACES

ROOT = Path(__file__).parents[2]
BASE = ("collect", "-b", "digits", "--batch", "2", "--workers", "1")


@pytest.fixture
def call(capsys):
    """call(args) -> (exit code, the JSON document on stdout); nothing else may be there."""

    def called(*args: object):
        code = run([str(a) for a in args] + ["--json"])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, json.loads(printed.out)

    return called


@pytest.fixture
def collected(call, tmp_path):
    """The directory of a cache of ``digits`` with one statistic."""
    code, found = call(*BASE, "--cache", tmp_path, "--statistic", "fc1.w")
    assert (code, found["ok"]) == (0, True)
    return Path(found["path"])


def test_spaces_are_listed(call):
    code, found = call("space")
    assert code == 0
    assert {space["name"] for space in found["spaces"]} == set(SPACES)


def test_a_space(call):
    code, found = call("space", "autoformer-t", "--sample", 3, "--seed", 5, "--params", "5.5M..6M")
    assert code == 0
    assert found["name"] == "autoformer-t"
    assert found["size"] == 1_056_964_608
    assert found["genes"]["hidden_dim"] == {"values": [192, 216, 240]}
    assert len(found["networks"]) == 3
    assert all(5.5e6 <= n["params"] <= 6e6 and n["flops"] > 1e9 for n in found["networks"])
    assert call("space", "autoformer-t", "--sample", 3, "--seed", 5, "--params", "5.5M..6M")[1] == found
    assert call("space", "autoformer-t", "--sample", 3, "--seed", 6, "--params", "5.5M..6M")[1] != found


def test_the_published_networks(call):
    arch = {"hidden_dim": 192, "mlp_ratio": [4] * 12, "depth": 12, "num_heads": [3] * 12}
    pit = {"base_dim": 48, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [3, 6, 12]}
    cell = {"cell": "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"}
    for name, given, params in (
        ("autoformer-t", arch, 5_809_576),
        ("pit-s", pit, 23_461_912),
        ("nas-bench-201", cell, 129_306),
    ):
        code, found = call("space", name, "--arch", json.dumps(given))
        assert (code, found["networks"][0]["params"]) == (0, params)


def test_every_network_and_mutations(call):
    code, found = call("space", "cifar-resnet", "--all", "--params", "..90K")
    assert code == 0
    assert [n["arch"] for n in found["networks"]] == [{"blocks": [1, 1, 1]}]
    code, found = call("space", "cifar-resnet", "--arch", '{"blocks": [1, 1, 1]}', "--mutate", 4)
    assert [n["arch"]["blocks"].count(1) for n in found["networks"]] == [3, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["space", "pitt"], "did you mean 'pit"),
        (["space", "pit", "--arch", "{"], "is not JSON"),
        (["space", "pit", "--arch", "[]"], "is a mapping of the genes"),
        (["space", "pit", "--params", "6M..4M"], "is empty"),
        (["space", "pit", "--sample", "1", "--params", ""], "is no range"),
        (["space", "os:abort"], "is no space"),
        (["space", "..:x"], "cannot be loaded"),
        (["space", "collections:abc:x"], "cannot be loaded"),
        (["space", "pit", "--sample", "1", "--params", "1G.."], "none of 20000 random networks of pit has 1G.."),
        (["space", "autoformer-t", "--all"], "too many to list"),
    ],
)
def test_bad_input(call, args, part):
    code, found = call(*args)
    assert code == 2
    assert found["error"]["kind"] == "space"
    assert part in found["error"]["message"]


def test_tables_of_spaces_for_people(capsys):
    assert run(["space"]) == 0
    assert run(["space", "cifar-resnet", "--sample", "1"]) == 0
    shown = capsys.readouterr().out
    assert "15,625" in shown
    assert "blocks" in shown


def test_info_verify_and_repair(call, collected):
    for command in ("info", "verify", "repair"):
        code, found = call("cache", command, collected)
        assert code == 0
        assert (found["ok"], found["networks"], found["statistics"], found["problems"]) == (True, 144, ["fc1.w"], [])
        assert found["bytes"] == sum(f.stat().st_size for f in collected.glob("networks/*"))
    assert found["repaired"] == []


def test_damage_is_exit_code_1_and_repaired(call, collected):
    file = collected / "networks" / "0007.safetensors"
    data = bytearray(file.read_bytes())
    data[-50] ^= 1
    file.write_bytes(data)
    assert call("cache", "info", collected)[0] == 0, "info reads no files"
    code, found = call("cache", "verify", collected)
    assert (code, found["ok"]) == (1, False)
    assert [(p["file"], p["kind"]) for p in found["problems"]] == [(str(file), "checksum")]
    file.write_bytes(data[:-1])
    (collected / "networks" / "0008.safetensors").unlink()
    code, found = call("cache", "info", collected)
    assert (code, [p["kind"] for p in found["problems"]]) == (1, ["truncated", "missing"])
    (collected / "mine.txt").write_text("")
    code, found = call("cache", "repair", collected, "--workers", 1)
    assert (code, [p["kind"] for p in found["problems"]]) == (1, ["foreign"])
    assert [p["kind"] for p in found["repaired"]] == ["truncated", "missing"]
    (collected / "mine.txt").unlink()
    assert call("cache", "verify", collected)[0] == 0


def test_a_manifest_that_cannot_be_read_is_a_problem(call, collected):
    manifest = collected / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:-5])
    for command in ("info", "verify"):
        code, found = call("cache", command, collected.parent)
        assert (code, [p["kind"] for p in found["problems"]]) == (1, ["manifest"])
        assert (found["networks"], found["statistics"], found["bytes"]) == (0, [], 0)
    code, found = call("cache", "repair", collected.parent)
    assert (code, found["networks"], [p["kind"] for p in found["repaired"]]) == (0, 144, ["manifest"])
    assert manifest.read_text() == text


def test_what_cannot_be_mended_does_not_keep_others_from_it(call, collected):
    other = shutil.copytree(collected, collected.with_name("another"))
    (other / "manifest.json").write_text("{}")
    (collected / "networks" / "0000.safetensors").unlink()
    code, found = call("cache", "repair", collected.parent)
    assert (code, found["ok"]) == (1, False)
    assert [(p["file"], p["kind"]) for p in found["problems"]] == [(str(other / "manifest.json"), "manifest")]
    assert [p["kind"] for p in found["repaired"]] == ["missing"]
    (collected / "networks" / "0000.safetensors").unlink()
    code, found = call("cache", "repair", collected, "--collect-on", "cudaa")
    assert (code, [p["kind"] for p in found["problems"]], found["repaired"]) == (1, ["missing", "repair"], [])


def test_several_caches_and_prune(call, collected):
    root = collected.parent
    call(*BASE, "--cache", root, "--statistic", "fc1.w", "--statistic", "fc2.w", "--init-seed", 1)
    code, found = call("cache", "verify", root)
    assert (code, found["networks"], found["statistics"], len(found["caches"])) == (0, 288, ["fc1.w"], 2)
    (collected / "networks" / "0000.safetensors.1.tmp").write_text("")
    code, dry = call("cache", "prune", root, "--dry-run", "--drop", "fc2.w")
    assert (code, len(dry["pruned"])) == (0, 145)
    assert call("cache", "prune", root, "--drop", "fc2.w")[1]["pruned"] == dry["pruned"]
    code, found = call("cache", "verify", root)
    assert (code, {tuple(c["statistics"]) for c in found["caches"]}) == (0, {("fc1.w",)})
    assert call("cache", "info", root.parent / "none")[0] == 2
    (root / "empty").mkdir()
    code, found = call("cache", "info", root / "empty")
    assert (code, "holds no cache" in found["error"]["message"]) == (2, True)


def test_what_is_shown_to_people(collected, capsys):
    (collected / "networks" / "0007.safetensors").unlink()
    assert run(["cache", "info", str(collected)]) == 1
    assert run(["cache", "verify", str(collected)]) == 1
    assert run(["cache", "repair", str(collected), "--workers", "1"]) == 0
    assert run(["cache", "prune", str(collected)]) == 0
    shown = capsys.readouterr().out
    assert "problems     " in shown
    assert "missing: " in shown
    assert "mended: " in shown
    assert "was deleted: 0" in shown


def test_the_size_is_told_before(call, tmp_path):
    code, said = call(*BASE, "--cache", tmp_path / "not" / "there", "--estimate")
    assert code == 0
    assert (said["networks"], len(said["statistics"])) == (144, 14)
    assert said["free"] > 0
    assert not (tmp_path / "not").exists()
    code, found = call(*BASE, "--cache", tmp_path)
    assert said["bytes"] == pytest.approx(sum(f.stat().st_size for f in Path(found["path"]).rglob("*.*")), rel=0.15)


def test_storage_rows_and_inputs(call, tmp_path):
    code, found = call(
        *BASE, "--cache", tmp_path, "--statistic", "hidden.a", "--storage", "bfloat16", "--rows", 7, "--input", "ones"
    )
    assert code == 0
    assert found["recipe"]["storage"] == "bfloat16"
    assert (found["recipe"]["rows"], found["recipe"]["input"]) == (7, "ones")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(5, 1, 8, 8)))
    code, found = call(*BASE, "--cache", tmp_path, "--statistic", "fc1.g", "--input", tmp_path / "images.npy")
    assert (code, found["recipe"]["input"][:5], found["recipe"]["batch"]) == (0, "data:", 2)
    code, found = call(*BASE, "--cache", tmp_path, "--input", tmp_path / "nothing.npy")
    assert (code, found["error"]["kind"]) == (2, "cache")
    code, found = call(*BASE, "--cache", tmp_path, "--resolution", 16)
    assert (code, found["error"]["kind"]) == (2, "space")
    code, found = call(*BASE, "--cache", tmp_path, "--collect-on", "cudaa")
    assert (code, "the device 'cudaa' cannot be used" in found["error"]["message"]) == (2, True)
