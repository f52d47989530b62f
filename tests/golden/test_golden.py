"""Text -> disassembly -> value, pinned. ``python -m tests.golden.test_golden`` writes the file anew: read the diff."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from proxforge.vm.compile import compile_text
from proxforge.vm.evaluate import Evaluator
from tests.random_programs import random_source

FILE = Path(__file__).with_name("programs.json")
FORMULAS = [
    "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))",
    "l = abs(qkv.g); k = mean(sigmoid(fc1.g)); l + k",
    "layer_sum(sum(abs(qkv.w * qkv.v)))",
    "layer_sum(sum(abs(qkv.w * qkv.g))) + layer_sum(sum(abs(proj.w * proj.g)))",
    "frobenius(min_max(fc1.w)) + sqrt(sigmoid(hidden.g))",
    "mean(fc2.w @ fc1.w) @ std(qkv.w)",
    "layer_std(l1_norm(normalize(fc1.g))) / depth - 3",
    "layer_max(max(softmax(qkv.w))) * params",
    "-relu(inv(exp(qkv.w)))",
    "depth * width",
    "dot(qkv.g, qkv.w) / frobenius(qkv.w)",
    "layer_sum(nuclear_norm(qkv.g) * nuclear_norm(qkv.w) + dot(fc1.g, fc1.w))",
    "slogdet(gram(tanh(fc1.w)))",
    "mish(leaky_relu(qkv.g)) * heaviside(qkv.w) - pow4(qkv.w)",
]


def record(formula: str) -> dict[str, object]:
    proxy = compile_text(formula)
    source = random_source(11, [(4, 6, 5, 2), (8, 12, 3, 3), (6, 10, 5, 1)])
    scores = Evaluator(source, range(3), backend_name="reference").run([proxy.node]).scores[0]
    return {
        "formula": formula,
        "canonical": proxy.canonical,
        "hash": proxy.hash,
        "latex": proxy.latex,
        "disassembly": proxy.disassemble(),
        "scores": [float(s) if np.isfinite(s) else str(s) for s in scores],
    }


@pytest.mark.parametrize("formula", FORMULAS)
def test_golden(formula):
    expected = {r["formula"]: r for r in json.loads(FILE.read_text())}[formula]
    found = record(formula)
    scores, pinned = found.pop("scores"), expected.pop("scores")
    assert found == expected
    for a, b in zip(scores, pinned, strict=True):
        assert a == (pytest.approx(b, rel=1e-12) if isinstance(b, float) else b)


if __name__ == "__main__":
    FILE.write_text(json.dumps([record(f) for f in FORMULAS], indent=1) + "\n")
