"""ViT-Bench-101: the ground truth of Auto-Prox (Wei et al., AAAI 2024), read from the files its authors publish.

``gt_autoformer.pth`` and ``gt_pit.pth`` (folder ``gt_results`` of github.com/lilujunai/Auto-Prox-AAAI24) hold a list of
entries ``{"arch": {...}, "c100_base_acc": 68.66, ...}``: accuracies in percent, ``None`` where not measured. ``_base``
is plain training, ``_kd`` distillation. Targets are named as in the files, without ``_acc``.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...stats_cache.spaces import space
from ...stats_cache.spaces.base import SpaceError
from ...stats_cache.spaces.genes import short
from .base import Benchmark, DataError
from .folders import find

FOLDER = "vit_bench_101"
SOURCE = "gt_results of github.com/lilujunai/Auto-Prox-AAAI24"
SUFFIX = "_acc"


@dataclass(frozen=True)
class _Part:
    file: str
    space: str


PARTS: Mapping[str, _Part] = {
    "autoformer": _Part("gt_autoformer.pth", "autoformer-sub"),
    "pit": _Part("gt_pit.pth", "pit"),
}

_BROKEN = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of zip archives and pickles raise on bytes that are not what they should be."""


def load_vit_bench_101(part: str, data: Path | None) -> Benchmark:
    """``part`` is ``autoformer`` or ``pit``; for ``data`` and the errors see ``load_benchmark``.

    Recipe: heads of 100 classes (CIFAR-100), 2 noise images of 224 x 224 pixels.
    """
    chosen = PARTS[part]
    path = find(chosen.file, FOLDER, data, SOURCE)
    entries = _read(path)
    family = space(chosen.space)
    names = [key for key in entries[0] if isinstance(key, str) and key.endswith(SUFFIX)]
    if not names:
        raise _structure(path, "entry 0 has no accuracy (no key that ends in '_acc')")
    archs: list[dict[str, Any]] = []
    table = np.full((len(names), len(entries)), np.nan)
    for i, entry in enumerate(entries):
        if "arch" not in entry:
            raise _structure(path, f"entry {i} has no key 'arch'")
        try:
            archs.append(family.check(entry["arch"]))
        except SpaceError as error:
            raise _structure(path, f"entry {i} is not a network of {chosen.space}: {error.message}") from error
        if {key for key in entry if isinstance(key, str) and key.endswith(SUFFIX)} != set(names):
            raise _structure(path, f"entry {i} has other accuracies than entry 0 ({', '.join(names)})")
        for row, name in enumerate(names):
            table[row, i] = _accuracy(path, i, name, entry[name])
    targets = {name.removesuffix(SUFFIX): table[row].copy() for row, name in enumerate(names)}
    return Benchmark(
        name=f"vit-bench-101/{part}",
        space=chosen.space,
        archs=tuple(archs),
        targets=targets,
        default_targets=tuple(target for target in targets if target.endswith("_kd")) or tuple(targets),
        classes=100,
        batch=2,
    )


class _Plain(pickle.Unpickler):
    """Lists, dicts, numbers and texts, of which these files are; nothing else, so that no code runs.

    torch.load does the same, but a second goes by until torch is there, and a search needs it for nothing else.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _read(path: Path) -> list[Mapping[Any, Any]]:
    """The entries of the file. Its checksums are compared first: a flipped bit may be a digit."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise DataError(f"'{path}' is damaged: the checksum of {damaged!r} is wrong; download it again")
            (place,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(place) as pickled:
                content = _Plain(pickled).load()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise DataError(
            f"'{path}' holds something else than plain lists, dicts and numbers, and reading that could run code; "
            "expected the official file, download it again"
        ) from error
    except _BROKEN as error:
        raise DataError(
            f"'{path}' is damaged or no file of torch.save; expected the official file, download it again"
        ) from error
    if not isinstance(content, list) or not content:
        raise _structure(path, "its list is empty" if content == [] else f"it holds a {type(content).__name__}")
    for i, entry in enumerate(content):
        if not isinstance(entry, Mapping):
            raise _structure(path, f"entry {i} is {short(entry)}")
    return content


def _accuracy(path: Path, i: int, name: str, value: Any) -> float:
    """An accuracy in percent, NaN for None."""
    if value is None:
        return float("nan")
    if type(value) in (int, float) and 0 <= value <= 100:
        return float(value)
    raise _structure(path, f"{name!r} of entry {i} is {short(value)}, no percentage and not None")


def _structure(path: Path, problem: str) -> DataError:
    return DataError(
        f"'{path}' is not the file that was expected: {problem}; expected a list of dicts, each with 'arch' "
        "and accuracies such as 'c100_kd_acc'"
    )
