"""Where AZ-NAS looks: the features after every block of a network, and pairs of neighbours among them. Loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...stats_cache.spaces._cifar_resnet import ResNet
from ...stats_cache.spaces._nas_bench_201 import _POOL, CellNetwork
from ...stats_cache.spaces.nas_bench_201 import CELLS, EDGES, KERNELS, WIDTHS
from .subject import Undefined

Pairs = Sequence[tuple[Tensor, Tensor]]
"""(input, output) of blocks; the second depends on the first alone."""


def block_features(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Pairs]:
    """The features after the blocks, in forward order, and the pairs of which a Jacobian is taken.

    NAS-Bench-201: after the stem, every cell and every residual block between stages (18). CIFAR ResNets: after the
    stem and every block. Transformers: after the residual of every attention and every MLP; between two stages the
    pair begins with what the next stage is given.
    """
    if isinstance(model, CellNetwork):
        found = cell_features(model, images)
    elif isinstance(model, ResNet):
        found = residual_features(model, images)
    elif hasattr(model, "blocks"):
        return _transformer(model, images)
    else:
        raise Undefined(f"where the blocks of a {type(model).__name__} end is not known")
    return found, list(pairwise(found))


def cell_features(model: CellNetwork, images: Tensor) -> list[Tensor]:
    """What the network computes, block by block: its own forward pass has no module at the end of a cell."""
    units = iter(model.units)
    x = next(units)(images)
    found = [x]
    for stage in range(len(WIDTHS)):
        if stage:
            narrow, wide, short = next(units), next(units), next(units)
            x = wide(narrow(x)) + short(F.avg_pool2d(x, 2))
            found.append(x)
        for _ in range(CELLS):
            nodes = [x, *(torch.zeros_like(x) for _ in range(EDGES[-1][0]))]
            for (to, source), operation in zip(EDGES, model.cell, strict=True):
                if operation in KERNELS:
                    nodes[to] = nodes[to] + next(units)(nodes[source])
                elif operation != "none":
                    nodes[to] = nodes[to] + (_POOL(nodes[source]) if operation == "avg_pool_3x3" else nodes[source])
            x = nodes[-1]
            found.append(x)
    return found


def residual_features(model: ResNet, images: Tensor) -> list[Tensor]:
    """After the stem and after every residual block."""
    units = iter(model.units)
    x = F.relu(next(units)(images))
    found = [x]
    for widens in model.widens:
        first, second = next(units), next(units)
        inner = second(F.relu(first(x)))
        x = F.relu(inner + (next(units)(x) if widens else x))
        found.append(x)
    return found


def _transformer(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Pairs]:
    """Token features ``[batch, n, d]``. The first pair of all would begin with the embedding and is left out."""
    given: list[Tensor] = []
    middle: list[Tensor] = []
    ends: list[Tensor] = []

    def note(place: list[Tensor], position: int) -> Any:
        return lambda _module, inputs, *out: place.append(out[0] if position else inputs[0])

    handles = []
    for block in cast(nn.ModuleList, model.blocks):
        handles.append(block.register_forward_pre_hook(note(given, 0)))
        handles.append(block.get_submodule("norm2").register_forward_pre_hook(note(middle, 0)))
        handles.append(block.register_forward_hook(note(ends, 1)))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    triples = list(zip(given, middle, ends, strict=True))
    features = [x for _, inner, end in triples for x in (inner, end)]
    pairs = [pair for start, inner, end in triples for pair in ((start, inner), (inner, end))]
    return features, pairs[1:]
