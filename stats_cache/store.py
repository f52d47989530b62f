"""Read a cache: open it, map its segments into memory, verify it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..grammar.errors import nearest
from .gather import about
from .manifest import MANIFEST, NETWORKS, Manifest, Stored, network_file
from .source import CacheError, Network, SegmentFacts, StatFacts
from .tensorfile import Header, Mapped, check_own, checksums, damaged, read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPEN_FILES = 64
"""So many networks stay mapped; of a network that was not read for longer, a view that is still held keeps the map."""


@dataclass(frozen=True)
class Problem:
    """What ``verify`` found: the file (relative to the cache), one word, a sentence.

    Kinds: ``manifest`` (missing or damaged), ``incomplete`` (a network not collected yet), ``missing``, ``truncated``
    (another size), ``checksum``, ``unlisted`` (whole, but newer than the manifest: a collection was interrupted),
    ``foreign``.
    """

    file: str
    kind: str
    message: str


class Cache:
    """The statistics of the networks of one recipe, on the disk. ``statistics``: those that every network has.

    ``Cache(path, manifest)`` is for ``collect`` and ``open_cache``. May be read by several threads.
    """

    def __init__(self, path: Path, manifest: Manifest, *, checksums: bool = False) -> None:
        self.path = path
        self.manifest = manifest
        self.key = manifest.key
        self.networks = tuple(
            Network(i, arch, size, size.depth)
            for i, (arch, size) in enumerate(zip(manifest.recipe.archs, manifest.sizes, strict=True))
        )
        sets = [frozenset(entry.statistics if entry else ()) for entry in manifest.stored]
        self.statistics: frozenset[str] = frozenset.intersection(*sets)
        self._checksums = checksums
        self._checked: set[int] = set()
        self._open: dict[int, Mapped] = {}
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """The size of all networks' files."""
        return sum(entry.bytes for entry in self.manifest.stored if entry)

    def shape(self, net: int, stat: str, layer: int) -> tuple[int, int]:
        """(rows, cols) of a segment, from the manifest. Raises CacheError for what the cache does not hold."""
        shapes = self._entry(net, stat).statistics[stat].shapes
        if not 0 <= layer < len(shapes):
            raise CacheError(f"network {net} has the layers 0 to {len(shapes) - 1}; layer {layer} was asked for")
        return shapes[layer]

    def read(self, net: int, stat: str, layer: int) -> NDArray[np.float32]:
        """A segment, ``[rows, cols]``: a read-only view of the mapped file, no copy.

        On the first use of a file its size, header and shapes are checked (its checksum where the cache was opened so).
        A view keeps its file open: who holds views of more networks than the system allows open files must copy them.
        Raises CacheError naming what is missing or damaged.
        """
        self.shape(net, stat, layer)
        return self._mapped(net).view(f"{stat}/{layer}")

    def facts(self, stat: str, net: int | None = None) -> StatFacts:
        """Range, zeros and non-finite elements of a statistic, of all networks or of one, from the manifest."""
        nets = range(len(self.networks)) if net is None else (net,)
        return StatFacts.joined(self._entry(i, stat).statistics[stat].facts for i in nets)

    def segments(self, net: int, stat: str) -> tuple[SegmentFacts, ...]:
        """What is known of the segments of one network, layer by layer, from the manifest."""
        return self._entry(net, stat).statistics[stat].segments

    def info(self) -> dict[str, Any]:
        """The cache in short, as JSON values."""
        recipe = self.manifest.recipe.to_json()
        del recipe["archs"]
        collected = sum(entry is not None for entry in self.manifest.stored)
        return {
            "path": str(self.path),
            "key": self.key,
            "recipe": recipe,
            "networks": len(self.networks),
            "collected": collected,
            "complete": collected == len(self.networks),
            "statistics": sorted(self.statistics),
            "bytes": self.bytes,
            "versions": dict(self.manifest.versions),
        }

    def verify(self) -> list[Problem]:
        """Read every byte of the cache; everything that is not as it was written, by file. Empty: all is well."""
        return verify(self.path)

    def _entry(self, net: int, stat: str) -> Stored:
        if not 0 <= net < len(self.networks):
            raise CacheError(f"the cache has the networks 0 to {len(self.networks) - 1}; network {net} was asked for")
        entry = self.manifest.stored[net]
        if entry is None:
            raise CacheError(f"network {net} of {self.path} is not collected yet; collect again to continue")
        if stat not in entry.statistics:
            known = sorted(entry.statistics)
            raise CacheError(
                f"the statistic {stat[:80]!r} was not collected for network {net} of {self.path}{nearest(stat, known)} "
                f"(there: {', '.join(known)}); collect it to add it"
            )
        return entry

    def _mapped(self, net: int) -> Mapped:
        with self._lock:
            mapped = self._open.pop(net, None) or self._map(net)
            self._open[net] = mapped  # the last in the dict is the last used
            if len(self._open) > OPEN_FILES:
                del self._open[next(iter(self._open))]
            return mapped

    def _map(self, net: int) -> Mapped:
        entry, path = self.manifest.stored[net], self.path / network_file(net)
        assert entry is not None
        if not path.exists():
            raise CacheError(f"{path} is missing; collect again to make it anew")
        header = read_header(path, about(self.key, net))
        if header.file_bytes != entry.bytes:  # another process has added a statistic since; or it is some other file
            header, _ = check_own(path, about(self.key, net))
        elif self._checksums and net not in self._checked:
            if checksums(path)[0] != entry.sha256:
                raise damaged(path, "its checksum is not that of the manifest")
            self._checked.add(net)
        if not _holds(header, entry):
            raise damaged(path, "its tensors are not those that the manifest lists")
        return Mapped(path, header)


def open_cache(path: Path | str, *, checksums: bool = False) -> Cache:
    """The cache in a directory, complete or not. Raises CacheError when the manifest is missing or damaged.

    ``checksums``: check a file's checksum when it is first read, not only its form (some 2 GB a second).
    """
    return Cache(Path(path), Manifest.read(Path(path)), checksums=checksums)


def verify(path: Path | str) -> list[Problem]:
    """Everything in a cache that is not as it was written; see ``Problem`` and ``Cache.verify``."""
    path = Path(path)
    try:
        manifest = Manifest.read(path)
    except CacheError as error:
        return [Problem(MANIFEST, "manifest", error.message)]
    problems = []
    for i, entry in enumerate(manifest.stored):
        file = network_file(i)
        problem = _check(path / file, entry, about(manifest.key, i))
        if problem is not None:
            problems.append(Problem(file, *problem))
    expected = {MANIFEST, NETWORKS, *(network_file(i) for i in range(len(manifest.stored)))}
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if name not in expected:
            problems.append(Problem(name, "foreign", f"{found} is not a part of the cache; delete it"))
    return problems


def _check(path: Path, entry: Stored | None, label: Mapping[str, str]) -> tuple[str, str] | None:
    """The kind and the message of what is wrong with a network's file."""
    if not path.exists():
        if entry is None:
            return "incomplete", f"{path} is not collected yet; collect again to continue"
        return "missing", f"{path} is missing; collect again to make it anew"
    if entry is not None and checksums(path)[0] == entry.sha256:
        return None
    same_size = entry is not None and path.stat().st_size == entry.bytes
    try:
        check_own(path, label)
    except CacheError as error:
        return "checksum" if entry is None or same_size else "truncated", error.message
    if same_size:
        return "checksum", damaged(path, "its checksum is not that of the manifest").message
    return "unlisted", f"{path} is newer than the manifest: a collection was interrupted; collect again to list it"


def _holds(header: Header, entry: Stored) -> bool:
    return all(
        header.shapes.get(f"{name}/{layer}") == shape
        for name, described in entry.statistics.items()
        for layer, shape in enumerate(described.shapes)
    )
