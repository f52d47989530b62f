"""Published ground truth in CSV files: NAS-Bench-201 and the CIFAR ResNets of DisWOT.

``nas_bench_201.csv.gz``: all 15,625 cells of NAS-Bench-201 (Dong and Yang, ICLR 2020; NATS-Bench, 2021), their mean
test and validation accuracy after 200 epochs on CIFAR-10, CIFAR-100 and ImageNet16-120, columns ``index``, ``arch``,
``test_..`` and ``val_..``. ``resnet_cifar100.csv``: 64 ResNets on CIFAR-100 (DisWOT, Dong et al., CVPR 2023), trained
plainly and distilled, columns ``blocks`` (such as 135), ``cifar100``, ``cifar100_kd``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .base import Benchmark, DataError
from .files import Described, load_file
from .folders import find

NAS_BENCH_201 = "nas_bench_201.csv.gz"
DISWOT = "resnet_cifar100.csv"
BATCH = 16


def load_nas_bench_201(data: Path | None) -> Benchmark:
    """All cells, heads of 10 classes, 16 noise images of 32 x 32 pixels; for ``data`` see ``load_benchmark``."""
    path = find(NAS_BENCH_201, "nas_bench_201", data, "the accuracies of NATS-Bench as a table")
    found = load_file(path, Described(space="nas-bench-201", name="nas-bench-201", classes=10, batch=BATCH))
    targets = {name: values for name, values in found.targets.items() if name != "index"}
    tests = tuple(name for name in targets if name.startswith("test_"))
    if not tests:
        raise DataError(f"'{path}' has no column that begins with 'test_'; it has {', '.join(targets)}")
    return replace(found, targets=targets, default_targets=tests)


def load_diswot(data: Path | None) -> Benchmark:
    """The 64 ResNets, heads of 100 classes, 16 noise images of 32 x 32 pixels; for ``data`` see ``load_benchmark``."""
    path = find(DISWOT, "diswot_resnet", data, "the accuracies of DisWOT (github.com/lilujunai/DisWOT-CVPR2023)")
    return load_file(path, Described(space="cifar-resnet", name="diswot-resnet", classes=100, batch=BATCH))
