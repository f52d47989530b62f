"""Collection on a CUDA device: the same statistics up to rounding; a cache stays on the device that began it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxforge.stats_cache import CacheError, Recipe, collect
from proxforge.stats_cache.spaces import space

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", ["micro", "cifar-resnet", "autoformer-t"])
def test_statistics_on_the_gpu_are_those_on_the_cpu(name, tmp_path):
    chosen = space(name)
    arch = chosen.sample(np.random.default_rng(0))
    if name == "autoformer-t":
        arch = {"hidden_dim": 48, "depth": 2, "mlp_ratio": [3.5, 4.0], "num_heads": [1, 2]}
    recipe = Recipe(name, (arch,), 10, batch=4)
    cpu = collect(recipe, chosen.statistics(), tmp_path / "cpu", workers=1)
    gpu = collect(recipe, chosen.statistics(), tmp_path / "gpu", device="cuda")
    assert gpu.manifest.versions["device"].startswith("cuda: ")
    for statistic in chosen.statistics():
        for layer in range(cpu.networks[0].layers):
            a, b = cpu.read(0, statistic, layer), gpu.read(0, statistic, layer)
            np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3 * float(np.abs(a).max() or 1))
    assert gpu.verify() == []


def test_a_cache_is_extended_where_it_was_begun(tmp_path):
    arch = space("micro").sample(np.random.default_rng(0))
    recipe = Recipe("micro", (arch,), 10)
    collect(recipe, ["fc1.g"], tmp_path, device="cuda")
    with pytest.raises(CacheError, match="was begun with device cuda"):
        collect(recipe, ["fc2.g"], tmp_path)
    collect(recipe, ["fc2.g"], tmp_path, device="cuda")
