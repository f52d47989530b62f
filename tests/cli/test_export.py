"""``proxforge export``: what is printed, what is written, and what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from proxforge.cli import run
from proxforge.exports import FORMS

FORMULA = "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))"


def called(capsys, *args: str) -> tuple[int, str, str]:
    code = run(["export", *args])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("to", sorted(FORMS))
def test_every_form_is_printed_written_and_json(to, tmp_path, capsys):
    code, printed, errors = called(capsys, FORMULA, "--to", to)
    assert (code, errors) == (0, "")
    assert printed.endswith("\n")
    file = tmp_path / "proxy"
    code, told, _ = called(capsys, FORMULA, "--to", to, "--out", str(file))
    assert code == 0
    assert told == f"{file}: {len(printed.splitlines())} lines\n"
    assert file.read_text(encoding="utf-8") == printed
    code, document, _ = called(capsys, FORMULA, "--to", to, "--out", str(file), "--json")
    found = json.loads(document)
    assert (found["to"], found["out"], found["content"]) == (to, str(file), printed)
    assert len(found["hash"]) == 32
    assert sorted(os.listdir(tmp_path)) == ["proxy"]


def test_the_text_is_the_canonical_one(capsys):
    assert called(capsys, "--to", "text", "--", "-(-qkv.w) * 1")[1] == "qkv.w\n"
    assert called(capsys, "--to", "text", "--", "-qkv.w")[1].startswith("-")


def test_a_published_proxy_by_name(capsys):
    assert "layer_sum(" in called(capsys, "SynFlow", "--to", "text")[1]


def test_the_same_file_in_every_process():
    """Whatever the seed of Python's hashes."""
    program = (
        "from proxforge.grammar.export_sympy import sympy_source; from proxforge.grammar.parse import parse\n"
        "print(sympy_source(parse('layer_std(slogdet(normalize(qkv.w)) * max(fc1.g)) + 2 * depth')))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert b"LogDeterminant" in outputs[0]


BAD = [
    ((FORMULA, "--to", "torhc"), "usage", "did you mean 'torch'"),
    ((FORMULA,), "usage", "'--to'"),
    (("abs(qkv.w", "--to", "torch"), "syntax", "ends too early"),
    (("sum(qkv.w) - sum(qkv.w)", "--to", "text"), "constant", "the score is 0"),
    ((FORMULA, "--to", "text", "--out", ""), "usage", "the path is empty"),
    ((FORMULA, "--to", "text", "--out", "."), "file", "it is no file"),
    ((FORMULA, "--to", "text", "--out", "/dev/null"), "file", "it is no file"),
    ((FORMULA, "--to", "text", "--out", "no/such/folder/file"), "file", "cannot write no/such/folder/file"),
    (("a = qkv.w\n" + "a = normalize(a) + sigmoid(a)\n" * 9 + "a", "--to", "sympy"), "export", "5,000 operations"),
]


@pytest.mark.parametrize(("args", "kind", "part"), BAD, ids=[f"{b[1]}-{i}" for i, b in enumerate(BAD)])
def test_bad_input_is_exit_code_2_and_one_error(args, kind, part, capsys):
    code, printed, _ = called(capsys, *args, "--json")
    assert code == 2
    error = json.loads(printed)["error"]
    assert error["kind"] == kind
    assert part in error["message"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    assert called(capsys, FORMULA, "--to", "text", "--out", str(link))[0] == 0
    assert link.is_symlink()
    assert file.read_text() == f"{FORMULA}\n"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, errors = called(capsys, "params", "--to", "text", "--out", str(file))
    assert code == 2
    assert errors == f"file error: cannot write {file}: No space left on device\n"
    assert file.read_text() == f"{FORMULA}\n"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
