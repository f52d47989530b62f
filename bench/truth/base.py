"""A benchmark: the networks of one space with their ground truth, and how their statistics are collected by default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...grammar.errors import ProxforgeError, nearest
from ...stats_cache.inputs import Batch, read_batch
from ...stats_cache.recipe import Recipe, find_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...stats_cache.spaces.base import Size


class DataError(ProxforgeError):
    """A file of ground truth that is missing, damaged, or not what its benchmark expects."""

    def __init__(self, message: str) -> None:
        super().__init__("data", message)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A architectures of one space, and what they reached when they were trained.

    ``archs``: A architectures in normal form. ``targets``: name -> float64 ``[A]``, read-only, in percent; NaN = not
    measured. ``default_targets``: those that a search maximises unless told otherwise. ``classes``: of the untrained
    networks' head. ``batch``: noise images per network, by default. ``noise_ceiling``: target -> Kendall tau between
    means over disjoint training seeds, where that is known.
    """

    name: str
    space: str
    archs: tuple[dict[str, Any], ...]
    targets: Mapping[str, NDArray[np.float64]]
    default_targets: tuple[str, ...]
    classes: int
    batch: int
    noise_ceiling: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target, values in self.targets.items():
            if values.shape != (len(self.archs),):
                raise DataError(
                    f"target {target!r} of {self.name} has shape {values.shape}, expected one value for each of "
                    f"the {len(self.archs)} networks"
                )
            values.flags.writeable = False
        for target in self.default_targets:
            if target not in self.targets:
                raise DataError(f"{self.name} has no target {target!r}, only {', '.join(self.targets)}")

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.archs)

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Parameters, multiply-accumulates, depth and width of every network (nothing is built)."""
        family = find_space(self.space)
        return tuple(family.size(arch, self.classes) for arch in self.archs)

    def recipe(
        self,
        *,
        seed: int = 0,
        batch: int | None = None,
        input: str = "noise",
        input_seed: int = 0,
        resolution: int | None = None,
        storage: str = "float32",
        rows: int | None = None,
    ) -> Recipe:
        """How statistics of these networks are collected: ``batch`` images per network; the rest see `Recipe`."""
        return Recipe(
            space=self.space,
            archs=self.archs,
            classes=self.classes,
            seed=seed,
            batch=self.batch if batch is None else batch,
            input=input,
            input_seed=input_seed,
            resolution=resolution,
            storage=storage,
            rows=rows,
        )

    def images(
        self, path: str | Path, *, batch: int | None = None, input_seed: int = 0, resolution: int | None = None
    ) -> Batch:
        """Images that these networks take, of a folder or a file: see `read_batch`. A recipe's input is their name."""
        family = find_space(self.space)
        family = family if resolution is None else family.at(resolution)
        return read_batch(
            path,
            count=self.batch if batch is None else batch,
            channels=family.channels,
            side=family.resolution,
            classes=self.classes,
            seed=input_seed,
        )

    def sample(self, count: int, seed: int = 0) -> Benchmark:
        """``count`` of the networks, drawn without replacement, in their order. Raises ProxforgeError for too many."""
        if not 1 <= count <= len(self):
            raise ProxforgeError("config", f"{self.name} has {len(self)} networks; {count} of them cannot be drawn")
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        targets = {name: values[chosen] for name, values in self.targets.items()}
        name = f"{self.name}:{count}:{seed}" if seed else f"{self.name}:{count}"
        return replace(self, name=name, archs=tuple(self.archs[i] for i in chosen), targets=targets)

    def split(self, seed: int, share: float = 0.6) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the search part (``round(share * A)`` networks) and of the test part, each sorted.

        The same seed and share give the same parts. Raises ProxforgeError for a negative seed, or when a part would
        hold fewer than two networks: a rank correlation needs two.
        """
        if seed < 0:
            raise ProxforgeError("config", f"the split seed is {seed}; it must be 0 or more")
        count = round(share * len(self)) if 0 < share < 1 else 0
        if not 2 <= count <= len(self) - 2:
            raise ProxforgeError(
                "config",
                f"a share of {share} leaves fewer than two of {len(self)} networks in one part of the split; "
                "choose a share between 0 and 1, further from its end",
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return np.sort(order[:count]), np.sort(order[count:])


_DRAWN = re.compile(r"(.+?):(\d{1,9})(?::(\d{1,9}))?")
"""``name:N`` and ``name:N:S``."""

BENCHMARKS: Mapping[str, str] = {
    "digits": "micro Vision Transformers trained on 8x8 handwritten digits; part of this package",
    "vit-bench-101/autoformer": "100 AutoFormers of ViT-Bench-101 (needs the official gt_autoformer.pth)",
    "vit-bench-101/pit": "60 PiTs of ViT-Bench-101 (needs the official gt_pit.pth)",
    "nas-bench-201": "15,625 cells of NAS-Bench-201 (needs nas_bench_201.csv.gz)",
    "diswot-resnet": "64 CIFAR ResNets of DisWOT (needs resnet_cifar100.csv)",
}
"""Name of every benchmark -> one line about it."""


def load_benchmark(name: str, data: str | Path | None = None) -> Benchmark:
    """The benchmark of that name, see ``BENCHMARKS``, or the one in a file ``.csv``, ``.csv.gz`` or ``.json``.

    ``name:N`` draws N of its networks, ``name:N:S`` with seed S (see `Benchmark.sample`).

    ``data``: the folder with the official files of a benchmark that is not part of the package, or the folder above it;
    without it, the environment variable ``PROXFORGE_DATA`` says where they are.

    Raises ProxforgeError: kind ``benchmark`` for an unknown name; kind ``data`` for a file that is missing, damaged, or
    not what was expected.
    """
    drawn = _DRAWN.fullmatch(name)
    if drawn is not None:
        return load_benchmark(drawn[1], data).sample(int(drawn[2]), int(drawn[3] or 0))
    from .files import is_file_name, load_file

    if is_file_name(name):
        return load_file(name if data is None else Path(data) / name)
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        hint = nearest(name, BENCHMARKS)
        raise ProxforgeError(
            "benchmark", f"unknown benchmark {name[:80]!r}{hint} (known: {known}; or a file .csv, .csv.gz, .json)"
        )
    return _LOADERS[name](None if data is None else Path(data))


def _load_digits(data: Path | None) -> Benchmark:
    if data is not None:
        raise DataError(f"digits is part of the package and reads no data folder; leave {str(data)!r} out")

    from .digits import load_digits_truth

    truth = load_digits_truth()
    return Benchmark(
        name="digits",
        space="micro",
        archs=tuple(truth.archs),
        targets=truth.targets,
        default_targets=tuple(truth.targets),
        classes=find_space("micro").classes,
        batch=16,
        noise_ceiling={target: tau for target, tau in truth.noise_ceiling.items() if tau is not None},
    )


def _load_autoformer(data: Path | None) -> Benchmark:
    from .vit_bench_101 import load_vit_bench_101

    return load_vit_bench_101("autoformer", data)


def _load_pit(data: Path | None) -> Benchmark:
    from .vit_bench_101 import load_vit_bench_101

    return load_vit_bench_101("pit", data)


def _load_nas_bench_201(data: Path | None) -> Benchmark:
    from .published import load_nas_bench_201

    return load_nas_bench_201(data)


def _load_diswot(data: Path | None) -> Benchmark:
    from .published import load_diswot

    return load_diswot(data)


_LOADERS: Mapping[str, Callable[[Path | None], Benchmark]] = {
    "digits": _load_digits,
    "vit-bench-101/autoformer": _load_autoformer,
    "vit-bench-101/pit": _load_pit,
    "nas-bench-201": _load_nas_bench_201,
    "diswot-resnet": _load_diswot,
}
