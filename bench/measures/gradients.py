"""Measures of gradients: GraSP, GradSign, ZiCo, SynFlow, Jacobian covariance, the condition number of the NTK."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...stats_cache.passes import logits_of, one_thread, ready
from .subject import Subject, Undefined, gradients, weights

JACOBIAN_EPS = 1e-5
"""Added to the eigenvalues of the correlation matrix, as in Mellor et al.'s code."""


def grasp(subject: Subject) -> float:
    """-w · (H g): H the Hessian and g the gradient of the cross-entropy by the weights (Wang et al., ICLR 2020).

    As a proxy with this sign and a temperature of 1: Abdelfattah et al. (ICLR 2021). All convolutions and linear maps.
    """
    with subject.running() as model:
        w = weights(model)
        g = gradients(F.cross_entropy(logits_of(model(subject.images)), subject.labels), w, create=True)
        product = _total([(a.detach() * a).sum() for a in g])
        if not product.requires_grad:  # no gradient depends on a weight: H is 0
            return 0.0
        return -float(_total([(a.detach() * b).sum() for a, b in zip(w, gradients(product, w), strict=True)]))


def grad_sign(subject: Subject) -> float:
    """Σ_k |Σ_i sign(∂ℓ_i/∂w_k)| over the images i (Zhang and Jia, ICLR 2022)."""
    with subject.running() as model:
        w = weights(model)
        losses = F.cross_entropy(logits_of(model(subject.images)), subject.labels, reduction="none")
        signs = [torch.zeros_like(p) for p in w]
        for loss in losses:
            for total, g in zip(signs, gradients(loss, w, keep=True), strict=True):
                total += g.sign()
        return float(_total([total.abs().sum() for total in signs]))


def zico(subject: Subject) -> float:
    """Σ_layers ln Σ_w mean|g| / std(g) over mini-batches (Li et al., ICLR 2023); here the halves of the batch.

    As in the code: the biased deviation, weights whose gradient does not vary left out, layers without others too.
    """
    count = len(subject.images) // 2
    if count < 1:
        raise Undefined("ZiCo compares two mini-batches: it needs two images")
    with subject.running() as model:
        w = weights(model)
        each = []
        for part in (slice(0, count), slice(count, 2 * count)):
            loss = F.cross_entropy(logits_of(model(subject.images[part])), subject.labels[part])
            each.append(gradients(loss, w))
        score = 0.0
        for pair in zip(*each, strict=True):
            a, b = (g.double() for g in pair)
            apart = (a - b).abs()  # twice the biased deviation of two numbers
            ratio = torch.where(apart > 0, (a.abs() + b.abs()) / apart, 0.0).sum()
            score += float(ratio.log()) if ratio > 0 else 0.0
        return score


def synflow(subject: Subject) -> tuple[float, float]:
    """Σ |w · ∂R/∂w| (Tanaka et al., 2020) and Σ |w| · ln(1 + |∂R/∂w|) (Cavagnero et al., 2023), all in float64.

    R: the sum of the outputs for an image of ones, the state made absolute. BatchNorms normalise by their averages, at
    initialisation 0 and 1, and so change nothing: the code removes them.
    """
    model = subject.fresh().double()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
    w = weights(model)
    with one_thread(), ready(model):
        outputs = logits_of(model(torch.ones_like(subject.images[:1], dtype=torch.float64)))
        flows = [(p.detach(), g.abs()) for p, g in zip(w, gradients(outputs.sum(), w), strict=True)]
    plain = _total([(p * g).sum() for p, g in flows])
    return float(plain), float(_total([(p * g.log1p()).sum() for p, g in flows]))


def jacobian_covariance(subject: Subject) -> float:
    """-Σ ln(λ + k) + 1/(λ + k) of the correlation matrix of the images' Jacobians (Mellor et al., version 1, 2020).

    A Jacobian is the gradient of the sum of an image's logits by its pixels; k = 1e-5. An image without influence on
    its logits has no correlation with others: -inf.
    """
    with subject.running() as model:
        images = subject.images.clone().requires_grad_()
        (jacobian,) = torch.autograd.grad(logits_of(model(images)).sum(), images, allow_unused=True)
    if len(subject.images) < 2:
        raise Undefined("the correlation between images needs two of them")
    if jacobian is None:
        return -float("inf")
    rows = jacobian.flatten(1).double()
    values = torch.corrcoef(rows)
    if not values.isfinite().all():  # a gradient that is the same at every pixel
        return -float("inf")
    shifted = torch.linalg.eigvalsh(values) + JACOBIAN_EPS
    return -float((shifted.log() + 1 / shifted).sum())


def ntk_condition(subject: Subject) -> float:
    """-λ_max/λ_min of the neural tangent kernel of the images (TE-NAS: Chen et al., ICLR 2021).

    As in its code, an image's gradient is that of the sum of its logits, by the weights of convolutions and linear
    maps.
    The smaller the condition number the better, hence the sign; a singular kernel is -inf.
    """
    with subject.running() as model:
        w = weights(model)
        logits = logits_of(model(subject.images)).sum(1)
        rows = [torch.cat([g.flatten() for g in gradients(one, w, keep=True)]) for one in logits]
        kernel = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for i, a in enumerate(rows):
            for j, b in enumerate(rows[: i + 1]):
                kernel[i, j] = kernel[j, i] = _dot(a, b)
    if len(rows) < 2:
        raise Undefined("the condition number of the NTK needs two images")
    values = torch.linalg.eigvalsh(kernel)
    rounding = float(values[-1]) * torch.finfo(torch.float64).eps * len(rows)
    return -float(values[-1] / values[0]) if float(values[0]) > rounding else -float("inf")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()
