"""Filling a cache: found again, extended, continued after SIGKILL, shared by two processes; always the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_space import ALL, recipe

from proxforge.stats_cache import CacheError, Recipe, cache_path, collect, open_cache, worker
from proxforge.stats_cache import collect as package_collect
from proxforge.stats_cache.spaces.base import SpaceError

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["numpy", "torch"])
KILLS = int(os.environ.get("PROXFORGE_KILLS", "10"))
"""So many collections are killed; for more: PROXFORGE_KILLS=50 pytest tests/cache/test_collect.py -k killed."""
collect_module = sys.modules[package_collect.__module__]


def contents(path: Path) -> dict[str, bytes]:
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The cache of 24 toys with all statistics, collected in one go."""
    return collect(recipe(24), ALL, tmp_path_factory.mktemp("whole"), workers=1).path


def test_the_key_is_that_of_the_recipe(tmp_path):
    # A changed key loses everybody's caches: change SCHEMA, on purpose, together with this line.
    assert recipe(2).key == "6c87c350f1d0d89a310e"
    keys = {
        recipe(2).key,
        recipe(3).key,
        *(recipe(2, **{name: 7}).key for name in ("classes", "seed", "batch", "input_seed")),
        replace(recipe(2), archs=recipe(2).archs[::-1]).key,
    }
    assert len(keys) == 7
    assert Recipe.from_json(recipe(2).to_json()) == recipe(2)
    spelled = replace(recipe(1), archs=({"width": "4", "depth": 1.0},))
    assert cache_path(spelled, tmp_path) == tmp_path / recipe(1).key


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "batch of a recipe is 0; expected a whole number from 1"),
        ({"seed": True}, "seed of a recipe is True"),
        ({"input": "noice"}, "did you mean 'noise'"),
        ({"archs": ()}, "at least one architecture"),
        ({"archs": ({"depth": float("nan")},)}, "plain JSON values"),
    ],
)
def test_a_wrong_recipe_is_refused(changed, message):
    with pytest.raises(CacheError, match=message):
        recipe(2, **changed)


def test_unknown_names_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(CacheError, match=r"unknown statistic 'qkv.x'; did you mean"):
        collect(recipe(2), ["qkv.x"], tmp_path)
    with pytest.raises(SpaceError, match="did you mean 'micro'"):
        collect(recipe(2, space="mikro"), ALL, tmp_path)
    with pytest.raises(SpaceError, match="cannot be loaded"):
        collect(recipe(2, space="toy_space:Tony"), ALL, tmp_path)
    with pytest.raises(SpaceError, match="is no space"):
        collect(recipe(2, space="collections:OrderedDict"), ALL, tmp_path)
    with pytest.raises(SpaceError, match="not \\['depth'\\]"):
        collect(recipe(2, archs=({"depth": 1},)), ALL, tmp_path)
    with pytest.raises(CacheError, match="workers is 0"):
        collect(recipe(2), ALL, tmp_path, workers=0)
    assert not list(tmp_path.iterdir())


def test_a_cache_is_found_again(tmp_path, monkeypatch):
    first = collect(recipe(), ALL, tmp_path, workers=1)
    before = contents(first.path)
    monkeypatch.setattr(worker, "gather", None)  # would fail if called
    assert collect(recipe(), ["qkv.w"], tmp_path).statistics == set(ALL)
    assert contents(first.path) == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_recipe_is_another_cache(tmp_path):
    one, two = (collect(recipe(2, seed=seed), ["fc1.w"], tmp_path, workers=1) for seed in (0, 1))
    assert one.path != two.path
    assert not np.array_equal(one.read(0, "fc1.w", 0), two.read(0, "fc1.w", 0))


def test_statistics_are_added_without_doing_the_others_again(tmp_path, whole, monkeypatch):
    asked = []
    from proxforge.stats_cache import passes

    measure = passes.measure
    monkeypatch.setattr(passes, "measure", lambda *args: asked.append(set(args[2])) or measure(*args))
    for statistics in (["qkv.v", "fc2.v"], ["fc1.w"], ALL):
        cache = collect(recipe(24), statistics, tmp_path, workers=1)
        assert cache.statistics >= set(statistics)
    assert asked[0] == {"qkv.v", "fc2.v"}
    assert asked[24] == {"fc1.w"}
    assert asked[48] == set(ALL) - {"qkv.v", "fc2.v"}, "fc1.w is made again, to compare"
    assert contents(cache.path) == contents(whole)


def test_a_cache_may_begin_without_statistics(tmp_path, whole):
    """A formula of params and flops needs none; nothing is built for it."""
    empty = collect(recipe(24), [], tmp_path, workers=1)
    assert (empty.statistics, empty.info()["complete"], empty.verify()) == (set(), True, [])
    assert contents(collect(recipe(24), ALL, tmp_path, workers=1).path) == contents(whole)


def test_progress_is_told(tmp_path):
    seen = []
    collect(recipe(4), ["fc1.g"], tmp_path, workers=1, progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(i, 4) for i in range(1, 5)]
    assert [p.share for p in seen] == sorted(p.share for p in seen)
    assert seen[-1].share == pytest.approx(1)
    assert seen[0].remaining > seen[-1].remaining == 0


def test_what_a_killed_collection_left_is_removed_before_anything_is_written(tmp_path):
    left = tmp_path / recipe(2).key / "networks/0000.safetensors.1.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    collect(recipe(2), ["fc1.w"], tmp_path, workers=1, progress=lambda p: left.exists() and pytest.fail("still there"))
    assert not left.exists()


def test_a_lost_file_is_made_anew_with_all_it_had(tmp_path, whole):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    (copy / "networks/0003.safetensors").unlink()
    collect(recipe(24), ["qkv.w"], tmp_path, workers=1)
    assert contents(copy) == contents(whole)


def test_a_lost_manifest_is_made_anew_from_the_files(tmp_path, whole, monkeypatch):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    (copy / "manifest.json").unlink()
    monkeypatch.setattr(worker, "gather", None)
    collect(recipe(24), ALL, tmp_path)
    assert contents(copy) == contents(whole)


def test_another_version_of_torch_does_not_extend(tmp_path, monkeypatch):
    collect(recipe(2), ["qkv.w"], tmp_path, workers=1)
    monkeypatch.setattr(collect_module, "version", lambda library: "9.9")
    assert collect(recipe(2), ["qkv.w"], tmp_path).statistics == {"qkv.w"}
    with pytest.raises(CacheError, match=r"begun with torch .* torch 9.9 may compute other numbers"):
        collect(recipe(2), ["qkv.g"], tmp_path)


def test_a_network_that_is_built_differently_does_not_extend(tmp_path, monkeypatch):
    from toy_space import Toy

    collect(recipe(2), ["qkv.w"], tmp_path, workers=1)
    build = Toy.build
    monkeypatch.setattr(Toy, "build", lambda self, arch, *, seed, classes=None: build(self, arch, seed=seed + 1))
    with pytest.raises(CacheError, match=r"built with other weights \(qkv.w\)"):
        collect(recipe(2), ["qkv.g"], tmp_path, workers=1)


def test_layers_must_be_as_many_as_the_space_says(tmp_path, monkeypatch):
    from toy_space import Toy

    size = Toy.size
    monkeypatch.setattr(Toy, "size", lambda self, arch, classes=None: replace(size(self, arch), depth=4))
    with pytest.raises(CacheError, match=r"has 1 modules \(blocks.0.attn.qkv .. .*says 4 layers"):
        collect(recipe(1), ["qkv.w"], tmp_path, workers=1)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path, whole):
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CacheError, match=r"cannot write network \d+ .*make room and collect again"):
            collect(recipe(24), ALL, tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.safetensors")), "the largest network is the first"
    assert contents(collect(recipe(24), ALL, tmp_path, workers=1).path) == contents(whole)


def test_a_renamed_cache_is_not_taken_for_another(tmp_path):
    cache = collect(recipe(2), ["qkv.w"], tmp_path, workers=1)
    cache.path.rename(cache_path(recipe(2, seed=5), tmp_path))
    with pytest.raises(CacheError, match=f"holds the cache {cache.key}: it was renamed"):
        collect(recipe(2, seed=5), ["qkv.w"], tmp_path)


def test_a_root_that_is_a_file_is_told(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(CacheError, match="cannot collect into"):
        collect(recipe(2), ALL, tmp_path / "root")


def child(root: Path, stages: list[list[str]], seconds: float) -> None:
    collect_module._SAVE_SECONDS = seconds
    collect_module._SAVE_SHARE = float("inf")
    for statistics in stages:
        collect(recipe(24), statistics, root, workers=1)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment_and_continued_it_is_the_same_cache(tmp_path, whole, seed):
    rng = random.Random(seed)
    stages = [[["fc1.w", "hidden.g"], list(ALL)], [list(ALL)]][seed % 2]
    process = FORK.Process(target=child, args=(tmp_path, stages, rng.choice([0.0, 0.02, 2.0])))
    process.start()
    files, networks = rng.randrange(24), tmp_path / whole.name / "networks"
    deadline = time.monotonic() + 60
    while process.is_alive() and len(list(networks.glob("*.safetensors"))) < files:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.2 if len(stages) > 1 else 0.01))
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)
    if (tmp_path / whole.name / "manifest.json").exists():
        assert open_cache(tmp_path / whole.name).info()["networks"] == 24
    assert contents(collect(recipe(24), ALL, tmp_path, workers=1).path) == contents(whole)


def test_two_processes_fill_one_cache(tmp_path, whole):
    stages = [list(ALL[:7])], [list(ALL[5:])]
    processes = [FORK.Process(target=child, args=(tmp_path, s, 0.01)) for s in stages]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert contents(tmp_path / whole.name) == contents(whole)


SCRIPT = """
import sys
from proxforge.stats_cache import collect, processes
from toy_space import ALL, recipe
start = processes.subprocess.Popen
def popen(*args, **keywords):
    process = start(*args, **keywords)
    print(process.pid, flush=True)
    return process
processes.subprocess.Popen = popen
collect(recipe(24), ALL, sys.argv[1], workers=2, progress=lambda p: print("done", p.done, flush=True))
"""


def script(root: Path) -> subprocess.Popen:
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", SCRIPT, str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_workers_give_the_same_cache_and_end_with_a_killed_parent(tmp_path, whole):
    with script(tmp_path) as process:
        pids = [int(process.stdout.readline()) for _ in range(2)]
        assert process.stdout.readline() == "done 1\n"
        process.kill()
    deadline = time.monotonic() + 20
    while any(map(running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with script(tmp_path) as process:
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert lines[-1].startswith("done")
    assert contents(tmp_path / whole.name) == contents(whole)


def test_what_goes_wrong_in_a_worker_is_told(tmp_path, monkeypatch):
    path = cache_path(recipe(2), tmp_path)
    collect(recipe(2), ["qkv.w"], tmp_path, workers=1)
    flip(path / "networks/0001.safetensors", -1)
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged"):
        collect(recipe(2), ["qkv.g"], tmp_path, workers=2)
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(sys, "executable", shutil.which("false"))  # ends at once
    with pytest.raises(CacheError, match=r"worker process ended while collecting network \d \(exit status 1\)"):
        collect(recipe(3), ["qkv.w"], tmp_path, workers=2)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
