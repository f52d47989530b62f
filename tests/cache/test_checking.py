"""Mending a cache, and throwing away what no cache needs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from toy_space import ALL, recipe

from proxforge.stats_cache import CacheError, collect, open_cache, prune, repair, verify

NETWORKS = 4


def contents(path: Path) -> dict[str, bytes]:
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return collect(recipe(NETWORKS), ALL, tmp_path_factory.mktemp("whole"), workers=1).path


@pytest.fixture
def path(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / whole.name))


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def truncate(file: Path, position: int) -> None:
    file.write_bytes(file.read_bytes()[:position])


def replace(file: Path, _position: int) -> None:
    other = file.with_name("0001.safetensors" if file.name != "0001.safetensors" else "0002.safetensors")
    shutil.copy(other, file)


def delete(file: Path, _position: int) -> None:
    file.unlink()


@pytest.mark.parametrize("harm", [flip, truncate, replace, delete])
def test_what_is_harmed_is_named_and_mended_to_the_byte(harm, path, whole):
    rng = random.Random(harm.__name__)
    for index in (0, 3):
        file = path / f"networks/{index:04d}.safetensors"
        for _ in range(3):
            harm(file, rng.randrange(file.stat().st_size))
            before, after = repair(path, workers=1)
            assert [problem.file for problem in before] == [f"networks/{index:04d}.safetensors"]
            assert after == []
            assert contents(path) == contents(whole)


def test_a_damaged_manifest_is_made_anew_from_its_own_recipe(path, whole):
    manifest = path / "manifest.json"
    text = manifest.read_bytes()
    for position in (5, text.index(b'"statistics"') + 30, len(text) - 3):
        flip(manifest, position)
        flip(path / "networks/0002.safetensors", 300)
        before, after = repair(path, workers=1)
        assert ([p.kind for p in before], after) == (["manifest"], [])
        assert contents(path) == contents(whole)
    flip(manifest, text.index(b'"recipe"') + 40)
    assert re.search(r"manifest.json is damaged.*recipe", left(path))
    manifest.write_bytes(text.replace(b'"batch":3', b'"batch":4', 1))
    assert "its recipe is not that of the directory either" in left(path)
    manifest.unlink()
    assert re.search(r"has no manifest.json.*its recipe cannot be read either", left(path))
    assert len(list(path.glob("networks/*"))) == NETWORKS, "nothing is deleted where nothing can be mended"


def left(path: Path) -> str:
    """The message of the one problem that no repair mends."""
    (problem,) = repair(path)[1]
    assert (problem.file, problem.kind) == ("manifest.json", "manifest")
    return problem.message


def test_a_damaged_manifest_in_a_directory_of_another_name(path, whole):
    copy = path.rename(path.with_name("mine"))
    flip(copy / "manifest.json", 5)
    assert repair(copy, workers=1)[1] == []
    assert contents(copy) == contents(whole)


def test_a_manifest_of_another_cache_destroys_nothing(path, whole, tmp_path):
    other = collect(recipe(2), ["fc1.w"], tmp_path / "other", workers=1).path
    shutil.copy(other / "manifest.json", path / "manifest.json")
    assert [(p.file, p.kind) for p in verify(path)] == [("manifest.json", "manifest")]
    assert "is not that of the directory either" in left(path)
    (path / "manifest.json").unlink()
    assert contents(collect(recipe(NETWORKS), ALL, path.parent, workers=1).path) == contents(whole)


CRAFTED = {
    "without a schema": ('"schema":3,', ""),
    "of another recipe": ('"batch":3', '"batch":4'),
    "with networks that are none": ('"networks":[', '"networks":"", "others":['),
    "with a size that is none": ('"size":{"depth"', '"size":{"deep"'),
    "that ends early": ("]}\n", "\n"),
    "that is too deep": ('"versions":', '"deep":' + 10**5 * "[" + ',"versions":'),
}


@pytest.mark.parametrize("crafted", CRAFTED)
def test_a_sound_checksum_over_nonsense(crafted, path, whole):
    manifest = path / "manifest.json"
    manifest.write_text(signed(manifest.read_text().partition("\n")[2].replace(*CRAFTED[crafted])))
    with pytest.raises(CacheError, match=r"manifest.json is damaged: it"):
        open_cache(path)
    with pytest.raises(CacheError, match=r"manifest.json is damaged: it"):
        collect(recipe(NETWORKS), ALL, path.parent)
    assert prune(path.parent) == []
    assert [p.kind for p in verify(path)] == ["manifest"]
    if crafted != "of another recipe":
        assert repair(path, workers=1)[1] == []
        assert contents(path) == contents(whole)


@pytest.mark.parametrize("name", ["networks/0001.safetensors", "manifest.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file_is_named_and_left(make, name, path):
    (path / name).unlink()
    make(path / name)
    before, after = repair(path, workers=1)
    assert [p.file for p in before] == [name]
    assert after == before
    assert "it is no file. Move it away" in after[0].message
    assert (path / name).exists()
    with pytest.raises(CacheError, match=r"it is no file"):
        collect(recipe(NETWORKS), ALL, path.parent)


def test_an_interrupted_collection_is_completed(path, whole):
    lines = (path / "manifest.json").read_text().splitlines()
    (path / "networks/0001.safetensors").unlink()
    values = json.loads("\n".join(lines))
    assert len(values["networks"]) == NETWORKS
    assert [p.kind for p in verify(path)] == ["missing"]
    assert repair(path, workers=1)[1] == []
    assert contents(path) == contents(whole)


def test_what_is_foreign_is_named_and_left(path):
    (path / "notes.txt").write_text("mine")
    before, after = repair(path)
    assert [p.kind for p in before] == [p.kind for p in after] == ["foreign"]
    flip(path / "networks/0000.safetensors", -1)
    assert [p.kind for p in repair(path, workers=1)[1]] == ["foreign"]
    assert (path / "notes.txt").read_text() == "mine"


def test_a_sound_cache_is_not_touched(path):
    stats = {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    assert repair(path) == ([], [])
    assert {f: f.stat().st_mtime_ns for f in path.rglob("*")} == stats


def test_prune_throws_away_what_no_cache_needs(path, whole):
    root = path.parent
    (path / "networks/0000.safetensors.77.tmp").write_bytes(b"half")
    (path / "manifest.json.77.tmp").write_bytes(b"half")
    (root / "0123456789abcdef0123.lock").write_text("")
    empty = root / "ffffffffffffffffffff"
    (empty / "networks").mkdir(parents=True)
    older = Path(shutil.copytree(path, root / "eeeeeeeeeeeeeeeeeeee"))
    (older / "manifest.json").write_text(rewritten((older / "manifest.json").read_text()))
    (root / "unrelated").mkdir()
    expected = {
        *(path / name for name in ("networks/0000.safetensors.77.tmp", "manifest.json.77.tmp")),
        *(root / "0123456789abcdef0123.lock", empty, older),
    }
    before = sorted(root.rglob("*"))
    assert set(prune(root, dry_run=True)) == expected
    assert [f for f in sorted(root.rglob("*")) if f.suffix != ".lock"] == [f for f in before if f.suffix != ".lock"]
    assert set(prune(root)) == expected
    assert contents(path) == contents(whole)
    assert not older.exists()
    assert (root / "unrelated").exists()
    assert prune(root) == []
    assert [f.name for f in root.glob("*.lock")] == [f"{path.name}.lock"]


def rewritten(text: str) -> str:
    """The manifest as another schema would have it, with its checksum."""
    return signed(text.partition("\n")[2].replace('"schema":3', '"schema":1'))


def signed(body: str) -> str:
    """A manifest with its checksum."""
    return f'{{"checksum":"{hashlib.sha256(body.encode()).hexdigest()}",\n{body}'


def test_prune_leaves_what_can_be_continued_or_mended_and_what_is_being_filled(path):
    flip(path / "manifest.json", 100)
    assert prune(path.parent) == []
    (path / "manifest.json").unlink()
    assert prune(path.parent) == []
    shutil.rmtree(path / "networks")
    (path / "networks").mkdir()
    with FileLock(path.with_name(f"{path.name}.lock")):
        assert prune(path.parent) == []
    assert prune(path.parent) == [path]


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_prune_drops_statistics(storage, tmp_path):
    given = recipe(2, storage=storage)
    path = collect(given, ALL, tmp_path, workers=1).path
    keep = sorted(set(ALL) - {"hidden.a", "hidden.g", "fc1.v"})
    gone = prune(path, drop=["hidden.a", "hidden.g", "fc1.v"])
    assert gone == [path / f"networks/{i:04d}.safetensors" for i in range(2)]
    assert open_cache(path).statistics == set(keep)
    assert verify(path) == []
    only = collect(given, keep, tmp_path / "other", workers=1).path
    assert contents(path) == contents(only)
    assert prune(path, drop=keep) == gone
    assert open_cache(path).statistics == set()
    with pytest.raises(CacheError, match=r"unknown statistic 'hidden'"):
        prune(path, drop=["hidden"])
