"""One network from its recipe to its file: build, measure, describe, write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import tensorfile
from .encoding import decode, encode
from .facts import facts_of_all
from .inputs import Batch
from .manifest import INPUT, Described, Stored, network_file
from .recipe import Recipe
from .source import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from .tensorfile import Header

    Segments = dict[str, list[NDArray[np.float32]]]
    Parts = list[tuple[NDArray[Any], int]]
    """The segments of a statistic as they are kept in a file, each with its exponent."""
    Kept = dict[str, Parts]

EXPONENTS = "exponents"
"""In the label of a float16 file: the exponents of its tensors, in their order, as a JSON list."""


@dataclass(frozen=True)
class Job:
    """Network ``index`` of cache ``key`` in ``directory``: collect ``missing``, keep what its file has (``present``).

    ``recipe`` is the cache's, cut down to this one architecture. ``device``: where the passes run.
    """

    directory: str
    key: str
    index: int
    recipe: Recipe
    missing: tuple[str, ...]
    present: Stored | None
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        present = self.present.to_json() if self.present else None
        plain = {name: getattr(self, name) for name in ("directory", "key", "index", "missing", "device")}
        return plain | {"recipe": self.recipe.to_json(), "present": present}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Job:
        """The reverse of ``to_json``."""
        present = Stored.from_json(values["present"]) if values["present"] else None
        recipe, missing = Recipe.from_json(values["recipe"]), tuple(values["missing"])
        return Job(**{**values, "recipe": recipe, "missing": missing, "present": present})


def label(key: str, index: int) -> dict[str, str]:
    """What a network's file says it is: where it belongs."""
    return {"format": "proxforge", "key": key, "network": str(index)}


def gather(job: Job) -> tuple[Path, Stored]:
    """Collect one network into a temporary file beside its place, for the caller to rename: one process rules a cache.

    Raises CacheError: the file to extend is damaged, the network is not the one collected before, the disk is full.
    """
    place = Path(job.directory) / network_file(job.index)
    old = _present(place, job)
    known = {name for name in old if name.endswith(".w")}
    wanted = known.union(job.missing)
    measured = _measured(job, wanted) if wanted else {}
    storage = job.recipe.storage
    kept = {name: [encode(segment, storage) for segment in found] for name, found in measured.items()}
    for name in known:
        _check_same(place, name, kept.pop(name), old[name])
    described = _described(kept, storage)
    tensors, exponents = {}, []
    for name, parts in sorted((old | kept).items()):
        for layer, (tensor, exponent) in enumerate(parts):
            tensors[f"{name}/{layer}"] = tensor
            exponents.append(exponent)
    about = label(job.key, job.index) | ({EXPONENTS: json.dumps(exponents)} if storage == "float16" else {})
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        size, sha256 = tensorfile.write(temporary, tensors, about)
    except OSError as error:
        need = sum(tensor.nbytes for tensor in tensors.values())
        raise CacheError(
            f"cannot write network {job.index} ({need / 1e6:.0f} MB) to {place.parent}: {error.strerror}. What was "
            "collected before is kept: make room and collect again"
        ) from error
    present = job.present.statistics if job.present else {}
    return temporary, Stored(size, sha256, {**present, **described})


def _measured(job: Job, statistics: set[str]) -> Segments:
    """Build the network and measure these statistics."""
    from .passes import How, full_precision, measure, one_thread
    from .sites import check_axes, find_layers

    recipe = job.recipe
    space, (arch,) = recipe.family(), recipe.archs
    how = How(
        batch_statistics=space.batch_statistics,
        idle_modules=space.idle_modules,
        rows=recipe.rows,
        row_seed=recipe.input_seed,
    )
    with one_thread():
        model = space.build(arch, seed=recipe.seed, classes=recipe.classes)
        layers = find_layers(model, space.sites)
        depth = space.size(arch, recipe.classes).depth
        for site, modules in layers.items():
            if len(modules) != depth:
                raise CacheError(
                    f"site {site!r} of network {job.index} ({recipe.space}) has {len(modules)} modules "
                    f"({modules[0][0]} .. {modules[-1][0]}); the space says {depth} layers"
                )
        images, labels = _inputs(recipe, job.directory)
        if job.device != "cpu":
            model, images, labels = model.to(job.device), images.to(job.device), labels.to(job.device)
        with full_precision():
            measured = measure(model, layers, statistics, images, labels, how)
    check_axes(layers, {name: [(len(s), s.shape[1]) for s in found] for name, found in measured.items()})
    return measured


def _inputs(recipe: Recipe, directory: str) -> tuple[Tensor, Tensor]:
    if recipe.given:
        return _given(str(Path(directory) / INPUT), recipe.input)
    space = recipe.family()
    return _made(recipe.input, recipe.batch, space.channels, space.resolution, recipe.classes, recipe.input_seed)


@lru_cache(maxsize=1)
def _made(kind: str, batch: int, channels: int, side: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images and labels that every network of a recipe gets; made once in a process."""
    from .noise import noise, ones

    return (ones if kind == "ones" else noise)(batch, channels, side, classes, seed)


@lru_cache(maxsize=1)
def _given(path: str, name: str) -> tuple[Tensor, Tensor]:
    """The same, from the cache's own copy of the batch that was given."""
    import torch

    batch = Batch.read(Path(path), name)
    return torch.from_numpy(batch.images.copy()), torch.from_numpy(batch.labels.copy())


def adopt(directory: Path, key: str, index: int, layers: int, storage: str) -> Stored:
    """Describe a network's file that no manifest lists, after checking it. Raises CacheError when it is damaged."""
    path = directory / network_file(index)
    header = tensorfile.check(path, label(key, index))
    names = sorted({name.partition("/")[0] for name in header.entries})
    if list(header.entries) != [f"{name}/{layer}" for name in names for layer in range(layers)]:
        raise tensorfile.damaged(path, f"its tensors are not those of {layers} layers")
    kept = _kept(path, header, names, layers)
    return Stored(header.file_bytes, header.sha256, _described(kept, storage))


def exponents(header: Header) -> Mapping[str, int]:
    """Tensor -> the exponent by which it is scaled: of a float16 file its own, of others 0."""
    if EXPONENTS not in header.label:
        return dict.fromkeys(header.entries, 0)
    return dict(zip(header.entries, json.loads(header.label[EXPONENTS]), strict=True))


def _kept(path: Path, header: Header, names: Iterable[str], layers: int) -> Kept:
    mapped, scaled = tensorfile.Mapped(path, header), exponents(header)
    tensors = {name: [f"{name}/{layer}" for layer in range(layers)] for name in names}
    return {name: [(mapped.view(t), scaled[t]) for t in found] for name, found in tensors.items()}


def _present(place: Path, job: Job) -> Kept:
    """What the file holds, after checking it whole: damage must not get a new checksum."""
    if job.present is None:
        return {}
    header = tensorfile.check(place, label(job.key, job.index))
    if header.sha256 != job.present.sha256:
        raise tensorfile.damaged(place, "its checksum is not that of the manifest")
    statistics = job.present.statistics
    return _kept(place, header, statistics, max((len(d.plain) for d in statistics.values()), default=0))


def _check_same(place: Path, name: str, new: Parts, old: Parts) -> None:
    """The network built today must be the one whose weights are in the cache."""
    import numpy as np

    if not all(np.array_equal(a, b) and e == f for (a, e), (b, f) in zip(new, old, strict=True)):
        raise CacheError(
            f"cannot extend {place}: the network is built with other weights ({name}) than it holds. The space or a "
            "library has changed since; delete the cache, or collect into another folder"
        )


def _described(kept: Kept, storage: str) -> dict[str, Described]:
    """The facts of the elements as they will be read, after rounding."""
    segments = [decode(tensor, storage, exponent) for parts in kept.values() for tensor, exponent in parts]
    facts = iter(facts_of_all(segments))
    return {name: Described(tuple(next(facts).to_json() for _ in parts)) for name, parts in kept.items()}
