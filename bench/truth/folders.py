"""Where the data files of benchmarks lie that are no part of the package."""

from __future__ import annotations

import os
from pathlib import Path

from .base import DataError

VARIABLE = "PROXFORGE_DATA"


def find(file: str, inner: str, data: Path | None, source: str) -> Path:
    """Where ``file`` lies: in ``data`` or ``data/<inner>``; ``data`` defaults to the variable ``PROXFORGE_DATA``.

    ``source``: where people get the file, for the message. Raises DataError when there is no such folder or no such
    file in it.
    """
    given = os.environ.get(VARIABLE, "")
    if data is None and not given:
        raise DataError(
            f"{file} is needed and no folder was named; give the folder that holds it with --data, "
            f"or set {VARIABLE} (the file: {source})"
        )
    folder = Path(given) if data is None else data
    said = f"{VARIABLE} names" if data is None else "the data folder is"
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "not there"
        raise DataError(f"{said} '{folder}', which is {problem}; expected the folder that holds {file}")
    for path in (folder / file, folder / inner / file):
        if path.is_file():
            return path
    raise DataError(
        f"{said} '{folder}', and neither it nor its folder {inner} holds {file}; "
        f"get the file ({source}) or name another folder"
    )
