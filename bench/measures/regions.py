"""Measures of activation patterns and of the response to noise: NWOT, linear regions, Zen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .subject import Subject, Undefined

NONLINEAR: frozenset[Callable[..., Any]] = frozenset({F.relu, torch.relu, F.gelu, F.silu, F.leaky_relu})
"""The functions whose units are counted: a unit is on where what it is given is positive."""
POINTS = 8
"""Points on the line between two images."""
ALPHA = 0.01
"""Zen's noise is this share of a standard normal image."""


class _Recorder(TorchFunctionMode):
    """Keeps what is given to every non-linearity, and the output of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []
        self.last: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in NONLINEAR:
            self.given.append(args[0].detach())
            self.last = out
        return out


@contextmanager
def recorded() -> Iterator[_Recorder]:
    """Inside, the non-linearities of every forward pass are recorded, modules and functions alike."""
    recorder = _Recorder()
    with recorder:
        yield recorder


def _patterns(subject: Subject, images: Tensor) -> list[Tensor]:
    """Which units are on: bool ``[images, units]`` for every non-linearity."""
    with subject.running() as model, torch.no_grad(), recorded() as seen:
        model(images)
    if not seen.given:
        raise Undefined("the network has no non-linearity whose units are on or off")
    return [(given > 0).flatten(1) for given in seen.given]


def nwot(subject: Subject) -> float:
    """ln det K, K_ij the number of units that agree on images i and j (Mellor et al., NAS without training, ICML 2021).

    Published for ReLU; a unit of another non-linearity is on where it is given something positive. A singular kernel
    is -inf.
    """
    kernel = torch.zeros(len(subject.images), len(subject.images), dtype=torch.float64)
    for on in _patterns(subject, subject.images):
        code = on.float()
        kernel += (code @ code.t() + (1 - code) @ (1 - code).t()).double()
    return float(torch.linalg.slogdet(kernel)[1])


def linear_regions(subject: Subject) -> float:
    """The number of linear regions on the line between the first two images, as `POINTS` points see them.

    1 + how often a unit switches between neighbouring points. TE-NAS (Chen et al., ICLR 2021) counts the
    different patterns of random images of a network narrowed to one channel; at full width every image has a pattern of
    its own and the count is a constant, so the regions that a line crosses are counted (Hanin and Rolnick, 2019).
    """
    if len(subject.images) < 2:
        raise Undefined("the line between two images needs two of them")
    share = torch.linspace(0, 1, POINTS).view(-1, 1, 1, 1)
    line = torch.lerp(subject.images[:1], subject.images[1:2], share)
    return 1.0 + sum(float((on[1:] != on[:-1]).sum()) for on in _patterns(subject, line))


def zen(subject: Subject) -> float:
    """ln E|f(x) - f(x + αε)| + Σ ln sqrt(mean σ²) over the BatchNorms (Lin et al., Zen-NAS, ICCV 2021).

    f: what goes into the pooling before the head (of a network without convolutions: into the head), x and ε standard
    normal, α = 0.01, all weights standard normal. |.|: the sum over an image's features of absolute values, as in the
    code; the paper writes the Frobenius norm. A network without BatchNorms has the first term alone.
    """
    model, generator = subject.fresh(), subject.generator(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
    shape = subject.images.shape
    images, shift = (torch.randn(shape, generator=generator) for _ in range(2))
    variances: list[Tensor] = []

    def variance(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        variances.append(given[0].var((0, 2, 3), unbiased=False).mean())

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with subject.running(model), torch.no_grad():
        handles = [norm.register_forward_pre_hook(variance) for norm in norms]
        first = _features(subject, model, images)
        for handle in handles:
            handle.remove()
        second = _features(subject, model, images + ALPHA * shift)
        change = (first - second).double().abs().flatten(1).sum(1).mean()
        return float(change.log() + sum(0.5 * v.double().log() for v in variances))


def _features(subject: Subject, model: nn.Module, images: Tensor) -> Tensor:
    """What goes into the pooling before the head, or into the head of a network without convolutions."""
    if subject.convolutional:
        with recorded() as seen:
            model(images)
        if seen.last is None:
            raise Undefined("the network ends without a non-linearity")
        return seen.last
    found: list[Tensor] = []
    head = model.get_submodule("head")
    handle = head.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
    model(images)
    handle.remove()
    return found[0]
