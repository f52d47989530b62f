"""What numba compiles is kept for the next process, or compiled in memory where nothing can be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from proxforge.bench.atlas import ranks
from proxforge.vm.jit import kept


def doubled(x, out):
    out[0] = 2 * x[0]


def test_without_a_folder_to_write_to_it_is_compiled_in_memory(monkeypatch):
    tried = []
    original = numba.njit

    def njit(*args, **options):  # numba itself calls it, too
        tried.extend([options["cache"]] if "cache" in options else [])
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    out = np.empty(1)
    kept(doubled, (numba.float64[::1], numba.float64[::1]))(np.array([3.0]), out)
    assert (tried, out[0]) == ([True, False], 6.0)


def test_what_cannot_be_compiled_in_memory_either_is_an_error(monkeypatch):
    def njit(*args, **options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(numba, "njit", njit)
    with pytest.raises(RuntimeError, match="no compiler"):
        kept(doubled, (numba.float64[::1], numba.float64[::1]))


@pytest.mark.parametrize(
    "what",
    [
        "from proxforge.vm.backends.cpu.machine import compiled; f = compiled('join')",
        "from proxforge.search.pairs import _compiled; f = _compiled()",
        "from proxforge.bench.atlas.hashing import _compiled; f = _compiled()",
        "from numpy import dtype; from proxforge.bench.atlas.ranks import _compiled; "
        "f = _compiled('sums', None, dtype('int16'))",
    ],
)
def test_what_is_compiled_is_kept_for_the_next_process(what, tmp_path: Path):
    code = f"{what}; print(sum(f.stats.cache_hits.values()), sum(f.stats.cache_misses.values()))"
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""}
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [r.stdout.split() for r in runs] == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize("name", ["FLOAT32_MAX", "FLOAT32_TINY", "DIGITS", "SAME"])
def test_the_key_of_kept_ranks_sees_the_constants_of_other_files(monkeypatch, name):
    before = ranks._fingerprint()
    monkeypatch.setattr(ranks, name, getattr(ranks, name) * 2)
    assert ranks._fingerprint() != before


def test_the_key_of_kept_ranks_sees_the_other_source_file(monkeypatch, tmp_path: Path):
    before, source = ranks._fingerprint(), Path(ranks.__file__).with_name("doubt.py")
    (tmp_path / "doubt.py").write_bytes(source.read_bytes())
    monkeypatch.setattr(ranks, "__file__", str(tmp_path / "ranks.py"))
    assert ranks._fingerprint() == before
    with (tmp_path / "doubt.py").open("a") as file:
        file.write("\n")
    assert ranks._fingerprint() != before
