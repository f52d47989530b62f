"""Read a cache: open it, map its segments into memory, check what is read. Loads no torch."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..grammar.errors import nearest
from .addresses import room
from .encoding import decode
from .gather import exponents, label
from .manifest import Manifest, Stored, network_file
from .source import CacheError, Network, SegmentFacts, StatFacts
from .tensorfile import Header, Mapped, crc, damaged, read_header, tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from .checking import Problem

OPEN_FILES = 64
"""So many networks stay mapped; of a network that was not read for longer, a view that is still held keeps the map."""
Stamp = tuple[int, int, int]
"""Inode, size and time of change: a file with the same ones has not been replaced."""


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
        self._checked: dict[int, set[str]] = {}
        self._open: dict[int, Mapped] = {}
        self._known: dict[int, tuple[Stamp, Header, Mapping[str, int]]] = {}  # of every file that was mapped
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """By its path: another process opens it again."""
        return partial(open_cache, checksums=self._checksums), (self.path,)

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
        Where the address space is limited (ulimit -v), nothing is mapped: also a copy. A view keeps its file open: who
        holds views of more networks than the system allows open files must copy them. Raises CacheError naming what is
        missing or damaged.
        """
        self.shape(net, stat, layer)
        name, path = f"{stat}/{layer}", self.path / network_file(net)
        limited = room() < math.inf
        with self._lock:
            if limited or net not in self._open:
                self._look(net)
            _, header, scaled = self._known[net]
            checked = self._checked[net]  # of this file: another one that replaces it gets its own
            kept = None if limited else self._mapped(net, header).view(name)
        if kept is None:  # a map takes address space for the whole file
            kept = tensor(path, header, name)
        if self._checksums and name not in checked:
            if crc(kept) != header.crcs[name]:
                raise damaged(path, f"the checksum of {name} does not fit its content")
            checked.add(name)
        segment = decode(kept, self.manifest.recipe.storage, scaled[name])
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

    def _look(self, net: int) -> None:
        """Learn what the file says of itself; anew when it has been replaced."""
        entry, path = self.manifest.stored[net], self.path / network_file(net)
        assert entry is not None
        stamp = _stamp(path)
        if net not in self._known or self._known[net][0] != stamp:
            header = read_header(path, label(self.key, net))  # it may have been extended since
            if not _holds(header, entry):
                raise damaged(path, "its tensors are not those that the manifest lists")
            self._known[net] = stamp, header, exponents(header)
            self._checked[net] = set()
            self._open.pop(net, None)

    def _mapped(self, net: int, header: Header) -> Mapped:
        found = self._open.pop(net, None) or Mapped(self.path / network_file(net), header)
        self._open[net] = found  # the last in the dict is the last used
        if len(self._open) > OPEN_FILES:
            self._open.pop(next(iter(self._open)))
        return found


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


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise CacheError(f"{path} is missing; collect again to make it anew") from error
    return found.st_ino, found.st_size, found.st_mtime_ns
