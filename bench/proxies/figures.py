"""Kendall's tau as the papers report it, to stand beside what is measured here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_TARGETS = {
    "nas-bench-201": ("test_cifar10", "test_cifar100", "test_imagenet16_120"),
    "vit-bench-101/pit": ("c100_kd", "flower_kd", "chaoyang_kd"),
    "vit-bench-101/autoformer": ("c100_kd", "flower_kd", "chaoyang_kd"),
}
_REPORTED: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "nas-bench-201": {  # AZ-NAS (CVPR 2024), Table 1: all 15,625 cells
        "AZ-NAS": (0.741, 0.723, 0.710),
        "SynFlow": (0.571, 0.565, 0.555),
        "SynFlow-float64": (0.571, 0.565, 0.555),
        "NWOT": (0.557, 0.579, 0.573),
        "params": (0.578, 0.552, 0.520),
    },
    "vit-bench-101/pit": {"AutoProxP": (0.82, 0.79, 0.42)},  # Auto-Prox (AAAI 2024): 100 networks
    "vit-bench-101/autoformer": {"AutoProxA": (0.56, 0.69, 0.34)},
}


def _listed() -> Iterator[tuple[tuple[str, str, str], float]]:
    for benchmark, proxies in _REPORTED.items():
        for proxy, values in proxies.items():
            for target, value in zip(_TARGETS[benchmark], values, strict=True):
                yield (benchmark, proxy, target), value


FIGURES: Mapping[tuple[str, str, str], float] = dict(_listed())
"""(benchmark, proxy, target) -> the paper's Kendall tau, where we know it."""
