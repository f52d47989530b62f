"""AZ-NAS (Lee and Ham, CVPR 2024): expressivity, progressivity and trainability from one forward and one backward pass.

The fourth of its proxies, complexity, is the network's own ``flops``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .features import block_features
from .subject import Subject

EPS = 1e-8
"""Added inside the logarithm of the entropy, as in the code."""
NORM_EPS = 1e-6
"""Added to the spectral norm where it divides, as in the code."""
WORST = -float("inf")


def az_nas(subject: Subject) -> tuple[float, float, float]:
    """Expressivity, progressivity, trainability. What is NaN counts as -inf, as in the code.

    Convolutional networks are initialised by Kaiming's normal rule (fan in) as in the code, transformers as the space
    does. Images: those of the recipe; published: 64 of standard normal noise.
    """
    model = _initialised(subject) if subject.convolutional else subject.model
    with subject.running(model):
        features, pairs = block_features(model, subject.images)
        entropies = [expressivity(_rows(f.detach())) for f in features]
        steps = [b - a for a, b in pairwise(entropies)]
        generator = subject.generator(1)
        scores = [trainability(a, b, generator, subject.convolutional) for a, b in pairs]
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else WORST
    return _worst(sum(entropies)), _worst(min(steps, default=WORST)), _worst(mean)


def expressivity(rows: Tensor) -> float:
    """The entropy of the normalised eigenvalues of the covariance of features ``[n, c]``.

    The covariance divides by n as in the code, the paper by n - 1; normalised, it is the same.
    """
    centred = rows.double() - rows.double().mean(0)
    values = torch.linalg.eigvalsh(centred.t() @ centred / len(centred)).clamp(min=0)
    share = values / values.sum()
    return float(-(share * (share + EPS).log()).sum())


def trainability(given: Tensor, out: Tensor, generator: torch.Generator, convolutional: bool) -> float | None:
    """2 - s - 1/s with s the spectral norm of the block's mean Jacobian; 0 where s = 1.

    The Jacobian is estimated from the gradient of the input for random signs at the output. A block that passes its
    gradient through unchanged is -inf in a convolutional network and None (left out) in a transformer, as in the code.
    """
    if not (given.requires_grad and out.requires_grad):  # a node without operations: no weight has an influence on it
        return WORST
    signs = torch.randint(0, 2, out.shape, generator=generator).to(out.dtype) * 2 - 1
    (back,) = torch.autograd.grad(out, given, signs, retain_graph=True, allow_unused=True)
    if back is None:  # the output does not depend on the input
        return WORST
    if back.shape == signs.shape and torch.equal(back, signs):
        return WORST if convolutional else None
    if back.ndim == 4 and back.shape[2:] != signs.shape[2:]:
        back = nn.functional.pixel_unshuffle(back, back.shape[2] // signs.shape[2])
    mean = _rows(back).t() @ _rows(signs) / _rows(signs).shape[0]
    norm = float(torch.linalg.matrix_norm(mean.double(), 2))
    return 2 - norm - 1 / (norm + NORM_EPS)


def _rows(x: Tensor) -> Tensor:
    """``[b, c, h, w]`` or ``[b, n, d]`` -> ``[positions, channels]``."""
    return x.movedim(1, -1).flatten(0, -2) if x.ndim == 4 else x.flatten(0, -2)


def _worst(value: float) -> float:
    return WORST if value != value else value


def _initialised(subject: Subject) -> nn.Module:
    model, generator = subject.fresh(), subject.generator(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
    return model
