"""Proxies that need a pass of their own, behind one interface. Naming them loads no torch; running them does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .subject import Subject


@dataclass(frozen=True, slots=True)
class Measure:
    """A proxy of a paper that the language cannot say.

    ``parts``: the scores it gives, in order: each can be named where a formula can. ``module``, ``function``: what
    computes them from a `Subject`. ``worst``: -inf is the lowest rank, as published, and no failure.
    """

    name: str
    parts: tuple[str, ...]
    module: str
    function: str
    paper: str
    note: str
    worst: bool = False

    def __call__(self, subject: Subject) -> tuple[float, ...]:
        """The scores, one per part. Raises `subject.Undefined` where the measure has no meaning for the network."""
        found = getattr(import_module(f".{self.module}", __name__), self.function)(subject)
        return found if isinstance(found, tuple) else (found,)


def _one(name: str, module: str, function: str, paper: str, note: str, worst: bool = False) -> Measure:
    return Measure(name, (name,), module, function, paper, note, worst)


MEASURES: Mapping[str, Measure] = {
    m.name: m
    for m in (
        _one(
            "GraSP",
            "gradients",
            "grasp",
            "Wang et al. (ICLR 2020); as a proxy: Abdelfattah et al. (ICLR 2021)",
            "-w (H g) with the sign of the second; all convolutions and linear maps, head included",
        ),
        _one(
            "NWOT",
            "regions",
            "nwot",
            "Mellor et al., Neural Architecture Search without Training (ICML 2021)",
            "published for ReLU; a GELU unit is on where it is given something positive",
            worst=True,
        ),
        _one(
            "NTK",
            "gradients",
            "ntk_condition",
            "Chen et al., TE-NAS (ICLR 2021)",
            "minus the condition number; the images of the recipe instead of 64 of the data set, the space's own "
            "initialisation instead of Kaiming's",
            worst=True,
        ),
        _one(
            "LinearRegions",
            "regions",
            "linear_regions",
            "Chen et al., TE-NAS (ICLR 2021)",
            "regions that a line between two images crosses; the paper counts patterns of a network narrowed to one "
            "channel, which at full width are as many as images",
        ),
        _one(
            "Zen",
            "regions",
            "zen",
            "Lin et al., Zen-NAS (ICCV 2021)",
            "absolute values as in the code, the paper writes a Frobenius norm; residual links are kept (the paper "
            "removes them)",
            worst=True,
        ),
        _one(
            "ZiCo",
            "gradients",
            "zico",
            "Li et al., ZiCo (ICLR 2023)",
            "the two halves of the batch as the mini-batches",
        ),
        Measure(
            "SynFlow64",
            ("SynFlow-float64", "LogSynFlow-float64"),
            "gradients",
            "synflow",
            "Tanaka et al. (NeurIPS 2020); Cavagnero et al., FreeREA (WACV 2023)",
            "the formulas over all convolutions and linear maps in float64: in NAS-Bench-201 some gradients exceed "
            "float32, which statistics are",
        ),
        _one(
            "JacobCov",
            "gradients",
            "jacobian_covariance",
            "Mellor et al., the first version (2020) of Neural Architecture Search without Training",
            "k = 1e-5 as in the code",
            worst=True,
        ),
        _one(
            "GradSign",
            "gradients",
            "grad_sign",
            "Zhang and Jia, GradSign (ICLR 2022)",
            "the images of a batch share BatchNorm's statistics",
        ),
        Measure(
            "AZ",
            ("Expressivity", "Progressivity", "Trainability"),
            "az_nas",
            "az_nas",
            "Lee and Ham, AZ-NAS (CVPR 2024)",
            "the three that need a pass; complexity is `flops`. The covariance divides by n (code), not n - 1 (paper): "
            "normalised, no difference",
            worst=True,
        ),
    )
}
"""Name -> measure."""

PARTS: Mapping[str, Measure] = {part: measure for measure in MEASURES.values() for part in measure.parts}
"""The name of a score -> the measure that gives it."""
