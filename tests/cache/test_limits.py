"""Small disks and little memory: an estimate before, a refusal, a clear error, and nothing broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_space import ALL, recipe

from proxforge.stats_cache import CacheError, Recipe, collect, estimate, open_cache
from proxforge.stats_cache import estimate as estimate_function
from proxforge.stats_cache.spaces import SPACES, space

ROOT = Path(__file__).parents[2]
MICRO = tuple(space("micro").sample(np.random.default_rng(seed)) for seed in range(12))


def micro(networks: int, **changed) -> Recipe:
    return Recipe(**{"space": "micro", "archs": MICRO[:networks], "classes": 10, "batch": 16} | changed)


@pytest.mark.parametrize("changed", [{}, {"storage": "float16"}, {"rows": 20}, {"storage": "bfloat16", "rows": 3}])
def test_the_estimate_is_right_within_some_percent(changed, tmp_path):
    given = micro(4, **changed)
    names = space("micro").statistics()
    cache = collect(given, names, tmp_path, workers=1)
    found = sum(f.stat().st_size for f in cache.path.rglob("*.*"))
    assert sum(estimate(given, names)) == pytest.approx(found, rel=0.12)
    assert sum(estimate(given, ["fc1.w"])) < 0.2 * found


@pytest.mark.parametrize("name", SPACES)
def test_every_space_can_be_estimated(name):
    arch = next(iter(space(name).enumerate()))
    (size,) = estimate(Recipe(name, (arch,), 10), space(name).statistics())
    weights = space(name).size(arch, 10).params
    assert size > 3 * 4 * 0.4 * weights


def test_a_space_without_a_formula_has_no_estimate():
    assert estimate(recipe(2), ALL) is None


def test_what_the_disk_cannot_hold_is_refused_before_anything_is_collected(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    module = sys.modules[estimate_function.__module__]
    need = sum(estimate(micro(6), ["fc1.g", "hidden.a"]))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 0, int(0.9 * need)))
    with pytest.raises(CacheError, match=r"of 6 networks need about \d.* MB, and .* MB free\. Choose another folder"):
        collect(micro(6), ["fc1.g", "hidden.a"], tmp_path, workers=1)
    assert not [f for f in tmp_path.rglob("*") if f.suffix != ".lock"], "nor is a directory left"
    collect(micro(6), ["hidden.g"], tmp_path / "other", workers=1)
    free = 1000 + sum(estimate(micro(6), ["fc2.g"]))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 0, free))
    with pytest.raises(CacheError, match="need about"):  # beside the largest file that it replaces
        collect(micro(6), ["fc2.g"], tmp_path / "other", workers=1)
    collect(micro(6), ["fc2.g"], tmp_path / "third", workers=1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 0, 2 * need))
    collect(micro(6), ["fc1.g", "hidden.a"], tmp_path, workers=1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 0, 0))
    assert collect(micro(6), ["fc1.g"], tmp_path).statistics == {"fc1.g", "hidden.a"}, "what is there needs no room"


FULL = """
import sys
from proxforge.stats_cache import CacheError, collect, estimate, verify
from toy_space import ALL, recipe
try:
    collect(recipe(24), ALL, sys.argv[1], workers=1)
except CacheError as error:
    print(error.message)
else:
    raise SystemExit("the disk is large enough")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux to mount a small disk")
def test_a_full_disk(tmp_path):
    """A disk of 300 KB, and what was collected on it continued on a larger one."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    (tmp_path / "full.py").write_text(FULL)
    script = (
        f"mount -t tmpfs -o size=300k tmpfs {disk} || exit 77\n"
        f"{sys.executable} {tmp_path}/full.py {disk} && cp -r {disk} {kept}"
    )
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip(f"no small disk can be mounted here: {run.stderr.strip()[:200]}")
    assert run.returncode == 0, run.stderr
    assert "cannot write network" in run.stdout
    assert "No space left on device" in run.stdout
    assert 0 < len(list(kept.rglob("*.safetensors"))) < 24
    assert not list(kept.rglob("*.tmp"))
    whole = collect(recipe(24), ALL, kept, workers=1)
    assert whole.statistics == set(ALL)
    assert whole.verify() == []


LITTLE = """
import resource, sys
from proxforge.grammar.canonical import canonical_pool
from proxforge.stats_cache import open_cache
from proxforge.vm.compile import compile_text
from proxforge.vm.evaluate import Evaluator
cache = open_cache(sys.argv[1])
formulas = ["layer_sum(sum(abs(fc1.w * fc1.g)))", "frobenius(fc2.w)", "mean(abs(hidden.a * hidden.g))"]
nodes = [compile_text(f, canonical_pool()).node for f in formulas]
Evaluator(cache, range(2), backend_name=sys.argv[3]).run(nodes)  # what is compiled once takes memory too
evaluator = Evaluator(cache, range(len(cache.networks)), backend_name=sys.argv[3])
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
result = evaluator.run(nodes)
print(*result.status[:3], len(set(result.scores[0])))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see the memory of a process")
def test_a_cache_larger_than_the_memory_limit_is_scored(tmp_path):
    """The address space left is smaller than the cache."""
    archs = tuple({"depth": 1 + i % 3, "width": 640 + 4 * i} for i in range(12))
    names = ["fc1.w", "fc1.g", "fc2.w", "hidden.a", "hidden.g"]
    cache = collect(replace(recipe(1), archs=archs), names, tmp_path, workers=1)
    limit = 144 << 20
    assert cache.bytes > 1.3 * limit
    for backend in ("reference", "cpu"):
        command = [sys.executable, "-c", LITTLE, str(cache.path), str(limit), backend]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-2000:]
        assert run.stdout == "0 0 0 12\n"


def test_a_reader_maps_nothing_where_memory_is_limited(tmp_path, monkeypatch):
    from proxforge.stats_cache import store

    given = {storage: recipe(6, storage=storage) for storage in ("float32", "float16")}
    paths = {storage: collect(r, ["fc1.w"], tmp_path, workers=1).path for storage, r in given.items()}
    for storage, path in paths.items():
        cache, free = open_cache(path), open_cache(path)
        views = [free.read(net, "fc1.w", 0) for net in range(6)]
        assert len(free._open) == 6
        with monkeypatch.context() as patch:
            patch.setattr(store, "room", lambda: 10**6)
            copies = [cache.read(net, "fc1.w", 0) for net in range(6)]
        assert not cache._open
        for view, copied in zip(views, copies, strict=True):
            np.testing.assert_array_equal(view, copied)
            assert not copied.flags.writeable
        assert (views[0].base is not None) == (storage == "float32")


def test_damage_is_found_where_nothing_is_mapped(tmp_path, monkeypatch):
    from proxforge.stats_cache import store

    path = collect(recipe(2), ["fc1.w"], tmp_path, workers=1).path
    file = path / "networks/0001.safetensors"
    data = bytearray(file.read_bytes())
    data[-60] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(store, "room", lambda: 10**6)
    cache = open_cache(path)
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged: the checksum of fc1.w/1 does not fit"):
        cache.read(1, "fc1.w", 1)
    unchecked = open_cache(path, checksums=False)
    assert unchecked.read(1, "fc1.w", 0).shape == (16, 8)
    monkeypatch.setattr(store, "_stamp", lambda _: (0, 0, 0))  # shorter since it was looked at
    unchecked._known[1] = ((0, 0, 0), *unchecked._known[1][1:])
    file.write_bytes(data[:600])
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged: it ends inside fc1.w/1"):
        unchecked.read(1, "fc1.w", 1)
