"""A file of tensors: safetensors, whose last tensor is the SHA-256 of all bytes before it (see FORMAT.md)."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .source import CacheError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKSUM = "sha256"
"""Name of the last tensor: 32 bytes."""
_DIGEST_BYTES = 32
_ALIGN = 64
"""The data begin at a multiple of this many bytes: a cache line."""
_CHUNK = 1 << 20
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
_NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}
_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}
"""bfloat16 is read and written as its bits."""

Entries = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> (type as in the header, shape), in file order."""


@dataclass(frozen=True)
class Header:
    """``entries``: the tensors but the checksum. ``start``: where the data begin. ``label``: what the file is about."""

    entries: Entries
    start: int
    label: Mapping[str, str]

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Tensor name -> its first byte in the file, and its number of bytes."""
        places, position = {}, self.start
        for name, (kind, shape) in self.entries.items():
            places[name] = position, _SIZES[kind] * math.prod(shape)
            position += places[name][1]
        return places

    @property
    def file_bytes(self) -> int:
        """The size that the whole file must have."""
        return self.start + sum(size for _, size in self.places.values()) + _DIGEST_BYTES


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, for reading. Raises CacheError when the system cannot read it."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror}") from error


def header_bytes(entries: Entries, label: Mapping[str, str]) -> bytes:
    """The first bytes of a file: the length of the JSON text (8 bytes, little endian), the text, spaces."""
    fields: dict[str, Any] = {"__metadata__": dict(label)}
    end = 0
    for name, (kind, shape) in entries.items():
        begin, end = end, end + _SIZES[kind] * math.prod(shape)
        fields[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    fields[CHECKSUM] = {"dtype": "U8", "shape": [_DIGEST_BYTES], "data_offsets": [end, end + _DIGEST_BYTES]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return struct.pack("<Q", len(text)) + text


def write(path: Path, tensors: Mapping[str, NDArray[Any]], label: Mapping[str, str]) -> tuple[int, str]:
    """Write a new file and flush it to the disk. Returns its size in bytes and the SHA-256 of the whole file."""
    digest = hashlib.sha256()
    header = header_bytes({name: (_NAMES[t.dtype.name], t.shape) for name, t in tensors.items()}, label)
    with path.open("wb") as file:
        for part in chain([memoryview(header)], map(content, tensors.values())):
            file.write(part)
            digest.update(part)
        own = digest.digest()
        file.write(own)
        digest.update(own)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def content(tensor: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous tensor."""
    return tensor.reshape(-1).view("u1").data


def crc(tensor: NDArray[Any]) -> int:
    """The CRC-32 of a tensor's bytes."""
    return zlib.crc32(content(tensor))


def read_header(path: Path, label: Mapping[str, str]) -> Header:
    """The header of a file, strictly as ``write`` makes it with a label that holds this one. CacheError otherwise."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        if 8 + length > size:
            raise damaged(path, f"it ends after {size} bytes, inside its header")
        text = file.read(length)
    try:
        fields = json.loads(text)
        found = fields.pop("__metadata__")
        del fields[CHECKSUM]
        entries = {name: (field["dtype"], tuple(field["shape"])) for name, field in fields.items()}
        header = Header(entries, 8 + length, found)
        exact = header_bytes(entries, found) == first + text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    if not exact:
        raise damaged(path, "its header is not as it was written")
    if header.file_bytes != size:
        raise damaged(path, f"it has {size} bytes; its header says {header.file_bytes}")
    if any(found.get(name) != value for name, value in label.items()):
        raise damaged(path, f"it belongs elsewhere ({dict(found)}, expected {dict(label)})")
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


def check_own(path: Path, label: Mapping[str, str]) -> tuple[Header, str]:
    """The header and the SHA-256 of a file that is whole by its own checksum and has this label. Else CacheError."""
    header = read_header(path, label)
    sha256, whole = checksums(path)
    if not whole:
        raise damaged(path, "its checksum does not fit its content")
    return header, sha256


class Mapped:
    """A file in memory as far as it is touched. The map lives as long as a view of it does."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        with opened(path) as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise MemoryError(f"no address space to map {path}") from error
                raise

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._map)

    def view(self, name: str) -> NDArray[Any]:
        """The tensor as it is kept, read-only, without a copy."""
        import numpy as np

        kind, shape = self.header.entries[name]
        return np.frombuffer(self._map, _NUMPY[kind], math.prod(shape), self.header.places[name][0]).reshape(shape)


def damaged(path: Path, what: str) -> CacheError:
    """The error for a file that is not as it was written."""
    return CacheError(f"{path} is damaged: {what}. Delete this file and collect again; the other networks are kept")
