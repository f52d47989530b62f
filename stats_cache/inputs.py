"""Batches of images that are given: from a folder of images or a file of tensors; kept beside the statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..grammar.errors import ProxforgeError
from . import tensorfile
from .source import CacheError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels red, green, blue of pixels from 0 to 1: what networks for ImageNet subtract and divide by."""
GREY = (0.5, 0.5)
"""The same for images of one channel."""
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
"""The types of tensors that may be given, as a safetensors header and as numpy name them."""


@dataclass(frozen=True, eq=False)
class Batch:
    """``images`` float32 ``[n, channels, side, side]`` and ``labels`` int64 ``[n]``. Raises CacheError otherwise."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        square = images.ndim == 4 and images.shape[2] == images.shape[3] and images.size > 0
        if not square or not np.issubdtype(images.dtype, np.floating):
            raise CacheError(f"images are {_what(images)}; expected floats [n, channels, side, side]")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise CacheError(f"labels are {_what(labels)}; expected whole numbers [{len(images)}], one for each image")
        if not np.isfinite(images).all() or labels.min() < 0:
            raise CacheError("a batch holds a pixel that is not finite, or a label below 0")
        object.__setattr__(self, "images", np.ascontiguousarray(images, "<f4"))
        object.__setattr__(self, "labels", np.ascontiguousarray(labels, "<i8"))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def name(self) -> str:
        """``data:`` and 20 hex digits: what a recipe calls this batch. Equal names: equal images and labels."""
        digest = hashlib.blake2b(f"{self.images.shape}".encode(), digest_size=10)
        digest.update(tensorfile.content(self.images))
        digest.update(tensorfile.content(self.labels))
        return f"data:{digest.hexdigest()}"

    def check(self, channels: int, side: int, classes: int) -> None:
        """Raises CacheError unless the images are what a network takes, and the labels are classes of its head."""
        if self.images.shape[1:] != (channels, side, side):
            raise CacheError(
                f"the images given are {list(self.images.shape)}; expected [n, {channels}, {side}, {side}]. Resize "
                "them, or say with the resolution that the networks are to be built for them"
            )
        if int(self.labels.max()) >= classes:
            raise CacheError(
                f"a label given is {int(self.labels.max())}; the networks have the classes 0 to {classes - 1}"
            )

    def write(self, path: Path) -> None:
        """Save for `read`, flushed to the disk."""
        tensorfile.write(path, {"images": self.images, "labels": self.labels}, _label(self.name))

    @staticmethod
    def read(path: Path, name: str) -> Batch:
        """The batch of that name, checked. Raises CacheError when the file is missing or damaged."""
        header = tensorfile.check(path, _label(name))
        mapped = tensorfile.Mapped(path, header)
        return Batch(mapped.view("images"), mapped.view("labels"))


def read_batch(path: Path | str, *, count: int, channels: int, side: int, classes: int, seed: int = 0) -> Batch:
    """``count`` images of a folder or a file, and their labels; which ones, if there are more, says the seed.

    A folder: its images in all sub-folders (see `IMAGE_SUFFIXES`), scaled so that the shorter side fits, cut to the
    middle square, in grey for one channel, normalised by `MEAN` and `STD` (`GREY`). Images that all lie in sub-folders
    have the place of their sub-folder among the sorted ones as label (as long as there are enough classes); others get
    random labels from the seed. A file: ``.npy`` with images ``[n, channels, side, side]``, or ``.safetensors`` with
    ``images`` and perhaps ``labels``, used as they are.

    Raises CacheError for what cannot be read, too few images, or shapes and labels that do not fit.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        names = sorted({file.relative_to(path).parts[0] for file in files})
        sorted_in = all(len(file.relative_to(path).parts) > 1 for file in files) and len(names) <= classes
        chosen = [files[i] for i in _drawn(len(files), count, seed, path)]
        images = np.stack([_image(file, channels, side) for file in chosen])
        given = [names.index(file.relative_to(path).parts[0]) for file in chosen] if sorted_in else None
        labels = None if given is None else np.array(given, np.int64)
    else:
        tensors = _tensors(path)
        all_images, all_labels = tensors["images"], tensors.get("labels")
        if all_images.ndim != 4:
            raise CacheError(f"{path}: images are {_what(all_images)}; expected [n, {channels}, {side}, {side}]")
        drawn = _drawn(len(all_images), count, seed, path)
        images, labels = all_images[drawn], None if all_labels is None else all_labels[drawn]
    if labels is None:
        labels = np.random.default_rng([seed, 1]).integers(classes, size=count)
    batch = Batch(images, labels)
    batch.check(channels, side, classes)
    return batch


def _drawn(available: int, count: int, seed: int, path: Path) -> NDArray[np.int64]:
    if available < count:
        raise CacheError(f"{path} holds {available} images; {count} are wanted (the batch): name a smaller batch")
    return np.sort(np.random.default_rng([seed, 0]).permutation(available)[:count])


def _image(file: Path, channels: int, side: int) -> NDArray[np.float32]:
    """``[channels, side, side]``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ProxforgeError(
            "missing", "images are read with Pillow, which is not installed: pip install 'proxforge[images]'"
        ) from error
    if channels not in (1, 3):
        raise CacheError(f"an image has 1 channel or 3; the networks take {channels}. Give a file of tensors")
    try:
        with Image.open(file) as image:
            scale = side / min(image.size)
            whole = image.convert("L" if channels == 1 else "RGB")
            whole = whole.resize([max(side, round(n * scale)) for n in whole.size], Image.Resampling.BICUBIC)
    except OSError as error:
        raise CacheError(f"cannot read the image {file}: {error}") from error
    left, top = ((n - side) // 2 for n in whole.size)
    pixels = np.asarray(whole.crop((left, top, left + side, top + side)), np.float32) / 255
    if channels == 1:
        return np.asarray(((pixels - GREY[0]) / GREY[1])[None], np.float32)
    return np.asarray(((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1), np.float32)


def _tensors(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        if path.suffix == ".npy":
            return {"images": np.load(path, allow_pickle=False)}
        if path.suffix == ".safetensors":
            return _safetensors(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # what a damaged file leads to
        raise CacheError(f"cannot read {path}: {error}") from error
    raise CacheError(f"{path} is no folder of images and no file of tensors (.npy or .safetensors)")


def _safetensors(path: Path) -> Mapping[str, NDArray[Any]]:
    """The tensors ``images`` and ``labels`` of any safetensors file, whoever wrote it."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:start])
    names = sorted(fields.keys() - {"__metadata__"})
    if "images" not in names:
        raise CacheError(f"{path} has no tensor 'images'; it has {', '.join(names) or 'none'}")
    found = {}
    for name in ("images", "labels"):
        if name in names:
            kind, (begin, end) = fields[name]["dtype"], fields[name]["data_offsets"]
            if kind not in _TYPES:
                raise CacheError(f"{path}: {name} are of type {kind}; expected one of {', '.join(_TYPES)}")
            found[name] = np.frombuffer(data[start + begin : start + end], _TYPES[kind]).reshape(fields[name]["shape"])
    return found


def _label(name: str) -> dict[str, str]:
    return {"format": "proxforge", "batch": name}


def _what(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
