"""A strategy's state as JSON and back, from its type hints: the class declares the fields, the rest is derived."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from .spaces import Genotype, SearchSpace


def freeze(value: Any, space: SearchSpace) -> Any:
    """The state as plain JSON: a dataclass as a list of its fields, a genotype as the space encodes it.

    TypeError for what a `State` cannot hold.
    """
    if value is None or type(value) in (int, float, str, bool):
        return value
    if isinstance(value, Genotype):
        return space.encode(value)
    if isinstance(value, tuple):
        return [freeze(v, space) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [freeze(getattr(value, name), space) for name in _names(type(value))]
    raise TypeError(f"a state holds numbers, strings, genotypes, dataclasses and tuples of these, not {value!r:.200}")


def thaw(hint: Any, value: Any, space: SearchSpace) -> Any:
    """The inverse of `freeze`, for a value declared as ``hint``. TypeError or ValueError where they do not fit."""
    if hint in (int, str, bool):
        if type(value) is not hint:
            raise TypeError(f"expected {hint.__name__}, got {value!r:.200}")
        return value
    if hint is float:
        if type(value) not in (int, float):
            raise TypeError(f"expected a number, got {value!r:.200}")
        return float(value)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:
        inner = args[0] if args[1] is types.NoneType else args[1]
        return None if value is None else thaw(inner, value, space)
    if isinstance(hint, type) and issubclass(hint, Genotype):
        return space.decode(value)
    if not isinstance(value, list):
        raise TypeError(f"expected a list for {hint}, got {value!r:.200}")
    if origin is tuple and args[-1] is Ellipsis:
        return tuple(thaw(args[0], v, space) for v in value)
    if origin is tuple:
        return tuple(thaw(h, v, space) for h, v in zip(args, value, strict=True))
    if is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(**{n: thaw(hints[n], v, space) for n, v in zip(_names(hint), value, strict=True)})
    raise TypeError(f"a state cannot hold {hint}")


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)
