"""A file of tensors: safetensors, whose last tensor is the SHA-256 of all bytes before it (see FORMAT.md)."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from isal import isal_zlib

from .source import CacheError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CRCS, DIGEST = "crc32", "sha256"
"""Names of the last two tensors: the CRC-32 of every other tensor's bytes, and the SHA-256 of the header and these."""
_DIGEST_BYTES = 32
_ALIGN = 64
"""The data begin at a multiple of this many bytes: a cache line."""
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
_NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}
_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}
"""bfloat16 is read and written as its bits."""

Entries = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> (type as in the header, shape), in file order."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself. ``entries``: its tensors but the last two. ``start``: where the data begin.

    ``label``: what it is about. ``crcs``: tensor -> CRC-32. ``sha256``: the digest that the file ends with, in hex: two
    files with one digest have one content.
    """

    entries: Entries
    start: int
    label: Mapping[str, str]
    crcs: Mapping[str, int]
    sha256: str

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Tensor name -> its first byte in the file, and its number of bytes."""
        return _places(self.entries, self.start)

    @property
    def file_bytes(self) -> int:
        """The size of the whole file."""
        return _file_bytes(self.entries, self.start)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, for reading. Raises CacheError when the system cannot read it, or when it is a directory or a pipe."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise CacheError(f"cannot read {path}: it is no file. Move it away and collect again")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror}") from error


def header_bytes(entries: Entries, label: Mapping[str, str]) -> bytes:
    """The first bytes of a file: the length of the JSON text (8 bytes, little endian), the text, spaces."""
    fields: dict[str, Any] = {"__metadata__": dict(label)}
    for name, (begin, size) in _places(entries, 0).items():
        kind, shape = entries[name]
        fields[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, begin + size]}
    end = _file_bytes(entries, 0)
    middle, begin = end - _DIGEST_BYTES, end - _DIGEST_BYTES - 4 * len(entries)
    fields[CRCS] = {"dtype": "U32", "shape": [len(entries)], "data_offsets": [begin, middle]}
    fields[DIGEST] = {"dtype": "U8", "shape": [_DIGEST_BYTES], "data_offsets": [middle, end]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return struct.pack("<Q", len(text)) + text


def write(path: Path, tensors: Mapping[str, NDArray[Any]], label: Mapping[str, str]) -> tuple[int, str]:
    """Write a new file and flush it to the disk. Returns its size in bytes and its digest, in hex."""
    header = header_bytes({name: (_NAMES[t.dtype.name], t.shape) for name, t in tensors.items()}, label)
    crcs = struct.pack(f"<{len(tensors)}I", *map(crc, tensors.values()))
    digest = hashlib.sha256(header + crcs)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors.values():
            file.write(content(tensor))
        file.write(crcs)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def content(tensor: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous tensor."""
    return tensor.reshape(-1).view("u1").data


def crc(tensor: NDArray[Any]) -> int:
    """The CRC-32 of a tensor's bytes. ISA-L computes it several times as fast as the zlib of Python."""
    return isal_zlib.crc32(content(tensor))


def read_header(path: Path, label: Mapping[str, str]) -> Header:
    """The header of a file, strictly as ``write`` makes it with a label that holds this one, and its checksums.

    Raises CacheError for anything else. The tensors are not read; `check` does.
    """
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
            del fields[CRCS], fields[DIGEST]
            entries = {name: (field["dtype"], tuple(field["shape"])) for name, field in fields.items()}
            exact = header_bytes(entries, found) == first + text
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(path, f"its header cannot be read ({error})") from error
        if not exact:
            raise damaged(path, "its header is not as it was written")
        if _file_bytes(entries, 8 + length) != size:
            raise damaged(path, f"it has {size} bytes; its header says {_file_bytes(entries, 8 + length)}")
        file.seek(size - _DIGEST_BYTES - 4 * len(entries))
        table, own = file.read(4 * len(entries)), file.read()
    digest = hashlib.sha256(first + text + table)
    if digest.digest() != own:
        raise damaged(path, "its checksum does not fit its header")
    if any(found.get(name) != value for name, value in label.items()):
        raise damaged(path, f"it belongs elsewhere ({dict(found)}, expected {dict(label)})")
    crcs = dict(zip(entries, struct.unpack(f"<{len(entries)}I", table), strict=True))
    return Header(entries, 8 + length, found, crcs, digest.hexdigest())


def check(path: Path, label: Mapping[str, str]) -> Header:
    """Read the whole file: its header, if every byte is as it was written and it has this label. Else CacheError."""
    header = read_header(path, label)
    with opened(path) as file:
        file.seek(header.start)
        for name, (_, size) in header.places.items():
            found = 0
            while size > 0 and (part := file.read(min(size, _CHUNK))):
                found = isal_zlib.crc32(part, found)
                size -= len(part)
            if found != header.crcs[name]:
                raise damaged(path, f"the checksum of {name} does not fit its content")
    return header


_CHUNK = 1 << 20


def _places(entries: Entries, start: int) -> dict[str, tuple[int, int]]:
    places = {}
    for name, (kind, shape) in entries.items():
        places[name] = start, _SIZES[kind] * math.prod(shape)
        start += places[name][1]
    return places


def _file_bytes(entries: Entries, start: int) -> int:
    data = sum(size for _, size in _places(entries, start).values())
    return start + data + 4 * len(entries) + _DIGEST_BYTES


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


def tensor(path: Path, header: Header, name: str) -> NDArray[Any]:
    """The tensor as it is kept, as a copy; nothing is mapped. Raises CacheError when the file ends before it does."""
    import numpy as np

    (kind, shape), (begin, size) = header.entries[name], header.places[name]
    found = np.empty(shape, _NUMPY[kind])
    with opened(path) as file:
        file.seek(begin)
        if file.readinto(content(found)) != size:  # type: ignore[attr-defined]
            raise damaged(path, f"it ends inside {name}")
    return found


def damaged(path: Path, what: str) -> CacheError:
    """The error for a file that is not as it was written."""
    return CacheError(f"{path} is damaged: {what}. Delete this file and collect again; the other networks are kept")
