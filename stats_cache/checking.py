"""What is wrong with a cache, and how to mend it: verify, repair, prune."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from . import tensorfile
from .collect import Progress, fill
from .directory import locked
from .gather import EXPONENTS, exponents, label
from .inputs import Batch
from .manifest import INPUT, MANIFEST, NETWORKS, Manifest, SchemaError, Stored, network_file
from .recipe import Recipe
from .source import CacheError, check_statistics
from .tensorfile import damaged

DAMAGED = ("checksum", "truncated")
"""The kinds of problem where a file must be made anew."""


@dataclass(frozen=True)
class Problem:
    """What ``verify`` found: the file (relative to the cache), one word, a sentence.

    Kinds: ``manifest`` (missing or damaged), ``incomplete`` (a network not collected yet), ``missing``, ``truncated``
    (another size), ``checksum``, ``unlisted`` (whole, but newer than the manifest: a collection was interrupted),
    ``foreign``; ``repair`` (why `repair` could not mend the cache).
    """

    file: str
    kind: str
    message: str


def verify(path: Path | str) -> list[Problem]:
    """Read every byte of a cache: everything in it that is not as it was written. Empty: all is well."""
    path = Path(path)
    try:
        manifest = Manifest.read(path)
    except CacheError as error:
        return [Problem(MANIFEST, "manifest", error.message)]
    stranger = _of_another(path, manifest)
    if stranger is not None:
        return [stranger]
    problems = []
    for i, entry in enumerate(manifest.stored):
        file = network_file(i)
        problem = _check(path / file, entry, label(manifest.key, i))
        if problem is not None:
            problems.append(Problem(file, *problem))
    expected = {MANIFEST, NETWORKS, *(network_file(i) for i in range(len(manifest.stored)))}
    if manifest.recipe.given:
        expected.add(INPUT)
        try:
            Batch.read(path / INPUT, manifest.recipe.input)
        except CacheError as error:
            kind = "checksum" if (path / INPUT).exists() else "missing"
            problems.append(Problem(INPUT, kind, error.message))
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if name not in expected:
            problems.append(Problem(name, "foreign", f"{found} is not a part of the cache; delete it"))
    return problems


def _of_another(path: Path, manifest: Manifest) -> Problem | None:
    """The problem of a sound manifest that was put in the place of this cache's: no file is of it."""
    if manifest.key == path.name or not _has_files_of(path, path.name, len(manifest.stored)):
        return None
    message = (
        f"{path / MANIFEST} is that of the cache {manifest.key}; the files beside it are of {path.name}. Delete this "
        "file and collect again: the networks' files carry their own checksums and are kept"
    )
    return Problem(MANIFEST, "manifest", message)


def _has_files_of(path: Path, key: str, networks: int) -> bool:
    """Whether a file in this directory says that it is of the cache with that key."""
    for index in range(networks):
        try:
            tensorfile.read_header(path / network_file(index), label(key, index))
        except CacheError:
            continue
        return True
    return False


def glance(path: Path | str) -> list[Problem]:
    """What is wrong with a cache as far as can be seen without reading its files: some are not there, or too short."""
    path = Path(path)
    try:
        manifest = Manifest.read(path)
    except CacheError as error:
        return [Problem(MANIFEST, "manifest", error.message)]
    problems = []
    for i, entry in enumerate(manifest.stored):
        file = path / network_file(i)
        if entry is None:
            problems.append(Problem(network_file(i), "incomplete", f"{file} is not collected yet; collect again"))
        elif not file.exists():
            problems.append(Problem(network_file(i), "missing", f"{file} is missing; collect again to make it anew"))
        elif file.stat().st_size != entry.bytes:
            message = f"{file} has {file.stat().st_size} bytes; the manifest says {entry.bytes}"
            problems.append(Problem(network_file(i), "truncated", message))
    return problems


def repair(
    path: Path | str,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> tuple[list[Problem], list[Problem]]:
    """Mend a cache: damaged files are deleted and collected again, with every statistic that any network has.

    Returns what was wrong, and what still is: files that are no part of a cache are somebody's and stay. A damaged
    manifest is made anew from its own recipe, where that can still be read; else nothing is touched. Raises CacheError
    where something else is in the way, such as a full disk.
    """
    path = Path(path)
    before = verify(path)
    broken = [problem for problem in before if problem.kind != "foreign"]
    if not broken:
        return before, before
    for problem in broken:
        if (path / problem.file).exists() and not (path / problem.file).is_file():
            return before, before  # a directory, say: somebody's
    with locked(path):
        if broken[0].kind == "manifest":
            try:
                recipe, statistics = _salvaged(path, broken[0])
            except CacheError as error:
                return before, [Problem(MANIFEST, "manifest", error.message)]
            (path / MANIFEST).unlink(missing_ok=True)
        else:
            manifest = Manifest.read(path)
            recipe = manifest.recipe
            statistics = {name for entry in manifest.stored if entry for name in entry.statistics}
        for index in range(len(recipe.archs)):
            file = path / network_file(index)
            if file.exists() and not _whole(file, recipe, index, [p.file for p in broken if p.kind in DAMAGED]):
                file.unlink()
        fill(recipe, check_statistics(statistics), path, None, workers, device, progress)
    return before, verify(path)


def prune(root: Path | str, *, drop: Iterable[str] = (), dry_run: bool = False) -> list[Path]:
    """Delete below ``root`` (a cache, or a folder of caches) what no cache needs; returns what was, or would be.

    That is: the temporary files of killed collections, locks without a cache, caches of another schema or without any
    network and a sound manifest, and from every file the statistics in ``drop``. A cache that is being filled is left
    alone.
    """
    root, dropped = Path(root), check_statistics(drop)
    orphans = [lock for lock in sorted(root.glob("*.lock")) if not lock.with_suffix("").exists()]
    gone = _unlinked(orphans, dry_run)
    caches = (
        [root] if (root / NETWORKS).is_dir() else sorted(p.parent for p in root.glob(f"*/{NETWORKS}") if p.is_dir())
    )
    for cache in caches:
        lock = FileLock(cache.with_name(f"{cache.name}.lock"))
        try:
            with lock.acquire(blocking=False):
                gone += _pruned(cache, dropped, dry_run)
        except Timeout:
            continue
        if not cache.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
    return gone


def _pruned(cache: Path, dropped: Sequence[str], dry_run: bool) -> list[Path]:
    leftovers = sorted([*cache.glob("*.tmp"), *cache.glob(f"{NETWORKS}/*.tmp")])
    try:
        manifest = Manifest.read(cache)
    except SchemaError:
        return _removed(cache, dry_run)
    except CacheError:
        if not any(cache.glob(f"{NETWORKS}/*.safetensors")):
            return _removed(cache, dry_run)
        return _unlinked(leftovers, dry_run)  # to be continued, or mended by `repair`
    gone = _unlinked(leftovers, dry_run)
    stored = list(manifest.stored)
    for i, entry in enumerate(stored):
        if entry is not None and not entry.statistics.keys().isdisjoint(dropped):
            gone.append(cache / network_file(i))
            if not dry_run:
                stored[i] = _without(cache / network_file(i), manifest, i, entry, dropped)
    if not dry_run and stored != list(manifest.stored):
        replace(manifest, stored=tuple(stored)).write(cache)
    return gone


def _without(path: Path, manifest: Manifest, index: int, entry: Stored, dropped: Sequence[str]) -> Stored | None:
    """The file without these statistics, in place; no file where none is left."""
    kept = {name: described for name, described in entry.statistics.items() if name not in dropped}
    if not kept:
        path.unlink(missing_ok=True)
        return None
    about = label(manifest.key, index)
    header = tensorfile.check(path, about)
    mapped = tensorfile.Mapped(path, header)
    names = [name for name in header.entries if name.partition("/")[0] in kept]
    if EXPONENTS in header.label:
        scaled = exponents(header)
        about[EXPONENTS] = json.dumps([scaled[name] for name in names])
    temporary = path.with_name(f"{path.name}.tmp")
    size, sha256 = tensorfile.write(temporary, {name: mapped.view(name) for name in names}, about)
    temporary.replace(path)
    return Stored(size, sha256, kept)


def _unlinked(files: list[Path], dry_run: bool) -> list[Path]:
    for file in files:
        if not dry_run:
            file.unlink(missing_ok=True)
    return files


def _removed(cache: Path, dry_run: bool) -> list[Path]:
    if not dry_run:
        shutil.rmtree(cache)
    return [cache]


def _whole(file: Path, recipe: Recipe, index: int, named: Sequence[str]) -> bool:
    if network_file(index) in named:
        return False
    try:
        tensorfile.check(file, label(recipe.key, index))
    except CacheError:
        return False
    return True


def _salvaged(path: Path, problem: Problem) -> tuple[Recipe, set[str]]:
    """The recipe in a damaged manifest, if it is the directory's or its files', and the statistics of the files."""
    try:
        lines = (path / MANIFEST).read_bytes().decode("utf-8", "replace").splitlines()
        (line,) = [line for line in lines if line.startswith('"recipe":')]
        recipe = Recipe.from_json(json.loads(line.removeprefix('"recipe":').removesuffix(",")))
    except (OSError, ValueError, CacheError) as error:
        raise CacheError(f"{problem.message} (its recipe cannot be read either: {error})") from error
    if recipe.key != path.name and not _has_files_of(path, recipe.key, len(recipe.archs)):
        raise CacheError(f"{problem.message} (its recipe is not that of the directory either)")
    names: set[str] = set()
    for index in range(len(recipe.archs)):
        file = path / network_file(index)
        if file.exists():
            try:
                header = tensorfile.check(file, label(recipe.key, index))
            except CacheError:
                continue  # deleted and collected again later
            names |= {name.partition("/")[0] for name in header.entries}
    return recipe, names


def _check(path: Path, entry: Stored | None, about: Mapping[str, str]) -> tuple[str, str] | None:
    """The kind and the message of what is wrong with a network's file."""
    if not path.exists():
        if entry is None:
            return "incomplete", f"{path} is not collected yet; collect again to continue"
        return "missing", f"{path} is missing; collect again to make it anew"
    same_size = entry is not None and path.stat().st_size == entry.bytes
    try:
        header = tensorfile.check(path, about)
    except CacheError as error:
        return "checksum" if entry is None or same_size else "truncated", error.message
    if entry is not None and header.sha256 == entry.sha256:
        return None
    if same_size:
        return "checksum", damaged(path, "its checksum is not that of the manifest").message
    return "unlisted", f"{path} is newer than the manifest: a collection was interrupted; collect again to list it"
