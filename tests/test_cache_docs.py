"""docs/cache.md tells the truth: its programs run and print what stands below them, its files are read."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/cache.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")
PROGRAMS = [
    (code, BLOCKS[i + 1][1]) for i, (language, code) in enumerate(BLOCKS) if language == "python" and "print(" in code
]
FILES = [(language, text) for language, text in BLOCKS if language in ("csv", "json")]
(OWN,) = [code for language, code in BLOCKS if language == "python" and code.startswith("# my_nets.py")]


@pytest.mark.parametrize(("code", "expected"), PROGRAMS, ids=["huggingface", "by-hand"])
def test_programs_print_what_stands_below_them(code, expected):
    if "transformers" in code and importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert NUMBER.sub("#", run.stdout).split() == NUMBER.sub("#", expected).split()
    found, shown = ([float(n) for n in NUMBER.findall(text)] for text in (run.stdout, expected))
    assert found == pytest.approx(shown, rel=0.02)  # rounding differs between machines


@pytest.mark.parametrize(("language", "text"), FILES)
def test_files_are_read(language, text, tmp_path, monkeypatch):
    from proxforge import load_benchmark

    (tmp_path / "my_nets.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"truth.{language}"
    path.write_text(text, encoding="utf-8")
    loaded = load_benchmark(str(path))
    assert len(loaded) in (2, 3)
    assert "accuracy" in loaded.targets


def test_the_space_of_ones_own_is_collected_and_scored(tmp_path):
    (tmp_path / "my_nets.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "truth.csv").write_text(FILES[0][1], encoding="utf-8")
    command = ["score", "layer_sum(sum(abs(fc1.w * fc1.g)))", "-b", "truth.csv", "--cache", "cache", "--json"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    run = subprocess.run(
        [sys.executable, "-m", "proxforge", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert '"n": 3' in run.stdout
    code = (
        "import my_nets; s = my_nets.Mlps(); a = {'depth': 3, 'width': 9}\n"
        "assert sum(p.numel() for p in s.build(a, seed=0).parameters()) == s.size(a).params"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env)


def test_the_page_names_every_space_and_command():
    from proxforge.stats_cache.spaces import SPACES

    for name in SPACES:
        family, _, last = name.rpartition("-")
        assert f"`{name}`" in PAGE or (f"`{family}-t`" in PAGE and f"`-{last}`" in PAGE), name
    for command in ("info", "verify", "repair", "prune", "speed", "stress"):
        assert command in PAGE
    assert "@@" not in PAGE
