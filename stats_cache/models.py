"""Statistics of networks of one's own: any ``nn.Module``, with patterns that say where its sites are. In memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..grammar.types import STATISTICS
from .memory import MemoryCache
from .sites import check_axes, find_layers, sites_for
from .source import CacheError, check_statistics
from .spaces.base import Pattern, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from .inputs import Batch
    from .passes import How, Loss


def collect_models(
    models: nn.Module | Iterable[nn.Module],
    sites: Mapping[str, Pattern] | str | None = None,
    *,
    batch: Batch | Tensor | tuple[Tensor, Tensor],
    statistics: Iterable[str] | None = None,
    loss: Loss | None = None,
    batch_statistics: bool = False,
    rows: int | None = None,
    label_seed: int = 0,
    archs: Sequence[Mapping[str, Any]] | None = None,
) -> MemoryCache:
    """The statistics of one network or of several, ready to be scored: ``Evaluator(collect_models(..))``.

    ``models``: an iterable may build each network when its turn comes; nothing in a network is changed. ``sites``: site
    (``qkv``, ``proj``, ``fc1``, ``hidden``, ``fc2``; ``conv``, ``act``) -> pattern of module names, such as ``{"qkv":
    "blocks.*.attn.qkv"}``; ``*`` is one part of a dotted name, ``**.`` any path; several patterns are joined, as for
    separate queries, keys and values. Or the name of ready patterns (see `sites.READY`), or None: the first ready ones
    that fit the first network. ``batch``: images ``[n, ..]`` with labels ``[n]``, or images alone (labels are drawn
    from ``label_seed``). ``statistics``: names; None: all of these sites. ``loss``: (logits, labels) -> one number, the
    mean cross-entropy if None. ``batch_statistics``: BatchNorms normalise by the batch, as in training; else by their
    running averages. ``rows``: of an activation at most so many rows are kept. ``archs``: what to remember of each
    network.

    Raises CacheError naming the modules: a pattern that matches nothing, layers that do not line up, a module without a
    weight or a gradient.
    """
    import torch

    from .passes import How

    how = How(batch_statistics=batch_statistics, rows=rows, row_seed=label_seed)
    how = how if loss is None else replace(how, loss=loss)
    found: list[dict[str, list[NDArray[np.float32]]]] = []
    sizes: list[Size] = []
    patterns: Mapping[str, Pattern] | None = None
    for model in [models] if isinstance(models, torch.nn.Module) else models:
        patterns = sites_for(model, sites) if patterns is None else patterns
        segments, size = _one(model, patterns, statistics, batch, label_seed, how)
        found.append(segments)
        sizes.append(size)
    if not found:
        raise CacheError("no network was given")
    return MemoryCache(found, sizes, archs)


def _one(
    model: nn.Module,
    patterns: Mapping[str, Pattern],
    statistics: Iterable[str] | None,
    batch: Batch | Tensor | tuple[Tensor, Tensor],
    label_seed: int,
    how: How,
) -> tuple[dict[str, list[NDArray[np.float32]]], Size]:
    from .passes import measure, one_thread

    layers = find_layers(model, patterns)
    wanted = _wanted(patterns, statistics)
    with one_thread():
        images, labels = _tensors(model, batch)
        flops, classes = _look(model, images[:1])
        if labels is None:
            labels = _labels(len(images), classes, label_seed).to(images.device)
        segments = measure(model, layers, wanted, images, labels, how)
    check_axes(layers, {name: [(len(s), s.shape[1]) for s in parts] for name, parts in segments.items()})
    depth = len(next(iter(layers.values())))
    params = sum(parameter.numel() for parameter in model.parameters())
    return segments, Size(params, flops, depth, _width(segments))


def _wanted(patterns: Mapping[str, Pattern], statistics: Iterable[str] | None) -> tuple[str, ...]:
    if statistics is None:
        return tuple(name for name, known in STATISTICS.items() if known.site in patterns)
    wanted = check_statistics(statistics)
    for name in wanted:
        if STATISTICS[name].site not in patterns:
            raise CacheError(f"the statistic {name!r} needs the site {STATISTICS[name].site!r}: name its pattern")
    if not wanted:
        raise CacheError("no statistic is asked for; name at least one, or none to have all")
    return wanted


def _tensors(model: nn.Module, batch: Batch | Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Images, and labels where they were given, on the device of the network."""
    import torch

    from .inputs import Batch

    device = next(model.parameters()).device
    if isinstance(batch, torch.Tensor):
        return batch.to(device), None
    if isinstance(batch, Batch):
        batch = torch.from_numpy(batch.images.copy()), torch.from_numpy(batch.labels.copy())
    images, labels = batch
    if len(images) != len(labels):
        raise CacheError(f"the batch has {len(images)} images and {len(labels)} labels; expected one for each")
    return images.to(device), labels.to(device)


def _look(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """The multiply-accumulates of one image, and the number of classes."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from .passes import logits_of, ready

    counter = FlopCounterMode(display=False)
    with ready(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        logits = logits_of(model(image))
    return counter.get_total_flops() // 2, logits.shape[-1]


def _labels(count: int, classes: int, seed: int) -> Tensor:
    import torch

    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def _width(segments: Mapping[str, list[NDArray[np.float32]]]) -> float:
    """The mean embedding width, or number of output channels, over the layers, as far as the statistics show it."""
    for axis in ("d", "o"):
        for name, parts in segments.items():
            kind = STATISTICS[name].type
            if axis in (kind.rows, kind.cols):
                place = (kind.rows, kind.cols).index(axis)
                return float(sum(part.shape[place] for part in parts) / len(parts))
    return 0.0
