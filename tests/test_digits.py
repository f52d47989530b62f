"""The embedded benchmark ``digits``: what ships, and that it can be made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from proxforge.bench.truth import digits, recipe, train
from proxforge.bench.truth.digits import DigitsTruth, load_digits_truth, noise_ceiling, parse_digits_truth
from proxforge.bench.truth.recipe import TARGETS, DigitsRecipe, Schedule, architectures, load_data
from proxforge.bench.truth.train import train_digits
from proxforge.grammar.errors import ProxforgeError
from proxforge.stats_cache.spaces.micro import MicroSpace

SHORT = Schedule(steps=2, batch=10, lr=0.01, warmup=1, weight_decay=0.0)
QUICK = DigitsRecipe(columnar=3, pyramid=2, full=SHORT, low=SHORT, kd=SHORT, teacher=SHORT)


@pytest.fixture(scope="module")
def truth() -> DigitsTruth:
    return load_digits_truth()


def recorded_recipe(truth: DigitsTruth) -> DigitsRecipe:
    nested = {name: Schedule(**value) for name, value in truth.about["recipe"].items() if isinstance(value, dict)}
    return DigitsRecipe(**{**truth.about["recipe"], **nested})


# What ships


def test_shipped_networks_are_those_of_the_recipe(truth: DigitsTruth) -> None:
    assert recorded_recipe(truth) == DigitsRecipe()
    assert list(truth.archs) == architectures(DigitsRecipe())
    assert len({json.dumps(arch) for arch in truth.archs}) == len(truth.archs) >= 120
    assert all(MicroSpace().check(arch) == arch for arch in truth.archs)
    assert {arch["family"] for arch in truth.archs} == {"columnar", "pyramid"}


def test_shipped_accuracies_are_counts_of_test_images(truth: DigitsTruth) -> None:
    assert set(truth.targets) == set(TARGETS)
    assert truth.about["seeds"] == list(range(1, train.SEEDS + 1))
    for target, values in truth.per_seed.items():
        assert values.shape == (len(truth.archs), train.SEEDS)
        counts = values * truth.about["split"]["test"] / 100
        assert np.array_equal(counts, counts.round())
        assert values.min() > 10
        assert values.max() < 100
        assert np.array_equal(truth.targets[target], values.mean(axis=1))
    assert truth.about["teacher"]["accuracy"] > 97


def test_shipped_noise_ceilings(truth: DigitsTruth) -> None:
    for target in TARGETS:
        assert truth.noise_ceiling[target] == pytest.approx(noise_ceiling(truth.per_seed[target]), abs=1e-4)
        assert truth.noise_ceiling[target] > 0.6


def test_size_alone_does_not_explain_the_ground_truth(truth: DigitsTruth) -> None:
    params = [MicroSpace().size(arch).params for arch in truth.archs]
    for target in TARGETS:
        assert kendalltau(params, truth.targets[target]).statistic < truth.noise_ceiling[target] - 0.05


def test_shipped_file_says_how_it_was_made(truth: DigitsTruth) -> None:
    assert truth.about["command"] == "proxforge bench train digits"
    assert set(truth.about["versions"]) == {"python", "torch", "numpy", "scikit-learn", "platform"}


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys; from proxforge.bench.truth.digits import load_digits_truth\n"
        "load_digits_truth(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Reading


def written(**changes: Any) -> str:
    networks = [{"arch": {}, "full": [1.0, 2.0]}, {"arch": {}, "full": [3.0, 5.0]}]
    return json.dumps({"networks": networks, "noise_ceiling": {"full": 1.0}, "seeds": [1, 2], **changes})


def test_targets_are_means_over_the_seeds() -> None:
    truth = parse_digits_truth(written())
    assert truth.targets["full"].tolist() == [1.5, 4.0]
    assert truth.about == {"seeds": [1, 2]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        written()[:-5],
        "[]",
        written(networks=[{"arch": {}}]),
        written(networks=3),
        written(noise_ceiling=3),
        written(seeds=[1]),
        written(networks=[{"arch": {}, "full": [1.0, float("nan")]}]),
        written(networks=[{"arch": {}, "full": [1.0, "x"]}]),
        written(networks=[{"arch": {}, "full": [1.0, 2.0]}, {"arch": {}, "full": [1.0]}]),
    ],
)
def test_damaged_ground_truth(text: str) -> None:
    with pytest.raises(ProxforgeError, match="the ground truth of 'digits'") as caught:
        parse_digits_truth(text)
    assert caught.value.kind == "data"


def test_missing_ground_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FILE", "nowhere.json")
    with pytest.raises(ProxforgeError, match=r"nowhere\.json is missing from the package"):
        load_digits_truth()


def test_noise_ceiling() -> None:
    same = np.arange(5.0)[:, None]
    assert noise_ceiling(np.hstack([same, same, 10 + same, same])) == pytest.approx(1)
    assert noise_ceiling(np.hstack([same, -same])) == pytest.approx(-1)
    # halves of one seed: the pairs (0,1), (0,2), (1,2) have tau 1, -1, -1
    assert noise_ceiling(np.hstack([same, same, -same])) == pytest.approx(-1 / 3)
    noise = np.random.default_rng(0).normal(size=(400, 4))
    assert abs(noise_ceiling(noise) or 1) < 0.06
    signal_and_noise = noise_ceiling(noise + np.random.default_rng(1).normal(size=(400, 1)))
    # halves of two seeds correlate by 1/(1 + 1/2); tau of normal variables is 2/pi asin(rho)
    assert signal_and_noise == pytest.approx(2 / np.pi * np.arcsin(2 / 3), abs=0.05)


@pytest.mark.parametrize("per_seed", [np.zeros((5, 1)), np.zeros((1, 4)), np.zeros((5, 4))])
def test_noise_ceiling_without_a_value(per_seed: np.ndarray[Any, Any]) -> None:
    assert noise_ceiling(per_seed) is None


# The recipe


def test_split_is_balanced_and_the_parts_are_disjoint() -> None:
    data = load_data(DigitsRecipe())
    assert (len(data.train_labels), len(data.test_labels), len(data.low)) == (997, 800, 100)
    assert np.bincount(data.test_labels).tolist() == [80] * 10
    assert np.bincount(data.train_labels[data.low]).tolist() == [10] * 10
    assert len(set(data.low)) == 100
    assert data.train_images.mean() == pytest.approx(0, abs=1e-5)
    assert data.train_images.std() == pytest.approx(1, abs=1e-5)
    images = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    assert len(images) == 1797  # all are used, none twice


def test_split_is_the_shipped_one(truth: DigitsTruth) -> None:
    assert train._split(DigitsRecipe()) == truth.about["split"]
    assert train._split(replace(DigitsRecipe(), split_seed=1))["digest"] != truth.about["split"]["digest"]


def test_learning_rate_warms_up_then_falls_to_zero() -> None:
    schedule = Schedule(steps=110, batch=1, lr=2.0, warmup=10, weight_decay=0)
    rates = [schedule.rate(step) for step in range(110)]
    assert rates[:2] == pytest.approx([0.2, 0.4])
    assert rates[9] == rates[10] == max(rates) == 2
    assert rates[60] == pytest.approx(1)
    assert 0 < rates[-1] < 0.001


def test_batches_are_epochs_of_shuffled_images() -> None:
    def first_batches(seed: list[int]) -> list[list[int]]:
        batches = recipe._batches(10, 3, seed)
        return [next(batches).tolist() for _ in range(6)]

    drawn = first_batches([1, 0])
    assert all(len({image for batch in epoch for image in batch}) == 9 for epoch in (drawn[:3], drawn[3:]))
    assert drawn[:3] != drawn[3:]
    assert drawn == first_batches([1, 0]) != first_batches([2, 0])
    assert len(next(recipe._batches(10, 64, [1, 0]))) == 10


def test_targets_differ_in_images_order_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[tuple[int, int, list[int], Any]] = []

    def record(_network: Any, images: Any, labels: Any, _schedule: Any, order: list[int], distil: Any = None) -> None:
        fits.append((len(images), len(labels), order, distil))

    monkeypatch.setattr(recipe, "_fit", record)
    logits = np.zeros((997, 10), dtype=np.float32)
    recipe.train_network(architectures(QUICK)[0], 3, QUICK, logits)
    assert fits[:2] == [(997, 997, [3, 0], None), (100, 100, [3, 1], None)]
    assert fits[2][:3] == (997, 997, [3, 2])
    assert fits[2][3] == (logits, QUICK.temperature, QUICK.kd_weight)


def test_distillation_follows_the_teacher_not_the_labels() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    images = np.random.default_rng(0).normal(size=(20, 1, 8, 8)).astype(np.float32)
    teacher = np.zeros((20, 10), dtype=np.float32)
    teacher[:, 7] = 20
    schedule = Schedule(steps=60, batch=20, lr=0.05, warmup=1, weight_decay=0.0)
    recipe._fit(network, images, np.full(20, 2), schedule, [0], (teacher, 4.0, 0.9))
    with torch.no_grad():
        assert set(network(torch.from_numpy(images)).argmax(1).tolist()) == {7}
    recipe._fit(network, images, np.full(20, 2), schedule, [0])
    with torch.no_grad():
        assert set(network(torch.from_numpy(images)).argmax(1).tolist()) == {2}


def test_missing_scikit_learn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    load_data.cache_clear()
    with pytest.raises(ProxforgeError, match=r"pip install 'proxforge\[train\]'") as caught:
        train_digits(tmp_path / "digits.json")
    assert caught.value.kind == "missing"
    assert list(tmp_path.iterdir()) == []


def test_retrained_networks_reach_what_is_recorded(truth: DigitsTruth) -> None:
    """The steadiest network of each family, seed 1. Equal to the image where the file was made; 4 points (full, kd) and
    8 points (low) allow for another processor or library, whose rounding makes another training of it."""
    teacher_accuracy, logits = recipe.train_teacher(DigitsRecipe())
    assert teacher_accuracy == pytest.approx(truth.about["teacher"]["accuracy"], abs=1)
    spread = sum(values.std(axis=1) for values in truth.per_seed.values())
    for family in ("columnar", "pyramid"):
        best = min((i for i, arch in enumerate(truth.archs) if arch["family"] == family), key=lambda i: spread[i])
        again = recipe.train_network(truth.archs[best], 1, DigitsRecipe(), logits)
        for target, allowed in (("full", 4), ("low", 8), ("kd", 4)):
            recorded = truth.per_seed[target][best, 0]
            assert again[target] == pytest.approx(recorded, abs=allowed), (family, best, target)


# The trainer


def test_killed_training_continues_and_ends_with_the_same_file(tmp_path: Path) -> None:
    whole = train_digits(tmp_path / "whole.json", seeds=2, workers=1, recipe=QUICK).read_bytes()

    out, journal = tmp_path / "killed.json", tmp_path / "killed.jsonl"
    code = (
        "import sys; from pathlib import Path; from test_digits import QUICK, train_digits\n"
        "train_digits(Path(sys.argv[1]), seeds=2, workers=1, recipe=QUICK)"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    run = subprocess.Popen([sys.executable, "-c", code, str(out)], env={**os.environ, "PYTHONPATH": path})
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert run.poll() is None, "ended before it was killed"
        time.sleep(0.001)
    started = children.read_text().split() if children.exists() else []
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not out.exists()
    for _ in range(200):
        if not any(Path(f"/proc/{child}").exists() for child in started):
            break
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in started), "workers outlived their parent"

    with journal.open("a") as lines:
        lines.write('{"network": 4, "se')  # what a kill in the middle of a line leaves
    calls: list[tuple[int, int]] = []
    train_digits(out, seeds=2, workers=2, recipe=QUICK, progress=lambda *call: calls.append(call))
    assert calls[0][0] >= 2
    assert calls == [(done, 10) for done in range(calls[0][0], 11)]
    assert out.read_bytes() == whole
    assert list(parse_digits_truth(out.read_text()).archs) == architectures(QUICK)
    assert len([json.loads(line) for line in journal.read_text().splitlines()]) == 11
    made = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock")
    assert made == ["killed.json", "killed.jsonl", "whole.json", "whole.jsonl"]


def test_smaller_training_grows_into_a_larger_one(tmp_path: Path) -> None:
    out = tmp_path / "d.json"
    small = parse_digits_truth(train_digits(out, networks=2, seeds=1, workers=1, recipe=QUICK).read_text())
    assert small.noise_ceiling == dict.fromkeys(TARGETS)
    assert small.about["recipe"] == asdict(QUICK)
    calls: list[tuple[int, int]] = []
    train_digits(out, networks=2, seeds=2, workers=1, recipe=QUICK, progress=lambda *call: calls.append(call))
    large = parse_digits_truth(out.read_text())
    assert calls == [(2, 4), (3, 4), (4, 4)]
    for target in TARGETS:
        assert np.array_equal(large.per_seed[target][:, :1], small.per_seed[target])


@pytest.mark.parametrize("numbers", [{"networks": 0}, {"networks": 6}, {"seeds": 0}, {"workers": 0}])
def test_numbers_out_of_range(numbers: dict[str, int], tmp_path: Path) -> None:
    name, value = next(iter(numbers.items()))
    with pytest.raises(ProxforgeError, match=f"{name} is {value}; training 'digits' needs"):
        train_digits(tmp_path / "digits.json", recipe=QUICK, **numbers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("journal", "message"),
    [
        ('{"recipe": "other"}\n', "was begun with"),
        ("not json\n", "is not the begun training"),
        ('{"recipe": "other"}\n{"network": 1}\n', "is not the begun training"),
        ("3\n4\n", "is not the begun training"),
    ],
)
def test_journal_of_something_else_is_left_alone(journal: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "digits.jsonl").write_text(journal)
    with pytest.raises(ProxforgeError, match=message):
        train_digits(tmp_path / "digits.json", recipe=QUICK)
    assert (tmp_path / "digits.jsonl").read_text() == journal
    assert not (tmp_path / "digits.json").exists()


def test_failed_training_leaves_no_result(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not be zero"):
        train_digits(tmp_path / "d.json", workers=1, recipe=replace(QUICK, low=replace(SHORT, batch=0)))
    assert not (tmp_path / "d.json").exists()
