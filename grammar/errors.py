"""The errors a user can cause. Every one says what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ProxforgeError(Exception):
    """Bad input. ``kind`` is one word for machines, ``message`` the sentence for people.

    ``line`` and ``column`` (both from 1) are given where the input is text, else None.
    """

    def __init__(self, kind: str, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.line = line
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        """So that an error raised in a worker process arrives whole."""
        return _rebuilt, (type(self), self.args, self.__dict__)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: ``kind``, ``message``, ``line``, ``column``."""
        return {"kind": self.kind, "message": self.message, "line": self.line, "column": self.column}


def _rebuilt(cls: type[ProxforgeError], args: tuple[Any, ...], state: dict[str, Any]) -> ProxforgeError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def nearest(given: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string when none is close."""
    found = difflib.get_close_matches(given[:80], list(known), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ""


class ProxyError(ProxforgeError):
    """A text that is not a valid proxy.

    ``kind`` is one of ``syntax name type shape domain nonfinite constant size``. ``str(error)`` shows the line of the
    text with a caret under the place. ``digest``: of the sub-expression at fault, where it is not the text's.
    """

    def __init__(
        self, kind: str, message: str, line: int | None = None, column: int | None = None, source: str | None = None
    ) -> None:
        super().__init__(kind, message, line, column)
        self.source = source
        self.digest: bytes | None = None

    def __str__(self) -> str:
        head = f"{self.kind} error: {self.message}"
        if self.source is None or self.line is None or self.column is None:
            return head
        lines = self.source.split("\n")  # as lines are counted: no other character breaks one
        shown = lines[self.line - 1] if self.line <= len(lines) else ""
        start = max(0, self.column - 1 - _BEFORE)  # a long line is cut around the caret
        cut = "".join(c if c.isprintable() else " " for c in shown[start : start + _SHOWN]).rstrip()
        return f"{head}\n  line {self.line}, column {self.column}\n    {cut}\n    {' ' * (self.column - 1 - start)}^"


_BEFORE, _SHOWN = 60, 100
