"""Every space through the collection: its statistics are those of plain autograd, its shapes those of the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxforge.stats_cache import CacheError, Recipe, collect
from proxforge.stats_cache.noise import noise, ones
from proxforge.stats_cache.recipe import find_space
from proxforge.stats_cache.sites import find_layers
from proxforge.stats_cache.spaces import SPACES, space

SIDES = {"autoformer": 32, "pit": 40, "nas-bench-201": 8, "cifar-resnet": 8, "micro": 8}
CELL = {"cell": ["nor_conv_3x3", "skip_connect", "none", "avg_pool_3x3", "none", "nor_conv_1x1"]}
"""Its first convolution leads nowhere: node 1 has no way to node 3."""


def side_of(name: str) -> int:
    return next(side for prefix, side in SIDES.items() if name.startswith(prefix))


def small(name: str) -> dict[str, Any]:
    chosen = space(name)
    if name == "nas-bench-201":
        return chosen.check(CELL)
    arch = chosen.sample(np.random.default_rng(3))
    if "hidden_dim" in arch:
        arch = {"hidden_dim": 36, "depth": 2, "mlp_ratio": [3.5, 4.0], "num_heads": [3, 4]}
    elif "base_dim" in arch:
        arch |= {"base_dim": 8, "depth": [1, 1, 1], "num_heads": [1, 2, 2]}
    elif "blocks" in arch:
        arch = {"blocks": [1, 2, 1]}
    return chosen.check(arch)


@pytest.mark.parametrize("name", SPACES)
def test_statistics_are_those_of_plain_autograd(name: str, tmp_path) -> None:
    arch, side = small(name), side_of(name)
    recipe = Recipe(name, (arch,), 7, seed=1, batch=3, input_seed=2, resolution=side)
    chosen = space(name).at(side)
    cache = collect(recipe, chosen.statistics(), tmp_path, workers=1)
    for site, shapes in chosen.shapes(arch, 3).items():
        for statistic in (s for s in chosen.statistics() if s.startswith(f"{site}.")):
            assert [cache.shape(0, statistic, i) for i in range(len(shapes))] == list(shapes), statistic
    assert cache.networks[0].layers == chosen.size(arch).depth

    model = chosen.build(arch, seed=1, classes=7).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()  # normalise by the batch
    images, labels = noise(3, chosen.channels, side, 7, 2)
    outputs: dict[str, torch.Tensor] = {}

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            output.retain_grad()
            outputs[path] = output

        return hook

    layers = find_layers(model, chosen.sites)
    activations = "hidden" if "hidden" in layers else "act"
    for (path,) in layers[activations]:
        model.get_submodule(path).register_forward_hook(keep(path))
    F.cross_entropy(model(images), labels).backward()

    double = chosen.build(arch, seed=1, classes=7).double().eval()
    with torch.no_grad():
        for tensor in double.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
    double(torch.ones(1, chosen.channels, side, side, dtype=torch.float64)).sum().backward()

    for site in layers:
        for i, (path,) in enumerate(layers[site]):
            if site == activations:
                output, gradient = outputs[path], outputs[path].grad
                gradient = torch.zeros_like(output) if gradient is None else gradient
                wanted = {"a": output.detach(), "g": gradient}
                if site == "act":
                    wanted = {kind: tensor.permute(0, 2, 3, 1) for kind, tensor in wanted.items()}
                wanted = {kind: tensor.reshape(-1, tensor.shape[-1]) for kind, tensor in wanted.items()}
            else:
                weight, other = model.get_submodule(path).weight, double.get_submodule(path).weight
                zeros = torch.zeros_like(weight)
                wanted = {
                    "w": weight.detach().flatten(1),
                    "g": (zeros if weight.grad is None else weight.grad).flatten(1),
                    "v": (zeros if other.grad is None else other.grad).flatten(1),
                }
            for kind, tensor in wanted.items():
                found, expected = cache.read(0, f"{site}.{kind}", i), tensor.float().numpy()
                scale = float(np.abs(expected).max())
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6 * scale, err_msg=f"{path}.{kind}")
    if name == "nas-bench-201":
        idle = [i for i in range(cache.networks[0].layers) if not cache.read(0, "conv.g", i).any()]
        assert len(idle) == 15, "the first convolution of every cell"
        assert all(cache.read(0, "act.a", i).any() and not cache.read(0, "conv.v", i).any() for i in idle)


def test_a_network_without_batch_statistics_would_have_other_gradients(tmp_path) -> None:
    arch, name = {"blocks": [1, 1, 1]}, "cifar-resnet"
    cache = collect(Recipe(name, (arch,), 7, batch=3, resolution=8), ["conv.g"], tmp_path, workers=1)
    model = space(name).build(arch, seed=0, classes=7).eval()
    F.cross_entropy(model(noise(3, 3, 8, 7, 0)[0]), noise(3, 3, 8, 7, 0)[1]).backward()
    averaged = model.units[1].conv.weight.grad.flatten(1).numpy()
    assert np.abs(cache.read(0, "conv.g", 1) - averaged).max() > 0.1 * np.abs(averaged).max()
    assert all(norm.running_mean.eq(0).all() for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_a_statistic_that_the_space_has_not_is_named(tmp_path) -> None:
    recipe = Recipe("cifar-resnet", ({"blocks": [1, 1, 1]},), 7, resolution=8)
    with pytest.raises(CacheError, match=r"cifar-resnet have no statistic 'qkv.w': their sites are conv, act"):
        collect(recipe, ["qkv.w", "conv.w"], tmp_path)
    assert space("cifar-resnet").statistics() == ("conv.w", "conv.g", "conv.v", "act.a", "act.g")
    assert len(space("pit").statistics()) == 14


def test_inputs_of_ones(tmp_path) -> None:
    archs = (small("micro"),)
    one, noisy = (
        collect(Recipe("micro", archs, 10, input=kind, input_seed=4), ["fc1.g", "fc1.v"], tmp_path, workers=1)
        for kind in ("ones", "noise")
    )
    assert not np.array_equal(one.read(0, "fc1.g", 0), noisy.read(0, "fc1.g", 0))
    np.testing.assert_array_equal(one.read(0, "fc1.v", 0), noisy.read(0, "fc1.v", 0))
    images, labels = ones(2, 1, 8, 10, 4)
    assert images.eq(1).all()
    assert not torch.equal(ones(64, 1, 8, 10, 4)[1], ones(64, 1, 8, 10, 5)[1])
    model = find_space("micro").build(archs[0], seed=0)
    F.cross_entropy(model(images), labels).backward()
    np.testing.assert_allclose(
        one.read(0, "fc1.g", 0), model.blocks[0].mlp.fc1.weight.grad.numpy(), rtol=1e-4, atol=1e-7
    )


def test_the_resolution_is_part_of_the_recipe() -> None:
    arch = {"blocks": [1, 1, 1]}
    own, same, other = (Recipe("cifar-resnet", (arch,), 7, resolution=side).normal() for side in (None, 32, 16))
    assert own.key == same.key != other.key
    assert (own.family().resolution, other.family().resolution) == (32, 16)
    assert "resolution" not in own.to_json()
    assert Recipe.from_json(other.to_json()) == other
