"""What the commands print: one JSON document on request, else tables; progress on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .grammar.errors import ProxforgeError, ProxyError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
WRONG = 1
"""Exit code when something that was checked is not as it should be."""
BAD_INPUT = 2
"""Exit code for bad input, and for a system that refuses (a full disk)."""
PIPE_CLOSED = 141
"""Exit code when nobody reads the output any more, as shells have it."""


def emit(document: Any) -> None:
    """One JSON document on stdout, in ASCII: right in every locale. NaN and infinity are errors here, never output."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def fail(error: ProxforgeError, as_json: bool) -> int:
    """Shows the error (JSON on stdout, or text on stderr) and returns the exit code."""
    if as_json:
        emit({"error": error.to_dict()})
    else:
        click.echo(str(error) if isinstance(error, ProxyError) else f"{error.kind} error: {error}", err=True)
    return INTERRUPTED if error.kind == "interrupted" else BAD_INPUT


def console() -> Console:
    """Where tables go: stdout, as wide as the terminal, 120 columns where there is none."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: bool = False) -> None:
    """A table: the first column is text, the others are numbers (or ``text``, of which only the last may be folded)."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        whole = text and i < len(columns) - 1
        shown.add_column(column, justify="left" if text or not i else "right", overflow="fold", no_wrap=whole)
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))  # Text: '[r, c]' is no markup
    console().print(shown)


def number(value: float | None, digits: int = 3) -> str:
    """A figure of a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


Step = Callable[[str, float], None]
"""Tells a progress bar its text and the share done (0 to 1)."""


@contextmanager
def progress(what: str, as_json: bool) -> Iterator[Step | None]:
    """A progress bar on stderr; None where stderr is no terminal or the output is for a machine."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=1.0)
        yield lambda text, share: bars.update(task, description=text, completed=share)
