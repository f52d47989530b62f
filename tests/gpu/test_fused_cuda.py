"""The fused kernel on a CUDA device: it is used, agrees with torch and the reference, and repeats its bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxforge.bench.agreement.programs import random_source
from proxforge.grammar.expr import Pool
from proxforge.grammar.parse import parse
from proxforge.vm.backends.fused import proof
from proxforge.vm.backends.fused.launch import CudaLauncher
from proxforge.vm.backends.torch import TorchBackend
from proxforge.vm.evaluate import Evaluator
from tests.backend.test_backends import SOURCES, agree
from tests.backend.test_torch_fused import EDGES, every_op
from tests.random_programs import random_score

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


def on_gpu(source, launcher="proven"):
    return TorchBackend(source, range(len(source.networks)), "cuda", launcher)


def population(count: int, seed: int = 0) -> list:
    rng, pool = np.random.default_rng(seed), Pool()
    return [*every_op(), *(random_score(rng, pool, 4) for _ in range(count))]


def test_it_passes_its_trial():
    assert proof.differences(CudaLauncher(torch.device("cuda", torch.cuda.current_device())), on_gpu) == []
    assert on_gpu(SOURCES["normal"]).device == "cuda, fused kernel"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_op_and_random_programs_against_the_reference(name):
    assert agree(SOURCES[name], population(300), "cuda") > 100


def test_sizes_around_a_tile_a_strip_and_a_chunk():
    assert agree(EDGES, population(100), "cuda") > 100


def test_the_bytes_are_the_same_again_and_beside_others():
    nodes = population(100)
    chosen = Evaluator(EDGES, range(6), backend_name="torch", device="cuda")
    together = chosen.run(nodes).scores
    np.testing.assert_array_equal(
        Evaluator(EDGES, range(6), backend_name="torch", device="cuda").run(nodes).scores, together
    )
    for i in range(0, len(nodes), 7):
        alone = Evaluator(EDGES, range(6), backend_name="torch", device="cuda").run([nodes[i]]).scores
        np.testing.assert_array_equal(alone[0], together[i])


def test_segments_of_many_blocks():
    texts = [
        "std(exp(qkv.w) * sigmoid(qkv.g))",
        "max(softmax(fc1.w)) - min(log_softmax(fc1.g))",
        "frobenius(normalize(tanh(fc2.w)) + fc2.g)",
        "mean(min_max(abs(hidden.a)) * l1_norm(hidden.g))",
        "sum(abs(fc2.w @ softmax(fc1.w)))",
    ]
    source = random_source(3, [(300, 500, 400, 2), (64, 256, 300, 3)])
    assert agree(source, [parse(text) for text in texts], "cuda") == len(texts)
