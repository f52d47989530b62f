"""How fast statistics are collected, and what share of the time is forward and backward passes and nothing else."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .collect import Progress, collect
from .gather import Job, gather
from .manifest import NETWORKS
from .recipe import Recipe, find_space
from .sites import ACTIVATIONS, find_layers
from .spaces.base import Space

if TYPE_CHECKING:
    from torch import Tensor

SHARED = 4
"""So many networks are measured for the share."""
REPEATS = 3
"""The smaller of so many times is taken."""


@dataclass(frozen=True)
class Speed:
    """``per_second``: networks, all statistics, with ``workers`` processes, once these run.

    ``rows``: of an activation at most so many are kept. ``seconds``: of one processor, per network, in one process.
    ``share``: of these, what the bare passes take (the cross-entropy's and SynFlow's, forward and backward, down to the
    same tensors). ``bytes``: on the disk, per network.
    """

    space: str
    networks: int
    batch: int
    rows: int | None
    workers: int
    per_second: float
    seconds: float
    share: float
    bytes: int


def speed(
    space: str, *, networks: int = 12, batch: int = 2, rows: int | None = None, workers: int = 2, seed: int = 0
) -> Speed:
    """Collect all statistics of random networks into a temporary folder, and time it. Raises CacheError, SpaceError."""
    family, rng = find_space(space), np.random.default_rng(seed)
    archs = tuple(family.sample(rng) for _ in range(max(networks, 2 * workers)))
    recipe = Recipe(space, archs, family.classes, batch=batch, rows=rows)
    times: list[float] = []

    def note(_: Progress) -> None:
        times.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        cache = collect(recipe, family.statistics(), Path(folder), workers=workers, progress=note)
        seconds, share = _share(recipe, family, Path(folder))
    # The workers start together and end one after another: what comes after the first results of all is steady.
    per_second = (len(times) - workers) / max(times[-1] - times[workers - 1], 1e-9)
    return Speed(space, len(archs), batch, rows, workers, per_second, seconds, share, cache.bytes // len(archs))


def _share(recipe: Recipe, family: Space, folder: Path) -> tuple[float, float]:
    """Processor seconds per network, and the share of the bare passes."""
    (folder / NETWORKS).mkdir()
    passes = whole = 0.0
    for arch in recipe.archs[: SHARED + 1]:  # the first warms up
        one = replace(recipe, archs=(arch,))
        job = Job(str(folder), one.key, 0, one, family.statistics(), None)
        # One after the other: what else the machine does slows down both.
        turns = [(_cpu(partial(gather, job)), _bare(one, family)) for _ in range(REPEATS)]
        all_of_it, bare = (min(times) for times in zip(*turns, strict=True))
        if arch is not recipe.archs[0]:
            whole, passes = whole + all_of_it, passes + bare
    return whole / (len(recipe.archs[: SHARED + 1]) - 1), passes / whole


def _bare(recipe: Recipe, family: Space) -> float:
    """Processor time of the passes of one network, as short as they can be written."""
    import torch
    from torch.nn import functional as F

    from .noise import noise
    from .passes import normalising, one_thread

    model = family.build(recipe.archs[0], seed=recipe.seed, classes=recipe.classes).eval()
    images, labels = noise(recipe.batch, family.channels, family.resolution, recipe.classes, recipe.input_seed)
    layers = find_layers(model, family.sites)
    outputs: list[Tensor] = []
    modules = {site: [model.get_submodule(name) for names in layers[site] for name in names] for site in family.sites}
    weights = [m.get_parameter("weight") for site in modules.keys() - ACTIVATIONS for m in modules[site]]
    hooks = [
        module.register_forward_hook(lambda _m, _i, output: outputs.append(output))
        for site in modules.keys() & ACTIVATIONS
        for module in modules[site]
    ]

    def descend(root: Callable[[], Tensor]) -> float:
        outputs.clear()
        return _cpu(lambda: torch.autograd.grad(root(), [*weights, *outputs], allow_unused=True))

    with one_thread():
        with normalising(model, family.batch_statistics):
            seconds = descend(lambda: F.cross_entropy(model(images), labels))
        for hook in hooks:
            hook.remove()
        model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.abs_()
        one = torch.ones_like(images[:1], dtype=torch.float64)
        return seconds + descend(lambda: model(one).sum())


def _cpu(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin
