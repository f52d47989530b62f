"""How the networks of the benchmark ``digits`` are trained: data, schedules, losses.

The images are the 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries (``load_digits``; UCI, Alpaydin and
Kaynak 1998). Three targets: ``full`` (every training image), ``low`` (100 of them, 10 per class), ``kd`` (every image,
distilled from a small CNN by the loss ``(1 - a) * CE + a * T**2 * KL`` at temperature T: Hinton et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...grammar.errors import ProxforgeError
from ...stats_cache.spaces.micro import MicroSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

TARGETS = ("full", "low", "kd")
CLASSES = 10


@dataclass(frozen=True)
class Schedule:
    """AdamW, betas (0.9, 0.999): linear warm-up to ``lr`` over ``warmup`` steps, then a cosine to 0 at ``steps``."""

    steps: int
    batch: int
    lr: float
    warmup: int
    weight_decay: float

    def rate(self, step: int) -> float:
        """The learning rate of ``step`` (from 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


@dataclass(frozen=True)
class DigitsRecipe:
    """Everything that decides the ground truth, seeds of the runs aside."""

    columnar: int = 96
    pyramid: int = 48
    arch_seed: int = 2024
    split_seed: int = 0
    test_per_class: int = 80
    low_per_class: int = 10
    full: Schedule = Schedule(steps=150, batch=64, lr=0.01, warmup=20, weight_decay=0.05)
    low: Schedule = Schedule(steps=100, batch=25, lr=0.006, warmup=20, weight_decay=0.05)
    kd: Schedule = Schedule(steps=150, batch=64, lr=0.01, warmup=20, weight_decay=0.05)
    temperature: float = 4.0
    kd_weight: float = 0.9
    teacher: Schedule = Schedule(steps=600, batch=64, lr=0.003, warmup=30, weight_decay=0.01)
    teacher_seed: int = 0


@dataclass(frozen=True)
class Digits:
    """The split data. Images float32 ``[n, 1, 8, 8]``, standardised by the training part; labels int64 ``[n]``.

    ``low`` holds the positions of the low-data subset within the training part.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    low: NDArray[np.int64]


def architectures(recipe: DigitsRecipe) -> list[dict[str, Any]]:
    """The distinct architectures of the benchmark, columnar ones first, in the order they were drawn."""
    space = MicroSpace()
    rng = np.random.default_rng(recipe.arch_seed)
    drawn: list[dict[str, Any]] = []
    for family, count in (("columnar", recipe.columnar), ("pyramid", recipe.pyramid)):
        goal = len(drawn) + count
        while len(drawn) < goal:
            arch = space.sample_family(family, rng)
            if arch not in drawn:
                drawn.append(arch)
    return drawn


@lru_cache(maxsize=1)
def load_data(recipe: DigitsRecipe) -> Digits:
    """The images, split. Raises ProxforgeError when scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ProxforgeError(
            "missing",
            "training 'digits' needs scikit-learn, which carries the images: pip install 'proxforge[train]'",
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = pixels.astype(np.float64).reshape(-1, 1, 8, 8)
    rng = np.random.default_rng(recipe.split_seed)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)]
    test = np.sort(np.concatenate([m[: recipe.test_per_class] for m in members]))
    low = np.sort(np.concatenate([m[recipe.test_per_class :][: recipe.low_per_class] for m in members]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    mean, std = images[train].mean(), images[train].std()
    scaled = ((images - mean) / std).astype(np.float32)
    labels = labels.astype(np.int64)
    return Digits(scaled[train], labels[train], scaled[test], labels[test], np.searchsorted(train, low))


def train_teacher(recipe: DigitsRecipe) -> tuple[float, NDArray[np.float32]]:
    """Train the CNN: (its accuracy on the test part in percent, its logits on the training part ``[n, 10]``)."""
    import torch
    from torch import nn

    from ...stats_cache.spaces._vit import seeded

    data = load_data(recipe)
    with seeded(recipe.teacher_seed):
        teacher = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, CLASSES)),
        )
    _fit(teacher, data.train_images, data.train_labels, recipe.teacher, [recipe.teacher_seed, len(TARGETS)])
    with torch.no_grad():
        logits: NDArray[np.float32] = teacher(torch.from_numpy(data.train_images)).numpy()
    return _accuracy(teacher, data), logits


def train_network(
    arch: dict[str, Any], seed: int, recipe: DigitsRecipe, teacher_logits: NDArray[np.float32]
) -> dict[str, float]:
    """Train one architecture from scratch once per target: target -> accuracy on the test part in percent.

    ``seed`` decides the initialisation and the order of the batches. ``teacher_logits``: see `train_teacher`.
    """
    data = load_data(recipe)
    accuracies = {}
    for index, target in enumerate(TARGETS):
        network = MicroSpace().build(arch, seed=seed)
        images, labels = data.train_images, data.train_labels
        if target == "low":
            images, labels = images[data.low], labels[data.low]
        distil = (teacher_logits, recipe.temperature, recipe.kd_weight) if target == "kd" else None
        _fit(network, images, labels, getattr(recipe, target), [seed, index], distil)
        accuracies[target] = _accuracy(network, data)
    return accuracies


def _fit(
    network: nn.Module,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    schedule: Schedule,
    order_seed: list[int],
    distil: tuple[NDArray[np.float32], float, float] | None = None,
) -> None:
    """Train in place by ``schedule``; ``distil``: (logits ``[n, 10]``, temperature, weight of the distillation)."""
    import torch
    from torch.nn import functional as F

    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay, fused=True)
    batches = _batches(len(labels), schedule.batch, order_seed)
    if distil is not None:
        temperature, weight = distil[1], distil[2]
        soft = (torch.from_numpy(distil[0]) / temperature).softmax(1)
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        batch = torch.from_numpy(next(batches))
        optimizer.zero_grad()
        logits: Tensor = network(x[batch])
        loss = F.cross_entropy(logits, y[batch])
        if distil is not None:
            divergence = F.kl_div((logits / temperature).log_softmax(1), soft[batch], reduction="batchmean")
            loss = (1 - weight) * loss + weight * temperature**2 * divergence
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(n: int, batch: int, order_seed: list[int]) -> Iterator[NDArray[np.int64]]:
    """Positions of endless batches: epochs of shuffled images, the incomplete batch at an epoch's end left out.

    Fewer images than ``batch`` make one batch.
    """
    batch = min(batch, n)
    rng = np.random.default_rng(order_seed)
    while True:
        order = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            yield order[start : start + batch]


def _accuracy(network: nn.Module, data: Digits) -> float:
    """Percent of the test images that the network classifies rightly."""
    import torch

    with torch.no_grad():
        predicted = network(torch.from_numpy(data.test_images)).argmax(1).numpy()
    return 100.0 * int((predicted == data.test_labels).sum()) / len(data.test_labels)
