"""The shipped families of networks. Loading and sizing them loads no torch; building a network does."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ...grammar.errors import nearest
from .base import Space, SpaceError

_CLASSES = {
    "autoformer-sub": ("autoformer_sub", "AutoFormerSub"),
    "autoformer-t": ("autoformer", "AutoFormerT"),
    "autoformer-s": ("autoformer", "AutoFormerS"),
    "autoformer-b": ("autoformer", "AutoFormerB"),
    "pit": ("pit", "PiT"),
    "pit-t": ("pit", "PiTT"),
    "pit-xs": ("pit", "PiTXS"),
    "pit-s": ("pit", "PiTS"),
    "nas-bench-201": ("nas_bench_201", "NasBench201"),
    "cifar-resnet": ("cifar_resnet", "CifarResNet"),
    "micro": ("micro", "MicroSpace"),
}
"""Name of a space -> module (loaded on demand) and class."""

SPACES = tuple(_CLASSES)
"""The names that ``space`` knows."""


@cache
def space(name: str) -> Space:
    """The space of that name, see ``SPACES``. Raises SpaceError for an unknown one, with the nearest known name."""
    if name not in _CLASSES:
        raise SpaceError(f"unknown space {name[:80]!r}{nearest(name, SPACES)} (known spaces: {', '.join(SPACES)})")
    module, kind = _CLASSES[name]
    found: Space = getattr(import_module(f".{module}", __name__), kind)()
    return found
