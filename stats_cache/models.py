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
    weight or a gradient; and for a batch or a loss that is none. What the network itself raises is passed on.
    """
    import torch

    from .passes import How

    how = How(batch_statistics=batch_statistics, rows=rows, row_seed=label_seed)
    how = how if loss is None else replace(how, loss=loss)
    found: list[dict[str, list[NDArray[np.float32]]]] = []
    sizes: list[Size] = []
    patterns: Mapping[str, Pattern] | None = None
    if rows is not None and rows < 1:
        raise CacheError(f"rows is {rows}; expected at least 1, or None for all")
    for model in [models] if isinstance(models, torch.nn.Module) else models:
        if not isinstance(model, torch.nn.Module):
            raise CacheError(f"a network is a {type(model).__name__}; expected a torch.nn.Module")
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
    from torch.nn.functional import cross_entropy

    from .passes import measure, one_thread

    layers = find_layers(model, patterns)
    wanted = _wanted(patterns, statistics)
    with one_thread():
        images, labels = _tensors(model, batch)
        flops, classes = _look(model, images[:1])
        if labels is None:
            labels = _labels(len(images), classes, label_seed).to(images.device)
        elif how.loss is cross_entropy:
            _check_labels(labels, classes)
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

    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Batch):
        batch = torch.from_numpy(batch.images.copy()), torch.from_numpy(batch.labels.copy())
    given = (batch,) if isinstance(batch, torch.Tensor) else tuple(batch) if isinstance(batch, tuple | list) else ()
    if not 1 <= len(given) <= 2 or not all(isinstance(part, torch.Tensor) and part.ndim for part in given):
        raise CacheError(
            f"the batch is a {type(batch).__name__}; expected a tensor of images [n, ..], a pair of images and labels "
            "[n], or a Batch"
        )
    if not len(given[0]):
        raise CacheError("the batch has no images; expected at least one")
    if len(given) == 1:
        return given[0].to(device), None
    images, labels = given
    if len(images) != len(labels):
        raise CacheError(f"the batch has {len(images)} images and {len(labels)} labels; expected one for each")
    return images.to(device), labels.to(device)


def _check_labels(labels: Tensor, classes: int) -> None:
    """Raises CacheError for labels of which there is no cross-entropy."""
    if labels.is_floating_point() or labels.is_complex():
        raise CacheError(f"the labels are {labels.dtype}; expected whole numbers, or a loss of your own")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise CacheError(
            f"the labels go from {int(labels.min())} to {int(labels.max())}; the network has the classes 0 to "
            f"{classes - 1}"
        )


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
