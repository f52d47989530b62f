"""The options that choose a search space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .options import Command, together


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names with commas between them, without the spaces around them."""
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    try:
        return None if value is None else tuple(float(number) for number in value.split(",") if number.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers with commas between them", ctx, param) from None


_OPTIONS: dict[str, dict[str, Any]] = {
    "inputs": {
        "callback": _names,
        "help": "Statistics to draw from, with commas between them.  [default: the eight of Auto-Prox]",
    },
    "ops": {"callback": _names, "help": "An op set, or ops with commas between them.  [default: autoprox]"},
    "unaries": {"type": int, "help": "tree: unary ops on a branch, 1 to 3 (default 2)."},
    "branches": {"type": int, "help": "tree: branches, 2 or 3 (default 2)."},
    "depth": {"type": int, "help": "expression: most ops on a path (default 6)."},
    "distribution": {"help": "expression: grow or uniform (default grow)."},
    "layers": {"callback": _names, "help": "expression: layer reductions to draw from (default layer_mean)."},
    "length": {"type": int, "help": "memory: most instructions (default 8)."},
    "registers": {"type": int, "help": "memory: registers (default 3)."},
    "numbers": {"callback": _numbers, "help": "expression, memory: numbers to draw from (default none)."},
}

space_options: Callable[[Command], Command] = together(
    click.option("--space", default="tree", show_default=True, help="tree, expression or memory."),
    *(click.option(f"--{name}", **settings) for name, settings in _OPTIONS.items()),
)


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the space that were given; they are taken out of the arguments of the command."""
    found = {name: given.pop(name) for name in _OPTIONS}
    return {name: _ops(value) if name == "ops" else value for name, value in found.items() if value is not None}


def _ops(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """One name is that of a set, unless it is that of an op."""
    from ..grammar.ops import OPS

    return names[0] if len(names) == 1 and names[0] not in OPS else names
