"""Read a cache: open it, map its segments into memory, check what is read. Loads no torch."""

from __future__ import annotations

import math
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..grammar.errors import nearest
from .encoding import decode
from .gather import exponents, label
from .manifest import Manifest, Stored, network_file
from .source import CacheError, Network, SegmentFacts, StatFacts
from .tensorfile import Header, Mapped, crc, damaged, read_header

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from .checking import Problem

_STATM = Path("/proc/self/statm")
OPEN_FILES = 64
"""So many networks stay mapped; of a network that was not read for longer, a view that is still held keeps the map."""
_MAPPED_SHARE = 0.25
"""Where the address space of the process is limited (ulimit -v), maps take at most this share of what is left."""


class Cache:
    """The statistics of the networks of one recipe, on the disk. ``statistics``: those that every network has.

    ``Cache(path, manifest)`` is for ``collect`` and ``open_cache``. May be read by several threads. ``checksums``: a
    segment's checksum is compared when it is first read (some 5 GB a second).
    """

    def __init__(self, path: Path, manifest: Manifest, *, checksums: bool = True) -> None:
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
        self._checked: set[tuple[int, str, int]] = set()
        self._open: dict[int, tuple[Mapped, Mapping[str, int]]] = {}
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
        """A segment, ``[rows, cols]``, read-only: of a float32 cache a view of the mapped file, else a copy.

        On the first use of a file its size, header and shapes are checked, on the first use of a segment its checksum.
        Where the address space is limited (ulimit -v), also a copy. A view keeps its file open: who holds views of more
        networks than the system allows open files must copy them. Raises CacheError naming what is missing or damaged.
        """
        self.shape(net, stat, layer)
        mapped, scaled = self._mapped(net)
        name = f"{stat}/{layer}"
        kept = mapped.view(name)
        if self._checksums and (net, stat, layer) not in self._checked:
            if crc(kept) != mapped.header.crcs[name]:
                raise damaged(mapped.path, f"the checksum of {name} does not fit its content")
            self._checked.add((net, stat, layer))
        segment = decode(kept, self.manifest.recipe.storage, scaled[name])
        if segment is kept and _room() < math.inf:
            segment = kept.copy()  # a view would hold the map of the whole file
        segment.flags.writeable = False
        return segment

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
        from .checking import verify

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

    def _mapped(self, net: int) -> tuple[Mapped, Mapping[str, int]]:
        with self._lock:
            found = self._open.pop(net, None)
            if found is None:
                try:
                    found = self._map(net)
                except MemoryError:
                    self._open.clear()
                    found = self._map(net)
            self._open[net] = found  # the last in the dict is the last used
            total = sum(mapped.size for mapped, _ in self._open.values())
            limit = _MAPPED_SHARE * (_room() + total)
            while len(self._open) > OPEN_FILES or (total > limit and len(self._open) > 1):
                mapped, _ = self._open.pop(next(iter(self._open)))
                total -= mapped.size
            return found

    def _map(self, net: int) -> tuple[Mapped, Mapping[str, int]]:
        entry, path = self.manifest.stored[net], self.path / network_file(net)
        assert entry is not None
        if not path.exists():
            raise CacheError(f"{path} is missing; collect again to make it anew")
        header = read_header(path, label(self.key, net))  # it may have been extended since
        if not _holds(header, entry):
            raise damaged(path, "its tensors are not those that the manifest lists")
        return Mapped(path, header), exponents(header)


def open_cache(path: Path | str, *, checksums: bool = True) -> Cache:
    """The cache in a directory, complete or not. Raises CacheError when the manifest is missing or damaged.

    ``checksums``: compare the checksum of a segment when it is first read, not only the form of its file.
    """
    return Cache(Path(path), Manifest.read(Path(path)), checksums=checksums)


def _holds(header: Header, entry: Stored) -> bool:
    return all(
        header.entries.get(f"{name}/{layer}", ("", ()))[1] == shape
        for name, described in entry.statistics.items()
        for layer, shape in enumerate(described.shapes)
    )


def _room() -> float:
    """Bytes of address space that are left to the process; infinite where it is not limited, or nobody can tell."""
    if resource is None:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not _STATM.exists():
        return math.inf
    return max(0, limit - resource.getpagesize() * int(_STATM.read_text().split()[0]))
