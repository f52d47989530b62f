"""Fill a cache: find it by the recipe's key, collect what is missing, in worker processes or inline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from .directory import flush, locked, rename
from .estimate import check_room, network_bytes
from .gather import Job, adopt
from .inputs import Batch
from .manifest import INPUT, MANIFEST, NETWORKS, Manifest, network_file
from .recipe import Recipe
from .source import CacheError, check_statistics
from .spaces.base import Space
from .store import Cache
from .worker import results

LIBRARIES = ("numpy", "torch")
"""Their versions are recorded. torch computes the tensors: a cache is extended with the version that began it."""

_SAVE_SECONDS = 2.0
"""At most this often the manifest is rewritten during a collection."""
_SAVE_SHARE = 0.02
"""And for at most this share of the time."""
_START_SECONDS = 2.5
"""Measured: what a worker process needs before its first network (importing torch)."""
_NETWORK_SECONDS = 0.02
"""Measured: what a network costs that has next to no weights."""
_RATE = 1.5e10
"""Measured order of magnitude: multiply-accumulates per second on one core, all passes together."""
_PASSES = 3
"""A backward pass costs about two forward passes."""


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` networks; ``share`` of the estimated work (0 to 1): networks differ in size.

    ``remaining``: seconds that the rest will take, if it goes on as until now.
    """

    done: int
    total: int
    share: float
    remaining: float


def cache_path(recipe: Recipe, root: Path) -> Path:
    """The directory of the recipe's cache. Raises SpaceError for what is not of the space."""
    return Path(root) / recipe.normal().key


def collect(
    recipe: Recipe,
    statistics: Iterable[str],
    root: Path,
    *,
    data: Batch | None = None,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Cache:
    """The cache of the recipe below ``root``, with at least the statistics asked for; what is missing is collected.

    A collection that was killed is continued; the files are the same, byte for byte, with any number of workers.
    ``data``: the batch that the recipe's input names; needed once, then it lies in the cache. ``workers``: processes; 1
    collects in this one. None: as many as CPUs, unless the job is too small to be worth it. ``device``: ``cpu``, or a
    torch device such as ``cuda``, where the passes run then; a cache is extended on the kind that began it.
    ``progress`` is called once per network. Two processes may ask for one cache: the second waits for the first.

    Raises CacheError: unknown statistic, damaged file, a disk that is full or too small, a cache that another version
    of torch began; SpaceError: unknown space, or an architecture that is not of it.
    """
    if workers is not None and workers < 1:
        raise CacheError(f"workers is {workers}; expected at least 1")
    recipe, wanted = recipe.normal(), check_statistics(statistics)
    _check_sites(recipe, wanted)
    _check_data(recipe, data)
    directory = Path(root) / recipe.key
    if (directory / MANIFEST).exists():
        manifest = _read(recipe, directory)  # without the lock: a complete cache may lie where nobody can write
        if not _todo(manifest, directory, wanted):
            return Cache(directory, manifest)
    with locked(directory):
        return Cache(directory, fill(recipe, wanted, directory, data, workers, device, progress))


def fill(
    recipe: Recipe,
    wanted: Iterable[str],
    directory: Path,
    data: Batch | None = None,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Collect what is missing in a directory that is locked; see `collect`. The manifest is then complete."""
    family = recipe.family()
    manifest = _adopted(_begun(recipe, family, directory, device), directory)
    todo = _todo(manifest, directory, tuple(wanted))
    if todo:
        _check_versions(manifest, directory, device)
    jobs = [
        Job(
            str(directory),
            manifest.key,
            i,
            replace(recipe, archs=(recipe.archs[i],)),
            missing,
            manifest.stored[i],
            device,
        )
        for i, missing in todo.items()
    ]
    jobs = [replace(job, present=None) if not (directory / network_file(job.index)).exists() else job for job in jobs]
    cost = {job.index: _seconds(manifest, job) for job in jobs}
    jobs.sort(key=lambda job: -cost[job.index])  # the longest first: the workers end together
    processes = _processes(cost, workers, device)
    growth = {job.index: network_bytes(recipe, family, job.recipe.archs[0], job.missing) for job in jobs}
    old = [job.present.bytes for job in jobs if job.present is not None]
    check_room(directory, {i: count for i, count in growth.items() if count is not None}, old, processes)
    if recipe.given and jobs:
        _keep(data, recipe, directory)
    total, spent = sum(cost.values()), 0.0
    stored, began = list(manifest.stored), time.monotonic()
    saved, pause = began, _SAVE_SECONDS
    with results(jobs, processes) as made:
        for done, (job, temporary, entry) in enumerate(made, 1):
            rename(temporary, directory / network_file(job.index))
            stored[job.index] = entry
            now = time.monotonic()
            if now - saved >= pause:
                replace(manifest, stored=tuple(stored)).write(directory)
                saved = time.monotonic()
                pause = max(_SAVE_SECONDS, (saved - now) / _SAVE_SHARE)
            spent += cost[job.index]
            if progress is not None:
                left = (time.monotonic() - began) * (total - spent) / spent
                progress(Progress(done, len(jobs), spent / total, max(left, 0.0)))
    manifest = replace(manifest, stored=tuple(stored))
    manifest.write(directory)
    flush(directory / NETWORKS)
    flush(directory)
    return manifest


def _check_sites(recipe: Recipe, wanted: Iterable[str]) -> None:
    sites = recipe.family().sites
    for name in wanted:
        if name.partition(".")[0] not in sites:
            raise CacheError(
                f"the networks of {recipe.space} have no statistic {name!r}: their sites are {', '.join(sites)}"
            )


def _check_data(recipe: Recipe, data: Batch | None) -> None:
    if data is None:
        return
    if data.name != recipe.input or len(data) != recipe.batch:
        raise CacheError(
            f"the recipe wants {recipe.batch} images, {recipe.input!r}; given are {len(data)}, {data.name!r}"
        )
    family = recipe.family()
    data.check(family.channels, family.resolution, recipe.classes)


def _keep(data: Batch | None, recipe: Recipe, directory: Path) -> None:
    """The batch that was given lies in the cache afterwards: it can be extended and repaired without the original."""
    place = directory / INPUT
    if place.exists():
        Batch.read(place, recipe.input)
        return
    if data is None:
        raise CacheError(f"the images of {directory} are not there yet: give the batch {recipe.input!r}")
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        data.write(temporary)
    except OSError as error:
        raise CacheError(f"cannot write {place}: {error.strerror}") from error
    rename(temporary, place)


def _read(recipe: Recipe, directory: Path) -> Manifest:
    manifest = Manifest.read(directory)
    if manifest.key != recipe.key:
        raise CacheError(f"{directory} holds the cache {manifest.key}: it was renamed. Give it its own name again")
    return manifest


def _begun(recipe: Recipe, family: Space, directory: Path, device: str) -> Manifest:
    """The manifest on the disk, or that of a cache without networks."""
    if (directory / MANIFEST).exists():
        return _read(recipe, directory)
    sizes = tuple(family.size(arch, recipe.classes) for arch in recipe.archs)
    versions = {library: version(library) for library in LIBRARIES} | {"device": _kind(device)}
    return Manifest(recipe.key, recipe, versions, sizes, (None,) * len(sizes))


def _kind(device: str) -> str:
    """``cpu``, or the name of the accelerator."""
    if device == "cpu":
        return device
    import torch

    try:
        return f"{torch.device(device).type}: {torch.cuda.get_device_name(torch.device(device))}"
    except (RuntimeError, ValueError, AssertionError) as error:  # what torch raises without CUDA, or for a wrong name
        raise CacheError(
            f"the device {device!r} cannot be used: {error}; expected cpu, cuda or cuda:<index>"
        ) from error


def _adopted(manifest: Manifest, directory: Path) -> Manifest:
    """With the files that a collection put in place before it was killed and could list them."""
    stored = list(manifest.stored)
    for i, entry in enumerate(stored):
        path = directory / network_file(i)
        if path.exists() and (entry is None or path.stat().st_size != entry.bytes):
            stored[i] = adopt(directory, manifest.key, i, manifest.sizes[i].depth, manifest.recipe.storage)
    return replace(manifest, stored=tuple(stored))


def _todo(manifest: Manifest, directory: Path, wanted: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    """Network -> its missing statistics; of a file that is gone, also those it had. Files are looked at, not read."""
    todo = {}
    for i, entry in enumerate(manifest.stored):
        had = set(entry.statistics) if entry else set()
        path = directory / network_file(i)
        if entry is None or not path.exists():
            todo[i] = tuple(sorted(had.union(wanted)))
        elif path.stat().st_size != entry.bytes or not had.issuperset(wanted):
            todo[i] = tuple(sorted(set(wanted) - had))
    return todo


def _check_versions(manifest: Manifest, directory: Path, device: str) -> None:
    for what, now in (("torch", version("torch")), ("device", _kind(device))):
        began = manifest.versions[what]
        if began != now:
            raise CacheError(
                f"{directory} was begun with {what} {began} and lacks networks or statistics; {what} {now} may compute "
                f"other numbers. Use {what} {began}, delete the cache, or collect into another folder"
            )


def _seconds(manifest: Manifest, job: Job) -> float:
    """A rough estimate, for the order of the jobs, the share done and the decision for processes."""
    kinds = {name.partition(".")[2] for name in job.missing}
    images = job.recipe.batch * (_PASSES if "g" in kinds else 1 if "a" in kinds else 0)
    if "v" in kinds:
        images += 2 * _PASSES  # one image, in float64
    return _NETWORK_SECONDS + images * manifest.sizes[job.index].flops / _RATE


def _processes(cost: Mapping[int, float], workers: int | None, device: str) -> int:
    """The number of worker processes; 1: none, inline."""
    if workers is None and device != "cpu":
        return 1  # one accelerator, one process that feeds it
    if workers is not None:
        return max(1, min(workers, len(cost)))
    # The CPUs that this process may use; macOS and Windows cannot say, there it is all of them.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpus, total = min(cpus, len(cost)), sum(cost.values())
    return cpus if cpus > 1 and _START_SECONDS + total / cpus < total else 1
