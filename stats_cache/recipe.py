"""The recipe of a cache: everything that decides what its tensors are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from typing import Any

from ..grammar.errors import nearest
from .source import CacheError
from .spaces import space as shipped_space
from .spaces.base import Space, SpaceError

SCHEMA = 3
"""Part of every key. Raised when the format changes, or what a recipe means: a space's networks, noise, a statistic."""

INPUTS = ("noise", "ones")
"""Inputs that are made; the third kind is ``data:`` and the digest of a batch that is given."""
STORAGES = ("float32", "float16", "bfloat16")
"""How the elements of a segment are kept."""

_GIVEN = re.compile(r"data:[0-9a-f]{20}")


def find_space(name: str) -> Space:
    """A shipped space by name, or one's own as ``module:Class``. Raises SpaceError when there is none."""
    if ":" not in name:
        return shipped_space(name)
    module, _, kind = name.partition(":")
    try:
        found = getattr(import_module(module), kind)
    except (
        ImportError,
        AttributeError,
        TypeError,
        ValueError,
        SyntaxError,
    ) as error:  # TypeError: "..", ValueError: ""
        raise SpaceError(f"the space {name[:200]!r} cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Space)):
        raise SpaceError(f"{name[:200]!r} is no space: expected a subclass of proxforge.stats_cache.spaces.base.Space")
    try:
        return found()
    except TypeError as error:
        raise SpaceError(f"the space {name[:200]!r} cannot be made: {error}") from error


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the tensors are, and nothing else: equal recipes have equal caches.

    ``space``: name of a shipped space, or ``module:Class``. ``archs``: the networks' genes, in order. ``classes``: of
    the head. ``seed``: of the initialisation. ``batch``: images. ``input``: ``noise`` (standard normal pixels and
    uniform labels, both from ``input_seed``), ``ones`` (every pixel 1, such labels), or the name of a `Batch` that is
    given. ``resolution``: side of the images in pixels, the space's own if None. ``storage``: see `STORAGES`. ``rows``:
    of an activation at most so many rows are kept, drawn from ``input_seed``; all if None.

    Raises CacheError for a value out of range.
    """

    space: str
    archs: tuple[dict[str, Any], ...]
    classes: int
    seed: int = 0
    batch: int = 2
    input: str = "noise"
    input_seed: int = 0
    resolution: int | None = None
    storage: str = "float32"
    rows: int | None = None

    def __post_init__(self) -> None:
        try:  # plain JSON values, and a copy that nobody else can change
            archs = tuple(json.loads(json.dumps([dict(arch) for arch in self.archs], allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise CacheError(f"the architectures of a recipe must be plain JSON values: {error}") from error
        object.__setattr__(self, "archs", archs)
        if not archs:
            raise CacheError("a recipe needs at least one architecture")
        for name, least in (
            *(("classes", 1), ("seed", 0), ("batch", 1), ("input_seed", 0)),
            *((name, 1) for name in ("resolution", "rows") if getattr(self, name) is not None),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value < 2**63:
                raise CacheError(f"{name} of a recipe is {value!r}; expected a whole number from {least}")
        if self.input not in INPUTS and not _GIVEN.fullmatch(str(self.input)):
            raise CacheError(
                f"input of a recipe is {self.input!r}{nearest(str(self.input), INPUTS)} (known: {', '.join(INPUTS)}, "
                "and the names of batches)"
            )
        if self.storage not in STORAGES:
            raise CacheError(
                f"storage of a recipe is {self.storage!r}{nearest(str(self.storage), STORAGES)} "
                f"(known: {', '.join(STORAGES)})"
            )

    @property
    def given(self) -> bool:
        """Whether the images are a batch that is kept in the cache, and not made from the recipe."""
        return self.input not in INPUTS

    def family(self) -> Space:
        """The space, at the recipe's resolution. Raises SpaceError."""
        found = find_space(self.space)
        return found if self.resolution is None else found.at(self.resolution)

    def normal(self) -> Recipe:
        """The recipe with every architecture in the normal form of its space. Raises SpaceError (space or gene)."""
        family = self.family()
        own = self.resolution == find_space(self.space).resolution
        archs = tuple(family.check(arch) for arch in self.archs)
        return replace(self, archs=archs, resolution=None if own else self.resolution)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values. ``resolution``, ``storage`` and ``rows`` only where they are not the default."""
        values = {**asdict(self), "archs": list(self.archs)}
        return {k: v for k, v in values.items() if k not in _OPTIONAL or v != _OPTIONAL[k]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Recipe:
        """The reverse of ``to_json``. Raises CacheError for an unknown or a missing field."""
        names = [field.name for field in fields(Recipe)]
        for name in values:
            if name not in names:
                raise CacheError(f"unknown field {name!r} in a recipe{nearest(name, names)}")
        try:
            return Recipe(**{**values, "archs": tuple(values["archs"])})
        except (KeyError, TypeError) as error:
            raise CacheError(f"not a recipe: {error}") from error

    @cached_property
    def key(self) -> str:
        """20 hex digits: BLAKE2b of the schema and the recipe. What was collected so far is not part of it."""
        text = canonical({"schema": SCHEMA, "recipe": self.to_json()})
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


_OPTIONAL = {f.name: f.default for f in fields(Recipe) if f.name in ("resolution", "storage", "rows")}


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
