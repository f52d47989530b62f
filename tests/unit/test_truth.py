"""Benchmarks: the official files read safely, their errors, splits and recipes."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proxforge.bench.truth.base import BENCHMARKS, Benchmark, DataError, load_benchmark
from proxforge.grammar.errors import ProxforgeError

PIT = {"base_dim": 24, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}
SUB = {"hidden_dim": 192, "mlp_ratio": [4.0] * 12, "depth": 12, "num_heads": [3] * 12}


def entry(**changes: Any) -> dict[str, Any]:
    return {"arch": PIT, "c100_base_acc": 70.5, "c100_kd_acc": 75, "flower_kd_acc": None} | changes


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves an object as gt_pit.pth and gives its folder."""

    def save(content: Any) -> Path:
        torch.save(content, tmp_path / "gt_pit.pth")
        return tmp_path

    return save


def refused(data: Path | str | None, name: str = "vit-bench-101/pit") -> str:
    with pytest.raises(ProxforgeError) as caught:
        load_benchmark(name, data)
    assert caught.value.kind == "data"
    assert len(caught.value.message) < 500
    return caught.value.message


def test_official_autoformers(data_dir: Path) -> None:
    loaded = load_benchmark("vit-bench-101/autoformer", data_dir / "vit_bench_101")
    assert (loaded.name, loaded.space, len(loaded)) == ("vit-bench-101/autoformer", "autoformer-sub", 100)
    assert list(loaded.targets) == [
        *("c100_base", "c100_kd", "flower_base", "flower_kd", "chaoyang_base", "chaoyang_kd", "imagenet_super")
    ]
    assert loaded.default_targets == ("c100_kd", "flower_kd", "chaoyang_kd")
    assert loaded.targets["imagenet_super"][0] == 74.64400003
    assert loaded.targets["flower_kd"].min() == pytest.approx(48.6, abs=0.05)  # the outlier of the official file
    assert all(5.10e6 <= size.params <= 9.98e6 and size.depth in (12, 13, 14) for size in loaded.sizes)


def test_official_pits(data_dir: Path) -> None:
    loaded = load_benchmark("vit-bench-101/pit", str(data_dir))  # the folder above
    assert (loaded.space, len(loaded)) == ("pit", 60)
    assert loaded.archs[0] == {"base_dim": 32, "mlp_ratio": 4, "depth": [1, 6, 6], "num_heads": [2, 8, 8]}
    assert set(loaded.targets) == {f"{data}_{how}" for data in ("c100", "flower", "chaoyang") for how in ("base", "kd")}
    assert loaded.targets["chaoyang_kd"][-1] == 84.245
    assert all(12 <= size.depth <= 14 for size in loaded.sizes)


def test_none_is_not_measured_for_that_target_alone(write: Callable[[Any], Path]) -> None:
    loaded = load_benchmark("vit-bench-101/pit", write([entry(), entry(c100_kd_acc=None, flower_kd_acc=60.0)]))
    np.testing.assert_array_equal(loaded.targets["c100_kd"], [75, np.nan])
    np.testing.assert_array_equal(loaded.targets["flower_kd"], [np.nan, 60])
    np.testing.assert_array_equal(loaded.targets["c100_base"], [70.5, 70.5])
    assert all(values.dtype == np.float64 and not values.flags.writeable for values in loaded.targets.values())


def test_data_folder_of_the_environment(write: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write([entry(), entry()])
    monkeypatch.setenv("PROXFORGE_DATA", str(folder))
    assert len(load_benchmark("vit-bench-101/pit")) == 2
    inner = folder / "vit_bench_101"
    inner.mkdir()
    (folder / "gt_pit.pth").rename(inner / "gt_pit.pth")
    assert len(load_benchmark("vit-bench-101/pit")) == 2
    monkeypatch.setenv("PROXFORGE_DATA", str(folder / "elsewhere"))
    assert len(load_benchmark("vit-bench-101/pit", folder)) == 2  # what is given goes first
    assert "PROXFORGE_DATA names" in refused(None)
    for unset in ("", None):
        monkeypatch.delenv("PROXFORGE_DATA") if unset is None else monkeypatch.setenv("PROXFORGE_DATA", unset)
        message = refused(None)
        assert "gt_pit.pth" in message
        assert "--data" in message
        assert "PROXFORGE_DATA" in message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert str(tmp_path) in message
    assert "gt_pit.pth" in message
    assert "which is not there" in refused(tmp_path / "nowhere")
    (tmp_path / "gt_pit.pth").write_bytes(b"")
    assert "which is a file; expected the folder that holds gt_pit.pth" in refused(tmp_path / "gt_pit.pth")
    assert "gt_autoformer.pth" in refused(tmp_path, "vit-bench-101/autoformer")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"hello, world\n" * 9, b"<html>404</html>", bytes(4096), pickle.dumps([{"arch": PIT}])],
    ids=["empty", "header", "text", "html", "zeros", "pickle"],
)
def test_no_file_of_torch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gt_pit.pth").write_bytes(content)
    message = refused(tmp_path)
    assert str(tmp_path / "gt_pit.pth") in message
    assert "is damaged or no file of torch.save" in message


def test_every_truncation_and_flipped_byte_is_found(write: Callable[[Any], Path]) -> None:
    """A flip that changes no value (in the archive's own padding) may pass, but then nothing may be different."""
    folder = write([entry(), entry(c100_kd_acc=76.25)])
    path = folder / "gt_pit.pth"
    intact = path.read_bytes()
    values = load_benchmark("vit-bench-101/pit", folder).targets
    rng = random.Random(0)
    for cut in [0, 1, 30, len(intact) - 1, *(rng.randrange(len(intact)) for _ in range(40))]:
        path.write_bytes(intact[:cut])
        refused(folder)
    found = 0
    for _ in range(400):
        damaged = bytearray(intact)
        damaged[rng.randrange(len(intact))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            again = load_benchmark("vit-bench-101/pit", folder).targets
        except DataError:
            found += 1
        else:
            np.testing.assert_equal(dict(again), dict(values))
    assert found > 100


class Payload:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_does_not_run(write: Callable[[Any], Path], tmp_path: Path) -> None:
    message = refused(write([entry(arch=Payload(tmp_path / "ran"))]))
    assert "could run code" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "it holds a dict; expected a list of dicts"),
        ([], "its list is empty"),
        ((entry(),), "it holds a tuple"),
        ([entry(), 5], "entry 1 is 5"),
        ([{"c100_kd_acc": 1.0}], "entry 0 has no key 'arch'"),
        ([{"arch": PIT}], "entry 0 has no accuracy"),
        ([entry(), entry(arch=SUB)], "entry 1 is not a network of pit: unknown gene 'hidden_dim'"),
        ([entry(arch={**PIT, "base_dim": 4000})], "gene 'base_dim' is 4000; allowed"),
        ([entry(arch=None)], "entry 0 is not a network of pit"),
        ([entry(), {"arch": PIT, "c100_kd_acc": 1.0}], "entry 1 has other accuracies than entry 0"),
        ([entry(c100_kd_acc="75")], "'c100_kd_acc' of entry 0 is '75'"),
        ([entry(c100_kd_acc=True)], "'c100_kd_acc' of entry 0 is True"),
        ([entry(c100_kd_acc=float("nan"))], "'c100_kd_acc' of entry 0 is nan"),
        ([entry(c100_kd_acc=float("inf"))], "'c100_kd_acc' of entry 0 is inf"),
        ([entry(c100_kd_acc=-1)], "'c100_kd_acc' of entry 0 is -1"),
        ([entry(c100_kd_acc=2**200)], "'c100_kd_acc' of entry 0 is an integer of 201 bits"),
        (torch.zeros(3), "holds something else than plain lists, dicts and numbers"),
        ([entry(c100_kd_acc=torch.tensor(75.0))], "holds something else than plain lists, dicts and numbers"),
    ],
)
def test_wrong_structure(write: Callable[[Any], Path], content: Any, message: str) -> None:
    folder = write(content)
    assert message in refused(folder)
    assert str(folder / "gt_pit.pth") in refused(folder)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "gt_pit.pth").mkdir()
    assert "holds gt_pit.pth" in refused(tmp_path)


def test_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(ProxforgeError, match=r"'vit-bench-101/pits'; did you mean 'vit-bench-101/pit'\?"):
        load_benchmark("vit-bench-101/pits")
    with pytest.raises(ProxforgeError, match=r"known: digits, .*; or a file \.csv, \.csv\.gz, \.json"):
        load_benchmark("digits.xlsx")


def test_digits_needs_no_folder(tmp_path: Path) -> None:
    assert "digits is part of the package" in refused(tmp_path, "digits")


def test_digits() -> None:
    loaded = load_benchmark("digits")
    assert loaded.space == "micro"
    assert len(loaded) >= 120
    assert len(loaded.targets) >= 3
    assert loaded.default_targets == tuple(loaded.targets)
    assert all(loaded.noise_ceiling[target] >= 0.6 for target in loaded.targets)
    recipe = loaded.recipe()
    assert (recipe.batch, recipe.classes, recipe.seed, recipe.input) == (16, 10, 0, "noise")


def test_every_benchmark_has_a_loader(tmp_path: Path) -> None:
    for name in BENCHMARKS:
        refused(tmp_path / "nowhere", name)


def test_recipe(write: Callable[[Any], Path]) -> None:
    loaded = load_benchmark("vit-bench-101/pit", write([entry(), entry()]))
    recipe = loaded.recipe()
    assert (recipe.space, recipe.classes, recipe.batch, recipe.seed, recipe.input_seed) == ("pit", 100, 2, 0, 0)
    assert recipe.archs == loaded.archs == (PIT, PIT)
    assert recipe == recipe.normal()
    other = loaded.recipe(seed=3, batch=5, input_seed=7)
    assert (other.seed, other.batch, other.input_seed) == (3, 5, 7)


def benchmark(count: int) -> Benchmark:
    targets = {"a": np.arange(float(count)), "b": np.zeros(count)}
    return Benchmark("test", "pit", (PIT,) * count, targets, ("a",), classes=100, batch=2)


def test_split_is_seeded_sorted_and_complete() -> None:
    search, test = benchmark(100).split(0)
    assert (len(search), len(test)) == (60, 40)
    assert sorted([*search, *test]) == list(range(100))
    for part in (search, test):
        assert (np.diff(part) > 0).all()
    again = benchmark(100).split(0)
    np.testing.assert_array_equal(search, again[0])
    assert not np.array_equal(search, benchmark(100).split(1)[0])
    assert not np.array_equal(search, np.arange(60))
    assert [len(part) for part in benchmark(10).split(3, 0.25)] == [2, 8]


@pytest.mark.parametrize(
    ("count", "share"), [(100, 0.0), (100, 1.0), (100, 0.001), (3, 0.6), (100, -2), (9, float("nan"))]
)
def test_split_needs_two_networks_in_each_part(count: int, share: float) -> None:
    with pytest.raises(ProxforgeError, match="fewer than two") as caught:
        benchmark(count).split(0, share)
    assert caught.value.kind == "config"


def test_split_seed_is_not_negative() -> None:
    with pytest.raises(ProxforgeError, match="the split seed is -1"):
        benchmark(10).split(-1)


def test_targets_fit_the_networks() -> None:
    with pytest.raises(DataError, match=r"target 'a' of test has shape \(3,\), expected one value for each of the 2"):
        Benchmark("test", "pit", (PIT,) * 2, {"a": np.zeros(3)}, (), classes=100, batch=2)
    with pytest.raises(DataError, match="test has no target 'z', only a"):
        Benchmark("test", "pit", (PIT,) * 3, {"a": np.zeros(3)}, ("z",), classes=100, batch=2)
