"""The README tells the truth: its ten lines run and print what stands below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"-?\d+\.\d+")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_ten_lines_print_what_stands_below_them(tmp_path):
    found = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    place = [language for language, _ in found].index("python")
    code, expected = found[place][1], found[place + 1][1]
    assert len([line for line in code.splitlines() if line]) <= 10
    env = {**os.environ, "PROXFORGE_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    assert NUMBER.sub("#", run.stdout) == NUMBER.sub("#", expected)
    figures = [[float(n) for n in NUMBER.findall(text)] for text in (run.stdout, expected)]
    assert figures[0] == pytest.approx(figures[1], abs=0.021)  # a last digit may differ between machines


def test_errors_in_the_docs_are_the_true_messages():
    for page in ("README.md", "docs/language.md", "docs/rejection.md"):
        for _, content in blocks((ROOT / page).read_text(encoding="utf-8")):
            if content.startswith("$ proxforge check"):
                command, _, expected = content.partition("\n")
                formula = re.fullmatch(r'\$ proxforge check "(.*)"', command)
                assert formula is not None, command
                run = subprocess.run(
                    [sys.executable, "-m", "proxforge", "check", formula[1]],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert run.returncode == 2
                assert run.stderr == expected


def test_exports_in_the_docs_are_the_true_files():
    shown = [
        content
        for _, content in blocks((ROOT / "docs/language.md").read_text(encoding="utf-8"))
        if content.startswith("$ proxforge export")
    ]
    assert len(shown) == 2
    for content in shown:
        command, _, expected = content.partition("\n")
        given = shlex.split(command.removeprefix("$ proxforge"))
        run = subprocess.run([sys.executable, "-m", "proxforge", *given], cwd=ROOT, capture_output=True, check=True)
        assert run.stdout.decode() == expected


def test_the_op_in_the_docs_can_be_registered():
    (code,) = [c for _, c in blocks((ROOT / "docs/language.md").read_text(encoding="utf-8")) if "import register" in c]
    use = "from proxforge.vm.compile import compile_text; print(compile_text('sinh(qkv.w)').canonical)"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{use}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "sinh(qkv.w)\n"
