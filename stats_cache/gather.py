"""One network from its recipe to its file: build, measure, describe, write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import tensorfile
from .manifest import Described, Recipe, Stored, find_space, network_file
from .source import CacheError, facts_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Job:
    """Network ``index`` of cache ``key`` in ``directory``: collect ``missing``, keep what its file has (``present``).

    ``recipe`` is the cache's, cut down to this one architecture.
    """

    directory: str
    key: str
    index: int
    recipe: Recipe
    missing: tuple[str, ...]
    present: Stored | None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        present = self.present.to_json() if self.present else None
        return asdict(self) | {"recipe": self.recipe.to_json(), "present": present}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Job:
        """The reverse of ``to_json``."""
        return Job(
            values["directory"],
            values["key"],
            values["index"],
            Recipe.from_json(values["recipe"]),
            tuple(values["missing"]),
            Stored.from_json(values["present"]) if values["present"] else None,
        )


def about(key: str, index: int) -> dict[str, str]:
    """The metadata of a network's file: where it belongs."""
    return {"format": "proxforge", "key": key, "network": str(index)}


def gather(job: Job) -> tuple[Path, Stored]:
    """Collect one network into a temporary file beside its place, for the caller to rename: one process rules a cache.

    Raises CacheError: the file to extend is damaged, the network is not the one collected before, the disk is full.
    """
    from .passes import find_layers, measure, noise, one_thread

    recipe, place = job.recipe, Path(job.directory) / network_file(job.index)
    space, (arch,) = find_space(recipe.space), recipe.archs
    with one_thread():
        model = space.build(arch, seed=recipe.seed, classes=recipe.classes)
        layers = find_layers(model, space.sites)
        depth = space.size(arch, recipe.classes).depth
        for site, modules in layers.items():
            if len(modules) != depth:
                raise CacheError(
                    f"site {site!r} of network {job.index} ({recipe.space}) has {len(modules)} modules ({modules[0]} "
                    f".. {modules[-1]}); the space says {depth} layers"
                )
        images, labels = noise(recipe.batch, space.channels, space.resolution, recipe.classes, recipe.input_seed)
        old = _present(place, job)
        known = {name for name in old if name.endswith(".w")}
        measured = measure(model, layers, known.union(job.missing), images, labels)
    for name in known:
        _check_same(place, name, measured.pop(name), old[name])
    described = {name: _described(segments) for name, segments in measured.items()}
    tensors = {
        f"{name}/{layer}": segment
        for name, segments in sorted((old | measured).items())
        for layer, segment in enumerate(segments)
    }
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        size, sha256 = tensorfile.write(temporary, tensors, about(job.key, job.index))
    except OSError as error:
        need = sum(tensor.nbytes for tensor in tensors.values())
        raise CacheError(
            f"cannot write network {job.index} ({need / 1e6:.0f} MB) to {place.parent}: {error.strerror}. What was "
            "collected before is kept: make room and collect again"
        ) from error
    present = job.present.statistics if job.present else {}
    return temporary, Stored(size, sha256, {**present, **described})


def adopt(directory: Path, key: str, index: int, layers: int) -> Stored:
    """Describe a network's file that no manifest lists, after checking it. Raises CacheError when it is damaged."""
    path = directory / network_file(index)
    header, sha256 = tensorfile.check_own(path, about(key, index))
    mapped = tensorfile.Mapped(path, header)
    names = sorted({name.partition("/")[0] for name in header.shapes})
    if list(header.shapes) != [f"{name}/{layer}" for name in names for layer in range(layers)]:
        raise tensorfile.damaged(path, f"its tensors are not those of {layers} layers")
    segments = {name: [mapped.view(f"{name}/{layer}") for layer in range(layers)] for name in names}
    statistics = {name: _described(found) for name, found in segments.items()}
    return Stored(header.file_bytes, sha256, statistics)


def _present(place: Path, job: Job) -> dict[str, list[NDArray[np.float32]]]:
    """The segments that the file holds, after checking it whole: damage must not get a new checksum."""
    if job.present is None:
        return {}
    header, sha256 = tensorfile.check_own(place, about(job.key, job.index))
    if sha256 != job.present.sha256:
        raise tensorfile.damaged(place, "its checksum is not that of the manifest")
    mapped = tensorfile.Mapped(place, header)
    return {
        name: [mapped.view(f"{name}/{layer}") for layer in range(len(described.shapes))]
        for name, described in job.present.statistics.items()
    }


def _check_same(place: Path, name: str, new: list[NDArray[np.float32]], old: list[NDArray[np.float32]]) -> None:
    """The network built today must be the one whose weights are in the cache."""
    import numpy as np

    if not all(np.array_equal(a, b) for a, b in zip(new, old, strict=True)):
        raise CacheError(
            f"cannot extend {place}: the network is built with other weights ({name}) than it holds. The space or a "
            "library has changed since; delete the cache, or collect into another folder"
        )


def _described(segments: list[NDArray[np.float32]]) -> Described:
    return Described(tuple(map(facts_of, segments)))
