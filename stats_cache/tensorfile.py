"""The file of one network: safetensors, whose last tensor is the SHA-256 of all bytes before it (see FORMAT.md)."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .source import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECKSUM = "sha256"
"""Name of the last tensor: 32 bytes."""
_DIGEST_BYTES = 32
_ALIGN = 64
"""The data begin at a multiple of this many bytes: a cache line."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """``shapes``: tensor name -> shape, in file order. ``start``: where the data begin."""

    shapes: Mapping[str, tuple[int, ...]]
    start: int

    @property
    def offsets(self) -> dict[str, int]:
        """Tensor name -> its first byte in the file."""
        offsets, position = {}, self.start
        for name, shape in self.shapes.items():
            offsets[name] = position
            position += 4 * math.prod(shape)
        return offsets

    @property
    def file_bytes(self) -> int:
        """The size that the whole file must have."""
        return self.start + sum(4 * math.prod(shape) for shape in self.shapes.values()) + _DIGEST_BYTES


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, for reading. Raises CacheError when the system cannot read it."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror}") from error


def _header_bytes(shapes: Mapping[str, tuple[int, ...]], about: Mapping[str, str]) -> bytes:
    """The first bytes of a file: the length of the JSON text (8 bytes, little endian), the text, spaces."""
    entries: dict[str, Any] = {"__metadata__": dict(about)}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    entries[CHECKSUM] = {"dtype": "U8", "shape": [_DIGEST_BYTES], "data_offsets": [end, end + _DIGEST_BYTES]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return struct.pack("<Q", len(text)) + text


def write(path: Path, tensors: Mapping[str, NDArray[np.float32]], about: Mapping[str, str]) -> tuple[int, str]:
    """Write a new file and flush it to the disk. Returns its size in bytes and the SHA-256 of the whole file."""
    digest = hashlib.sha256()
    header = _header_bytes({name: tensor.shape for name, tensor in tensors.items()}, about)
    data: Iterator[memoryview] = (tensor.reshape(-1).view("u1").data for tensor in tensors.values())
    with path.open("wb") as file:
        for part in chain([memoryview(header)], data):
            file.write(part)
            digest.update(part)
        own = digest.digest()
        file.write(own)
        digest.update(own)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def read_header(path: Path, about: Mapping[str, str]) -> Header:
    """The header of a file, strictly as ``write`` makes it with this ``about``. Raises CacheError for anything else."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        if 8 + length > size:
            raise damaged(path, f"it ends after {size} bytes, inside its header")
        text = file.read(length)
    try:
        entries = json.loads(text)
        label = entries.pop("__metadata__")
        del entries[CHECKSUM]
        header = Header({name: tuple(entry["shape"]) for name, entry in entries.items()}, 8 + length)
        exact = _header_bytes(header.shapes, label) == first + text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    if not exact:
        raise damaged(path, "its header is not as it was written")
    if header.file_bytes != size:
        raise damaged(path, f"it has {size} bytes; its header says {header.file_bytes}")
    if label != dict(about):
        raise damaged(path, f"it is the file of another network ({label}, expected {dict(about)})")
    return header


def checksums(path: Path) -> tuple[str, bool]:
    """Read the whole file: the SHA-256 of all its bytes, and whether it agrees with the checksum that it ends with."""
    digest = hashlib.sha256()
    with opened(path) as file:
        left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
        while left > 0 and (part := file.read(min(left, _CHUNK))):
            digest.update(part)
            left -= len(part)
        own, end = digest.digest(), file.read()
    digest.update(end)
    return digest.hexdigest(), own == end


def check_own(path: Path, about: Mapping[str, str]) -> tuple[Header, str]:
    """The header and the SHA-256 of a file that is whole by its own checksum and ``about`` this. Else CacheError."""
    header = read_header(path, about)
    sha256, whole = checksums(path)
    if not whole:
        raise damaged(path, "its checksum does not fit its content")
    return header, sha256


class Mapped:
    """A file in memory as far as it is touched. The map lives as long as a view of it does."""

    def __init__(self, path: Path, header: Header) -> None:
        self.header = header
        self._offsets = header.offsets
        with opened(path) as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def view(self, name: str) -> NDArray[np.float32]:
        """The tensor, read-only, without a copy."""
        import numpy as np

        shape = self.header.shapes[name]
        return np.frombuffer(self._map, "<f4", math.prod(shape), self._offsets[name]).reshape(shape)


def damaged(path: Path, what: str) -> CacheError:
    """The error for a file that is not as it was written."""
    return CacheError(f"{path} is damaged: {what}. Delete this file and collect again; the other networks are kept")
