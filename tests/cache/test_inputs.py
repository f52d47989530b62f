"""Batches of images that are given: folders, files, labels; part of the recipe, kept in the cache."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from toy_space import ALL, recipe

from proxforge.grammar.errors import ProxforgeError
from proxforge.stats_cache import Batch, CacheError, collect, open_cache, read_batch, verify
from proxforge.stats_cache.inputs import GREY, MEAN, STD
from proxforge.stats_cache.manifest import INPUT

TAKEN = {"channels": 3, "side": 8, "classes": 5}


def random_batch(count: int = 3, channels: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(rng.normal(size=(count, channels, 8, 8)), rng.integers(5, size=count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of one colour each, in three sub-folders, 12 x 8 pixels with a black frame at the left and right."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for label, name in enumerate(("ants", "bees", "cats")):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.zeros((8, 12, 3), np.uint8)
            pixels[:, 2:10] = (40 * label, 20 * i, 200)
            image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_of_images(folder):
    batch = read_batch(folder, count=6, **TAKEN)
    assert batch.images.shape == (6, 3, 8, 8)
    assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for i, label in enumerate(batch.labels):
        pixel = (np.array([40 * label, 20 * (i % 2), 200]) / 255 - MEAN) / STD
        np.testing.assert_allclose(batch.images[i].mean((1, 2)), pixel, rtol=1e-5)
        assert batch.images[i].std() == pytest.approx(pixel.std(), rel=1e-5), "the frame is cut off"


def test_grey_images_of_another_size(folder):
    batch = read_batch(folder, count=6, channels=1, side=16, classes=5)
    assert batch.images.shape == (6, 1, 16, 16)
    grey = (0.299 * 40 + 0.587 * 20 + 0.114 * 200) / 255
    assert batch.images[3, 0, 8, 8] == pytest.approx((grey - GREY[0]) / GREY[1], abs=0.01)


def test_which_images_and_labels_says_the_seed(folder):
    few, again, other = (read_batch(folder, count=3, seed=seed, **TAKEN) for seed in (0, 0, 1))
    assert few.name == again.name != other.name
    shutil.copy(folder / "ants" / "0.png", folder / "loose.png")  # now not all lie in folders: labels are drawn
    drawn = [read_batch(folder, count=7, seed=seed, **TAKEN).labels.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    (folder / "loose.png").unlink()
    narrow = read_batch(folder, count=6, channels=3, side=8, classes=2)
    assert set(narrow.labels.tolist()) <= {0, 1}, "three folders are more than two classes"


def test_files_of_tensors(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(9, 3, 8, 8)).astype(np.float32), np.arange(9) % 5
    np.save(tmp_path / "a.npy", images)
    save_file({"images": images, "labels": labels}, tmp_path / "b.safetensors")
    save_file({"pictures": images}, tmp_path / "c.safetensors")
    plain = read_batch(tmp_path / "a.npy", count=9, **TAKEN)
    given = read_batch(tmp_path / "b.safetensors", count=9, **TAKEN)
    np.testing.assert_array_equal(plain.images, images)
    np.testing.assert_array_equal(given.labels, labels)
    assert plain.name != given.name
    some = read_batch(tmp_path / "b.safetensors", count=4, **TAKEN)
    for image, label in zip(some.images, some.labels, strict=True):
        (place,) = np.flatnonzero((images == image).all((1, 2, 3)))
        assert labels[place] == label
    for file, message in (
        ("c.safetensors", "has no tensor 'images'; it has pictures"),
        ("none.npy", "cannot read .*none.npy"),
        ("a.txt", "is no folder of images and no file of tensors"),
    ):
        with pytest.raises(CacheError, match=message):
            read_batch(tmp_path / file, count=1, **TAKEN)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(CacheError, match="cannot read"):
        read_batch(tmp_path / "broken.safetensors", count=1, **TAKEN)
    with pytest.raises(CacheError, match="holds 9 images; 10 are wanted"):
        read_batch(tmp_path / "a.npy", count=10, **TAKEN)
    with pytest.raises(CacheError, match=r"are \[9, 3, 8, 8\]; expected \[n, 3, 16, 16\]"):
        read_batch(tmp_path / "a.npy", count=9, channels=3, side=16, classes=5)
    with pytest.raises(CacheError, match="a label given is 4; the networks have the classes 0 to 3"):
        read_batch(tmp_path / "b.safetensors", count=9, channels=3, side=8, classes=4)
    np.save(tmp_path / "flat.npy", images.reshape(9, -1))
    with pytest.raises(CacheError, match=r"images are float32 \[9, 192\]; expected"):
        read_batch(tmp_path / "flat.npy", count=9, **TAKEN)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, int), r"images are uint8 \[2, 3, 8, 8\]; expected floats"),
        (np.zeros((2, 3, 8, 9)), np.zeros(2, int), r"expected floats \[n, channels, side, side\]"),
        (np.zeros((0, 3, 8, 8)), np.zeros(0, int), "expected floats"),
        (np.zeros((2, 3, 8, 8)), np.zeros(3, int), r"labels are int64 \[3\]; expected whole numbers \[2\]"),
        (np.zeros((2, 3, 8, 8)), np.zeros(2), "labels are float64"),
        (np.full((2, 3, 8, 8), np.nan), np.zeros(2, int), "a pixel that is not finite"),
        (np.zeros((2, 3, 8, 8)), np.array([0, -1]), "a label below 0"),
    ],
)
def test_what_is_no_batch(images, labels, message):
    with pytest.raises(CacheError, match=message):
        Batch(images, labels)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ProxforgeError, match=r"pip install 'proxforge\[images\]'") as caught:
        read_batch(folder, count=2, **TAKEN)
    assert caught.value.kind == "missing"


def test_a_file_that_is_no_image(folder):
    (folder / "ants" / "0.png").write_bytes(b"not an image")
    with pytest.raises(CacheError, match=r"cannot read the image .*0\.png"):
        read_batch(folder, count=6, **TAKEN)


def test_a_cache_of_given_images_is_keyed_by_them_and_keeps_them(tmp_path):
    batch, other = random_batch(), Batch(random_batch().images + 1, random_batch().labels)
    given = recipe(3, input=batch.name)
    cache = collect(given, ["fc1.g"], tmp_path, data=batch, workers=1)
    assert cache.key != recipe(3).key != recipe(3, input=other.name).key != cache.key
    assert cache.verify() == []
    np.testing.assert_array_equal(Batch.read(cache.path / INPUT, batch.name).images, batch.images)
    whole = collect(given, ALL, tmp_path, workers=2)
    assert whole.statistics == set(ALL), "the batch lies in the cache: it is not given again"
    at_once = collect(given, ALL, tmp_path / "other", data=batch, workers=1)
    for file in at_once.path.rglob("*.*"):
        assert file.read_bytes() == (whole.path / file.relative_to(at_once.path)).read_bytes()


def test_the_given_images_are_those_that_are_used(tmp_path):
    from proxforge.stats_cache.noise import noise

    images, labels = (t.numpy() for t in noise(3, 2, 8, 5, seed=11))
    given = collect(recipe(2, input=Batch(images, labels).name), ALL, tmp_path, data=Batch(images, labels), workers=1)
    made = collect(recipe(2, input_seed=11), ALL, tmp_path, workers=1)
    for name in ALL:
        np.testing.assert_array_equal(given.read(1, name, 0), made.read(1, name, 0))


def test_another_batch_than_the_recipe_names_is_refused(tmp_path):
    batch = random_batch()
    for changed, data, message in (
        ({"input": batch.name}, None, "give the batch 'data:"),
        ({"input": "data:" + 20 * "0"}, batch, "the recipe wants 3 images, 'data:0000"),
        ({"input": batch.name, "batch": 4}, batch, "the recipe wants 4 images"),
        ({"input": batch.name, "classes": 2}, batch, "a label given is"),
        ({"input": random_batch(3, 3).name}, random_batch(3, 3), r"expected \[n, 2, 8, 8\]"),
    ):
        with pytest.raises(CacheError, match=message):
            collect(recipe(2, **changed), ["fc1.g"], tmp_path, data=data, workers=1)
    with pytest.raises(CacheError, match="input of a recipe is 'data:12'"):
        recipe(2, input="data:12")


def test_a_damaged_batch_is_found(tmp_path):
    batch = random_batch()
    path = collect(recipe(2, input=batch.name), ["fc1.g"], tmp_path, data=batch, workers=1).path
    data = (path / INPUT).read_bytes()
    for position in (200, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        (path / INPUT).write_bytes(changed)
        assert [(p.file, p.kind) for p in verify(path)] == [(INPUT, "checksum")]
        with pytest.raises(CacheError, match=r"input.safetensors is damaged"):
            collect(recipe(2, input=batch.name), ["fc2.g"], tmp_path, workers=1)
    (path / INPUT).unlink()
    assert [(p.file, p.kind) for p in verify(path)] == [(INPUT, "missing")]
    collect(recipe(2, input=batch.name), ["fc2.g"], tmp_path, data=batch, workers=1)
    assert open_cache(path).verify() == []
