"""The facade: twelve names, in whatever order they are used; a search can be called and imported from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import proxforge

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "first",
    [
        "proxforge.search",
        "proxforge.score",
        "proxforge.SearchResult",
        "proxforge.ScoreTable",
        "import proxforge.search.loop",
        "import proxforge.search.loop as loop; loop.run_search",
        "from proxforge.search import loop",
        "from proxforge import *; assert search is proxforge.search",
        "from proxforge import score, search; assert search is proxforge.search",
        "proxforge.compile('qkv.w')",
    ],
)
def test_search_can_be_called_whatever_was_used_first(first):
    code = f"""
import proxforge
{first}
from proxforge import ProxforgeError
try:
    proxforge.search("no such benchmark")
except ProxforgeError as error:
    assert error.kind == "benchmark", error
else:
    raise AssertionError("the search began")
assert proxforge.search.loop.run_search
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_names_of_the_facade():
    assert len(proxforge.__all__) <= 12
    assert all(getattr(proxforge, name) is not None for name in proxforge.__all__)
    assert set(dir(proxforge)) == set(proxforge.__all__)
    with pytest.raises(AttributeError, match="serach"):
        proxforge.serach  # noqa: B018
