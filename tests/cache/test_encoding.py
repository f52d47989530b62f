"""Storage in 16 bits and sampled rows: rounded once, read as float32, described as they are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_space import ALL, recipe

from proxforge.stats_cache import CacheError, collect, open_cache, verify
from proxforge.stats_cache.encoding import decode, encode
from proxforge.stats_cache.facts import facts_of

HALVES = ("float16", "bfloat16")


def segment(scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(40, 30)) * scale).astype(np.float32)


def kept_and_read(x: np.ndarray, storage: str) -> np.ndarray:
    kept, exponent = encode(x, storage)
    assert kept.itemsize == 2
    return decode(kept, storage, exponent)


def test_float32_is_kept_as_it_is():
    x = segment()
    kept, exponent = encode(x, "float32")
    assert kept is x
    assert decode(kept, "float32", exponent) is x


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-30, 3e4, 1e30])
def test_both_halves_keep_their_digits_whatever_the_scale(scale):
    x = segment(scale)
    for storage, digits in (("float16", 2.0**-11), ("bfloat16", 2.0**-8)):
        again = kept_and_read(x, storage)
        assert again.dtype == np.float32
        large = np.abs(x) > np.abs(x).max() * 2.0**-13  # below, float16 has fewer digits
        assert np.max(np.abs(again - x)[large] / np.abs(x)[large]) <= digits
        assert np.abs(again - x).max() <= np.abs(x).max() * digits


def test_bfloat16_rounds_as_torch_does():
    special = [1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, 0.0, -0.0, 1e-45]
    x = np.concatenate([segment().ravel(), special]).astype(np.float32)[None]
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(kept_and_read(x, "bfloat16"), expected)


@pytest.mark.parametrize("storage", HALVES)
def test_what_is_not_finite_stays_so_and_zeros_stay_zero(storage):
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -3.0]], np.float32)
    again = kept_and_read(x, storage)
    np.testing.assert_array_equal(again[0, 1:], x[0, 1:])
    assert np.isnan(again[0, 0])
    zeros = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(kept_and_read(zeros, storage), zeros)
    assert kept_and_read(np.zeros((0, 3), np.float32), storage).shape == (0, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return collect(recipe(3), ALL, tmp_path_factory.mktemp("whole"), workers=1).path


@pytest.mark.parametrize("storage", HALVES)
def test_a_cache_in_sixteen_bits(storage, whole, tmp_path):
    exact, half = open_cache(whole), collect(recipe(3, storage=storage), ALL, tmp_path, workers=1)
    assert half.key != exact.key
    assert half.manifest.recipe.to_json()["storage"] == storage
    assert half.verify() == []
    for name in ALL:
        for layer in range(3):
            x, rounded = exact.read(2, name, layer), half.read(2, name, layer)
            assert rounded.dtype == np.float32
            assert not rounded.flags.writeable
            assert not np.array_equal(rounded, x)
            assert np.abs(rounded - x).max() <= np.abs(x).max() * 2.0**-8
            assert half.segments(2, name)[layer].to_json() == facts_of(rounded).to_json()
    sizes = [
        sum(x.nbytes for name, x in load_file(c.path / "networks/0002.safetensors").items() if "/" in name)
        for c in (exact, half)
    ]
    assert sizes[0] == 2 * sizes[1]


@pytest.mark.parametrize("storage", HALVES)
def test_others_can_read_the_halves(storage, tmp_path):
    half = collect(recipe(1, storage=storage), ["fc1.g", "qkv.w"], tmp_path, workers=1)
    file = half.path / "networks/0000.safetensors"
    raw, data = load_file(file), file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = header.pop("__metadata__")
    exponents = dict(zip(header, json.loads(about.get("exponents", "[0, 0]")), strict=False))
    assert (storage == "float16") == any(exponents.values())
    for name in ("fc1.g", "qkv.w"):
        found = raw[f"{name}/0"].float().numpy() * np.float32(2.0 ** exponents[f"{name}/0"])
        np.testing.assert_array_equal(found, half.read(0, name, 0))


@pytest.mark.parametrize("storage", HALVES)
def test_a_cache_in_sixteen_bits_grows_and_is_found_without_its_manifest(storage, tmp_path):
    given = recipe(3, storage=storage)
    at_once = collect(given, ALL, tmp_path / "one", workers=1)
    collect(given, ["fc1.g", "qkv.w"], tmp_path / "two", workers=1)
    grown = collect(given, ALL, tmp_path / "two", workers=1)
    (grown.path / "manifest.json").unlink()
    assert collect(given, ALL, tmp_path / "two", workers=1).verify() == []
    for file in at_once.path.rglob("*.*"):
        assert file.read_bytes() == (grown.path / file.relative_to(at_once.path)).read_bytes()


def test_rows_of_activations(whole, tmp_path):
    exact, few = open_cache(whole), collect(recipe(3, rows=5), ALL, tmp_path, workers=1)
    assert few.key != exact.key
    for layer in range(2):
        values, kept = exact.read(1, "hidden.a", layer), few.read(1, "hidden.a", layer)
        assert kept.shape == (5, values.shape[1])
        places = [int(np.flatnonzero((values == row).all(1))[0]) for row in kept]
        assert places == sorted(set(places))
        np.testing.assert_array_equal(exact.read(1, "hidden.g", layer)[places], few.read(1, "hidden.g", layer))
        for name in set(ALL) - {"hidden.a", "hidden.g"}:
            np.testing.assert_array_equal(exact.read(1, name, layer), few.read(1, name, layer))
    assert collect(recipe(3, rows=999), ["hidden.a"], tmp_path, workers=1).shape(0, "hidden.a", 0) == (12, 8)
    again = collect(recipe(3, rows=5, input_seed=1), ["hidden.a"], tmp_path, workers=1)
    assert not np.array_equal(again.read(0, "hidden.a", 0), few.read(0, "hidden.a", 0))


def test_a_storage_that_is_not_known():
    with pytest.raises(CacheError, match="storage of a recipe is 'float15'; did you mean 'float16'"):
        recipe(2, storage="float15")
    with pytest.raises(CacheError, match="rows of a recipe is 0; expected a whole number from 1"):
        recipe(2, rows=0)
    assert replace(recipe(2), storage="float32", rows=None).key == recipe(2).key


def test_one_flipped_bit_in_a_file_of_halves_is_found(tmp_path):
    path = collect(recipe(2, storage="float16"), ["fc1.g"], tmp_path, workers=1).path
    file = path / "networks/0001.safetensors"
    data = file.read_bytes()
    for position in (data.index(b"exponents") + 14, len(data) - 60, len(data) - 40, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        file.write_bytes(changed)
        assert [(p.file, p.kind) for p in verify(path)] == [("networks/0001.safetensors", "checksum")]
