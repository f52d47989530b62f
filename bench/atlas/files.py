"""Files of an atlas: numpy's own format, never pickled, read by memory map, each appearing whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError

FORMAT = 1
"""Of the folder, see docs/atlas.md."""


def save(place: Path, array: NDArray[Any] | None = None, **arrays: NDArray[Any]) -> None:
    """Writes an array ``.npy``, or several ``.npz``."""
    new = place.with_name(f"{place.name}.{os.getpid()}.new")
    with new.open("wb") as file:
        if array is None:
            np.savez(file, allow_pickle=False, **arrays)
        else:
            np.save(file, array, allow_pickle=False)
    new.replace(place)


def load(place: Path) -> NDArray[Any]:
    """An array, mapped read-only. ProxforgeError ``atlas`` for what is no such file."""
    try:
        found = np.asarray(np.load(place, mmap_mode="r", allow_pickle=False))  # a memmap takes its time for an element
    except (OSError, ValueError) as error:
        raise ProxforgeError("atlas", f"cannot read {place}: {error}; build the atlas again") from None
    return found


def write_json(place: Path, document: Any) -> None:
    """Writes a JSON document."""
    new = place.with_name(f"{place.name}.{os.getpid()}.new")
    new.write_text(json.dumps(document, indent=1), encoding="utf-8")
    new.replace(place)


def checksum(place: Path) -> str:
    """SHA-256 of a file."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
