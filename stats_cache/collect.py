"""Fill a cache: find it by the recipe's key, collect what is missing, in worker processes or inline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

from filelock import FileLock

from .gather import Job, adopt, gather
from .manifest import MANIFEST, NETWORKS, Manifest, Recipe, Stored, find_space, network_file
from .source import CacheError, check_statistics
from .store import Cache
from .worker import Worker

LIBRARIES = ("numpy", "torch")
"""Their versions are recorded. torch computes the tensors: a cache is extended with the version that began it."""

_SAVE_SECONDS = 2.0
"""At most this often the manifest is rewritten during a collection."""
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
    """``done`` of ``total`` networks; ``share`` of the estimated work (0 to 1): networks differ in size."""

    done: int
    total: int
    share: float


def cache_path(recipe: Recipe, root: Path) -> Path:
    """The directory of the recipe's cache. Raises SpaceError for what is not of the space."""
    return Path(root) / recipe.normal().key


def collect(
    recipe: Recipe,
    statistics: Iterable[str],
    root: Path,
    *,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Cache:
    """The cache of the recipe below ``root``, with at least the statistics asked for; what is missing is collected.

    A collection that was killed is continued; the files are the same, byte for byte, with any number of workers.
    ``workers``: processes; 1 collects in this one. None: as many as CPUs, unless the job is too small to be worth it.
    ``progress`` is called once per network. Two processes may ask for one cache: the second waits for the first.

    Raises CacheError: unknown statistic, damaged file, full disk, a cache that another version of torch began;
    SpaceError: unknown space, or an architecture that is not of it.
    """
    if workers is not None and workers < 1:
        raise CacheError(f"workers is {workers}; expected at least 1")
    recipe, wanted = recipe.normal(), check_statistics(statistics)
    directory = Path(root) / recipe.key
    if (directory / MANIFEST).exists():
        manifest = _read(recipe, directory)  # without the lock: a complete cache may lie where nobody can write
        if not _todo(manifest, directory, wanted):
            return Cache(directory, manifest)
    with _locked(directory):
        return Cache(directory, _fill(recipe, wanted, directory, workers, progress))


def _fill(
    recipe: Recipe,
    wanted: tuple[str, ...],
    directory: Path,
    workers: int | None,
    progress: Callable[[Progress], None] | None,
) -> Manifest:
    manifest = _adopted(_begun(recipe, directory), directory)
    todo = _todo(manifest, directory, wanted)
    if todo:
        _check_versions(manifest, directory)
    jobs = [
        Job(str(directory), manifest.key, i, replace(recipe, archs=(recipe.archs[i],)), missing, manifest.stored[i])
        for i, missing in todo.items()
    ]
    jobs = [replace(job, present=None) if not _file(directory, job.index).exists() else job for job in jobs]
    cost = {job.index: _seconds(manifest, job) for job in jobs}
    jobs.sort(key=lambda job: -cost[job.index])  # the longest first: the workers end together
    total, spent = sum(cost.values()), 0.0
    stored, saved = list(manifest.stored), time.monotonic()
    with _results(jobs, _processes(cost, workers)) as results:
        for done, (job, temporary, entry) in enumerate(results, 1):
            _rename(temporary, _file(directory, job.index))
            stored[job.index] = entry
            if time.monotonic() - saved >= _SAVE_SECONDS:
                replace(manifest, stored=tuple(stored)).write(directory)
                saved = time.monotonic()
            spent += cost[job.index]
            if progress is not None:
                progress(Progress(done, len(jobs), spent / total))
    manifest = replace(manifest, stored=tuple(stored))
    manifest.write(directory)
    _flush(directory / NETWORKS)
    _flush(directory)
    return manifest


def _read(recipe: Recipe, directory: Path) -> Manifest:
    manifest = Manifest.read(directory)
    if manifest.key != recipe.key:
        raise CacheError(f"{directory} holds the cache {manifest.key}: it was renamed. Give it its own name again")
    return manifest


def _begun(recipe: Recipe, directory: Path) -> Manifest:
    """The manifest on the disk, or that of a cache without networks."""
    if (directory / MANIFEST).exists():
        return _read(recipe, directory)
    space = find_space(recipe.space)
    sizes = tuple(space.size(arch, recipe.classes) for arch in recipe.archs)
    versions = {library: version(library) for library in LIBRARIES}
    return Manifest(recipe.key, recipe, versions, sizes, (None,) * len(sizes))


def _adopted(manifest: Manifest, directory: Path) -> Manifest:
    """With the files that a collection put in place before it was killed and could list them."""
    stored = list(manifest.stored)
    for i, entry in enumerate(stored):
        path = _file(directory, i)
        if path.exists() and (entry is None or path.stat().st_size != entry.bytes):
            stored[i] = adopt(directory, manifest.key, i, manifest.sizes[i].depth)
    return replace(manifest, stored=tuple(stored))


def _todo(manifest: Manifest, directory: Path, wanted: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    """Network -> its missing statistics; of a file that is gone, also those it had. Files are looked at, not read."""
    todo = {}
    for i, entry in enumerate(manifest.stored):
        had = set(entry.statistics) if entry else set()
        path = _file(directory, i)
        if entry is None or not path.exists():
            todo[i] = tuple(sorted(had.union(wanted)))
        elif path.stat().st_size != entry.bytes or not had.issuperset(wanted):
            todo[i] = tuple(sorted(set(wanted) - had))
    return todo


def _check_versions(manifest: Manifest, directory: Path) -> None:
    began, now = manifest.versions["torch"], version("torch")
    if began != now:
        raise CacheError(
            f"{directory} was begun with torch {began} and lacks networks or statistics; torch {now} may compute other "
            f"numbers. Install torch {began}, delete the cache, or collect into another folder"
        )


def _seconds(manifest: Manifest, job: Job) -> float:
    """A rough estimate, for the order of the jobs, the share done and the decision for processes."""
    kinds = {name.partition(".")[2] for name in job.missing}
    images = job.recipe.batch * (_PASSES if "g" in kinds else 1 if "a" in kinds else 0)
    if "v" in kinds:
        images += 2 * _PASSES  # one image, in float64
    return _NETWORK_SECONDS + images * manifest.sizes[job.index].flops / _RATE


def _processes(cost: Mapping[int, float], workers: int | None) -> int:
    """The number of worker processes; 1: none, inline."""
    if workers is not None:
        return max(1, min(workers, len(cost)))
    # The CPUs that this process may use; macOS and Windows cannot say, there it is all of them.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpus, total = min(cpus, len(cost)), sum(cost.values())
    return cpus if cpus > 1 and _START_SECONDS + total / cpus < total else 1


Result = tuple[Job, Path, Stored]


@contextmanager
def _results(jobs: list[Job], processes: int) -> Iterator[Iterator[Result]]:
    """The jobs' results as they come; the workers have ended when the context has."""
    if processes == 1:
        yield ((job, *gather(job)) for job in jobs)
        return
    workers: list[Worker] = []
    idle: SimpleQueue[Worker] = SimpleQueue()

    def ask(job: Job) -> Result:
        worker = idle.get()
        try:
            return (job, *worker.gather(job))
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(processes) as threads:
        try:
            for _ in range(processes):
                workers.append(Worker())
                idle.put(workers[-1])
            futures = [threads.submit(ask, job) for job in jobs]
            yield (future.result() for future in as_completed(futures))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.kill()
    for worker in workers:
        worker.close()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Alone with the directory, which exists then; temporary files, also a killed collection's, are gone afterwards."""
    lock = FileLock(directory.with_name(f"{directory.name}.lock"))
    try:
        (directory / NETWORKS).mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _clean(directory)
    except OSError as error:
        raise CacheError(f"cannot collect into {directory}: {error.strerror}") from error
    try:
        yield
    finally:
        _clean(directory)
        lock.release()


def _clean(directory: Path) -> None:
    for leftover in (*directory.glob("*.tmp"), *directory.glob(f"{NETWORKS}/*.tmp")):
        leftover.unlink(missing_ok=True)


def _rename(temporary: Path, place: Path) -> None:
    try:
        temporary.replace(place)
    except OSError as error:
        raise CacheError(f"cannot write {place}: {error.strerror}") from error


def _file(directory: Path, index: int) -> Path:
    return directory / network_file(index)


def _flush(directory: Path) -> None:
    """Make the renames in the directory durable (POSIX; Windows cannot open a directory and needs no such thing)."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
