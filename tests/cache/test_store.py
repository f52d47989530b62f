"""Reading a cache, and finding what is wrong with one."""

from __future__ import annotations

import json
import mmap
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toy_space import ALL, Toy, recipe

from proxforge.stats_cache import (
    Cache,
    CacheError,
    Network,
    StatFacts,
    collect,
    open_cache,
    store,
    tensorfile,
    verify,
)
from proxforge.stats_cache.facts import facts_of
from proxforge.stats_cache.gather import label
from proxforge.stats_cache.source import SegmentFacts

NETWORKS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return collect(recipe(NETWORKS), ALL, tmp_path_factory.mktemp("whole"), workers=1).path


@pytest.fixture
def path(whole, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


def found(path: Path) -> list[tuple[str, str]]:
    return [(problem.file, problem.kind) for problem in verify(path)]


def test_what_is_read(whole):
    cache = open_cache(whole)
    assert cache.statistics == set(ALL)
    assert cache.key == recipe(NETWORKS).key == whole.name
    assert cache.networks[1] == Network(1, {"depth": 2, "width": 8}, Toy().size({"depth": 2, "width": 8}), 2)
    assert cache.shape(1, "qkv.w", 1) == (24, 8)
    assert cache.shape(1, "hidden.a", 0) == (12, 16)
    assert cache.bytes == sum(f.stat().st_size for f in whole.glob("networks/*"))
    assert cache.verify() == []
    for network in cache.networks:
        tensors = load_file(whole / f"networks/{network.index:04d}.safetensors")
        assert len(tensors) == len(ALL) * network.layers + 2
        for name in ALL:
            for layer in range(network.layers):
                segment = cache.read(network.index, name, layer)
                np.testing.assert_array_equal(segment, tensors[f"{name}/{layer}"])
                assert segment.dtype == np.float32
                assert segment.shape == cache.shape(network.index, name, layer)


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_the_reader_of_the_format_page_reads(storage, tmp_path):
    cache = collect(recipe(2, storage=storage), ["fc1.w", "fc2.v", "hidden.g"], tmp_path, workers=1)
    page = Path(store.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], names)
    for name in cache.statistics:
        np.testing.assert_array_equal(names["read"](cache.path, 1, name, 1), cache.read(1, name, 1))


def test_a_segment_is_a_mapped_view_that_nobody_can_write_to(whole):
    segment = base = open_cache(whole).read(0, "fc1.w", 0)
    with pytest.raises(ValueError, match="read-only"):
        segment[0, 0] = 1
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def test_few_files_stay_open_and_a_held_view_stays_valid(whole, monkeypatch):
    monkeypatch.setattr(store, "OPEN_FILES", 1)
    cache = open_cache(whole)
    views = [cache.read(net, "fc1.w", 0) for net in (0, 1, 2, 0)]
    assert list(cache._open) == [0]
    np.testing.assert_array_equal(views[0], views[3])
    np.testing.assert_array_equal(views[1], open_cache(whole).read(1, "fc1.w", 0))


def test_facts_are_those_of_the_elements(whole):
    cache = open_cache(whole)
    for name in ALL:
        for nets in (range(NETWORKS), [1]):
            flat = np.concatenate(
                [cache.read(n, name, i).ravel() for n in nets for i in range(cache.networks[n].layers)]
            )
            facts = cache.facts(name, 1 if nets == [1] else None)
            assert facts == StatFacts(float(flat.min()), float(flat.max()), int((flat == 0).sum()), 0, flat.size)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([[0.0, -2.0], [5.0, -0.0]], StatFacts(-2.0, 5.0, 2, 0, 4)),
        ([[np.nan, 1.0, 0.0]], StatFacts(0.0, 1.0, 1, 1, 3)),
        ([[np.inf, 1.0, -np.inf]], StatFacts(1.0, 1.0, 0, 2, 3)),
        ([[np.nan]], StatFacts(None, None, 0, 1, 1)),
        (np.zeros((0, 3)), StatFacts(None, None, 0, 0, 0)),
    ],
)
def test_facts_count_what_is_not_finite_apart(values, facts):
    assert facts_of(np.array(values, np.float32)).range == facts
    both = StatFacts.joined([facts, StatFacts(-9.0, 9.0, 1, 2, 3)])
    assert both == StatFacts(-9.0, 9.0, facts.zeros + 1, facts.nonfinite + 2, facts.elements + 3)


def test_moments_and_witnesses_are_those_of_the_elements(whole):
    cache = open_cache(whole)
    for name in ALL:
        for layer, facts in enumerate(cache.segments(1, name)):
            x = cache.read(1, name, layer)
            wide = x.astype(np.float64)
            assert (facts.rows, facts.cols) == x.shape
            assert facts.above == (x[x > 0].min() if (x > 0).any() else None)
            assert facts.below == (x[x < 0].max() if (x < 0).any() else None)
            assert facts.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-15)
            assert facts.std == pytest.approx(wide.std(ddof=1), rel=1e-12)
            assert facts.mean_abs == pytest.approx(np.abs(wide).mean(), rel=1e-12)
            places = [int((k * 0.6180339887498949) % 1.0 * x.size) for k in range(1, 9)]  # FORMAT.md
            assert facts.witnesses == tuple(x.ravel()[places].tolist())


@pytest.mark.parametrize("values", [[[np.nan, 1.0]], [[2.0]], np.zeros((0, 3)), [[np.inf, -np.inf], [1.0, 0.0]]])
def test_the_facts_of_a_segment_survive_json(values):
    facts = facts_of(np.array(values, np.float32))
    again = SegmentFacts.from_json(json.loads(json.dumps(facts.to_json(), allow_nan=False)))
    finite = tuple(w if np.isfinite(w) else None for w in facts.witnesses)
    assert tuple(w if np.isfinite(w) else None for w in again.witnesses) == finite
    assert replace(again, witnesses=()) == replace(facts, witnesses=())
    assert (facts.mean is None) == (facts.nonfinite > 0 or not np.size(values))


def test_what_there_is_not_is_named(whole):
    cache = open_cache(whole)
    for arguments, message in (
        ((9, "qkv.w", 0), "networks 0 to 2; network 9"),
        ((-1, "qkv.w", 0), "network -1"),
        ((0, "qkv.x", 0), "'qkv.x' was not collected for network 0 .*did you mean 'qkv"),
        ((0, "qkv.w", 5), "layers 0 to 0; layer 5"),
    ):
        with pytest.raises(CacheError, match=message):
            cache.read(*arguments)


def test_an_interrupted_cache_can_be_looked_at(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done == 2:
            raise StopError

    from proxforge.stats_cache import collect as function

    module = sys.modules[function.__module__]
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_SAVE_SHARE", float("inf"))
    with pytest.raises(StopError):
        collect(recipe(NETWORKS), ["fc1.w"], tmp_path, workers=1, progress=stop)
    cache = open_cache(tmp_path / recipe(NETWORKS).key)
    assert cache.statistics == set()
    info = cache.info()
    assert (info["networks"], info["collected"], info["complete"]) == (3, 2, False)
    assert json.loads(json.dumps(info)) == info
    missing = [i for i, entry in enumerate(cache.manifest.stored) if entry is None]
    with pytest.raises(CacheError, match=rf"network {missing[0]} .* not collected yet"):
        cache.read(missing[0], "fc1.w", 0)
    assert found(cache.path) == [(f"networks/{missing[0]:04d}.safetensors", "incomplete")]


def test_a_reader_outlives_an_extension(tmp_path):
    cache = collect(recipe(NETWORKS), ["fc1.w"], tmp_path, workers=1)
    kept = cache.read(0, "fc1.w", 0).copy()
    late = open_cache(cache.path)
    collect(recipe(NETWORKS), ["qkv.w"], tmp_path, workers=1)
    np.testing.assert_array_equal(cache.read(0, "fc1.w", 0), kept)
    np.testing.assert_array_equal(late.read(0, "fc1.w", 0), kept)
    with pytest.raises(CacheError, match="not collected"):
        late.read(0, "qkv.w", 0)


def test_one_flipped_byte_anywhere_is_found_and_named(path):
    rng = random.Random(0)
    for file in sorted(f for f in path.rglob("*") if f.is_file()):
        data = file.read_bytes()
        positions = [0, 7, 8, 100, len(data) - 33, len(data) - 1, *(rng.randrange(len(data)) for _ in range(40))]
        for position in positions:
            changed = bytearray(data)
            changed[position] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
            kind = "manifest" if file.name == "manifest.json" else "checksum"
            assert found(path) == [(file.relative_to(path).as_posix(), kind)], position
        file.write_bytes(data)
    assert found(path) == []


def test_one_flipped_byte_is_found_without_a_manifest(path):
    (path / "manifest.json").unlink()
    rng, file = random.Random(1), path / "networks/0001.safetensors"
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for position in [
        *(rng.randrange(header) for _ in range(60)),
        *(rng.randrange(header, len(data)) for _ in range(20)),
    ]:
        changed = bytearray(data)
        changed[position] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(CacheError, match=r"0001.safetensors is damaged: .* Delete this file and collect again"):
            collect(recipe(NETWORKS), ALL, path.parent)
    file.write_bytes(data)
    assert collect(recipe(NETWORKS), ALL, path.parent).verify() == []


def test_what_happened_to_a_file_is_told(path):
    first, second, third = (path / f"networks/000{i}.safetensors" for i in range(3))
    second.write_bytes(second.read_bytes()[:-1])
    first.unlink()
    (path / "networks/0003.safetensors").write_bytes(b"")
    (path / "notes.txt").write_text("mine")
    assert found(path) == [
        ("networks/0000.safetensors", "missing"),
        ("networks/0001.safetensors", "truncated"),
        ("networks/0003.safetensors", "foreign"),
        ("notes.txt", "foreign"),
    ]
    cache = open_cache(path)
    with pytest.raises(CacheError, match=r"0000.safetensors is missing; collect again"):
        cache.read(0, "qkv.w", 0)
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged: it has \d+ bytes; its header says"):
        cache.read(1, "qkv.w", 0)
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged"):
        collect(recipe(NETWORKS), ALL, path.parent)
    shutil.copy(third, second)
    with pytest.raises(CacheError, match=r"0001.safetensors is damaged: it belongs elsewhere"):
        cache.read(1, "qkv.w", 0)
    for size in (0, 5, 50):
        second.write_bytes(third.read_bytes()[:size])
        with pytest.raises(CacheError, match=r"0001.safetensors is damaged: it ends after"):
            cache.read(1, "qkv.w", 0)


def test_checksums_on_first_use(path):
    file = path / "networks/0001.safetensors"
    data = bytearray(file.read_bytes())
    data[-32 - 4 * 2 * len(ALL) - 1] ^= 1  # the last segment: qkv.w of the last layer
    file.write_bytes(data)
    open_cache(path, checksums=False).read(1, "qkv.w", 1)
    cache = open_cache(path)
    cache.read(1, "qkv.w", 0)
    for _ in range(2):
        with pytest.raises(CacheError, match=r"0001.safetensors is damaged: the checksum of qkv.w/1 does not"):
            cache.read(1, "qkv.w", 1)


def test_a_checksum_is_compared_once(path, monkeypatch):
    cache, counted = open_cache(path), []
    crc = store.crc
    monkeypatch.setattr(store, "crc", lambda tensor: counted.append(1) or crc(tensor))
    for _ in range(3):
        cache.read(0, "qkv.w", 0)
    assert len(counted) == 1


def test_a_file_that_is_replaced_while_a_segment_is_checked_is_checked_anew(path, monkeypatch):
    file, cache, crc = path / "networks/0001.safetensors", open_cache(path), store.crc
    data = bytearray(file.read_bytes())
    data[-32 - 4 * 2 * len(ALL) - 1] ^= 1  # the last segment: qkv.w of the last layer
    replaced = []

    def meanwhile(tensor):
        if not replaced:
            replaced.append(file.with_suffix(".new").write_bytes(data))
            file.with_suffix(".new").replace(file)
            cache.read(0, "qkv.w", 0)  # now network 1 is opened anew
            cache.read(1, "qkv.w", 0)
        return crc(tensor)

    monkeypatch.setattr(store, "OPEN_FILES", 1)
    monkeypatch.setattr(store, "crc", meanwhile)
    cache.read(1, "qkv.w", 1)
    with pytest.raises(CacheError, match=r"the checksum of qkv.w/1 does not"):
        cache.read(1, "qkv.w", 1)


def test_every_flipped_byte_of_a_header_is_found_when_the_file_is_read(path):
    file = path / "networks/0000.safetensors"
    data = file.read_bytes()
    rng = random.Random(2)
    for position in range(rng.randrange(3), 8 + int.from_bytes(data[:8], "little"), 3):
        changed = bytearray(data)
        changed[position] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(CacheError, match=r"0000.safetensors is damaged"):
            open_cache(path).read(0, "qkv.w", 0)


def test_a_file_with_other_content_is_not_extended(tmp_path):
    cache = collect(recipe(NETWORKS), ["fc1.g"], tmp_path, workers=1)
    file = cache.path / "networks/0000.safetensors"
    tensorfile.write(file, {"fc1.g/0": 2 * cache.read(0, "fc1.g", 0)}, label(cache.key, 0))
    assert found(cache.path) == [("networks/0000.safetensors", "checksum")]
    with pytest.raises(CacheError, match=r"0000.safetensors is damaged: its checksum is not that of the manifest"):
        collect(recipe(NETWORKS), ["qkv.w"], tmp_path, workers=1)


def test_a_damaged_file_is_not_extended(tmp_path):
    cache = collect(recipe(NETWORKS), ["fc1.w"], tmp_path, workers=1)
    file = cache.path / "networks/0002.safetensors"
    data = bytearray(file.read_bytes())
    data[-60] ^= 1
    file.write_bytes(data)
    with pytest.raises(CacheError, match=r"0002.safetensors is damaged: the checksum of fc1.w/2 does not fit"):
        collect(recipe(NETWORKS), ["qkv.w"], tmp_path, workers=1)
    file.unlink()
    assert collect(recipe(NETWORKS), ["qkv.w"], tmp_path, workers=1).verify() == []


def test_what_is_no_cache_is_told(tmp_path, path):
    with pytest.raises(CacheError, match=r"is not a cache: it has no manifest.json"):
        open_cache(tmp_path / "nowhere")
    (path / "manifest.json").write_bytes(b"\xff")
    with pytest.raises(CacheError, match=r"manifest.json is damaged: .*Delete this file and collect again"):
        open_cache(path)


def test_opening_a_cache_loads_no_torch(whole):
    code = (
        "import sys; from proxforge.stats_cache import open_cache; c = open_cache(sys.argv[1])\n"
        "assert c.verify() == [] and c.read(0, 'qkv.w', 0).size and 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(whole)], check=True, cwd=root)


def test_the_types_are_one_interface(whole):
    from proxforge.stats_cache import Source

    def take(source: Source) -> int:
        return len(source.networks) + sum(source.shape(0, "fc1.w", 0)) + source.facts("fc1.w").elements

    cache: Cache = open_cache(whole)
    assert take(cache) == 3 + 8 + 4 + cache.facts("fc1.w").elements
