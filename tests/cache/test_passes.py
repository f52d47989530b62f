"""What is measured, against plain autograd written separately; and that the network is left as it was."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from toy_model import ToyViT, separately
from toy_space import ALL, Toy

from proxforge.stats_cache import CacheError
from proxforge.stats_cache.noise import noise
from proxforge.stats_cache.passes import measure, one_thread
from proxforge.stats_cache.sites import find_layers

WEIGHTS = {
    "qkv": lambda block: block.attn.qkv,
    "proj": lambda block: block.attn.proj,
    "fc1": lambda block: block.fc1,
    "fc2": lambda block: block.fc2,
}


@pytest.fixture
def model() -> ToyViT:
    return Toy().build({"depth": 11, "width": 8}, seed=3)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return noise(3, 2, 8, 5, seed=1)


def collected(model, batch, statistics=ALL, sites=Toy.sites):
    return measure(model, find_layers(model, sites), statistics, *batch)


def close(found, expected) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        assert a.ndim == 2
        assert a.flags.c_contiguous
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-7 * float(b.abs().max()))


def test_weights_are_those_of_the_network(model, batch):
    found = collected(model, batch)
    for site, pick in WEIGHTS.items():
        for segment, block in zip(found[f"{site}.w"], model.blocks, strict=True):
            np.testing.assert_array_equal(segment, pick(block).weight.detach().numpy())


def test_gradients_and_activations_are_those_of_autograd(model, batch):
    other = deepcopy(model).eval()
    hidden, loss = separately(other, *batch)
    for activation in hidden:
        activation.retain_grad()
    loss.backward()
    found = collected(model, batch)
    for site, pick in WEIGHTS.items():
        close(found[f"{site}.g"], [pick(block).weight.grad for block in other.blocks])
    close(found["hidden.a"], [h.detach().reshape(-1, 16) for h in hidden])
    close(found["hidden.g"], [h.grad.reshape(-1, 16) for h in hidden])
    assert found["hidden.a"][0].shape == (3 * 4, 16)


def test_synflow_gradients_are_those_of_the_absolute_network_in_float64(model, batch):
    other = deepcopy(model).double().eval()
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.abs_()
    assert other.free.lt(0).all(), "a buffer outside the state keeps its sign"
    other(torch.ones(1, 2, 8, 8, dtype=torch.float64)).sum().backward()
    found = collected(model, batch)
    for site, pick in WEIGHTS.items():
        close(found[f"{site}.v"], [pick(block).weight.grad.float() for block in other.blocks])
    assert not np.array_equal(found["fc1.v"][0], found["fc1.g"][0])


def test_a_synflow_gradient_above_float32_is_infinite(model, batch):
    with torch.no_grad():
        model.head.weight.fill_(1e38)
        model.norm.weight.fill_(1e30)
    assert not np.isfinite(collected(model, batch, ["fc2.v"])["fc2.v"][-1]).all()


@pytest.mark.parametrize(
    "asked", [["hidden.a"], ["hidden.g"], ["qkv.g"], ["fc2.v"], ["qkv.w"], ["hidden.a", "fc1.v", "fc1.w"]]
)
def test_one_statistic_alone_is_what_it_is_among_all(model, batch, asked):
    everything, alone = collected(model, batch), collected(model, batch, asked)
    assert sorted(alone) == sorted(asked)
    for name in asked:
        for a, b in zip(alone[name], everything[name], strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_in_the_network_is_changed(model, batch):
    model.train()
    model.blocks[0].eval()
    model.head.weight.requires_grad_(False)
    model.blocks[1].fc1.weight.grad = torch.ones(16, 8)
    modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    before, random = deepcopy(model.state_dict()), torch.get_rng_state()
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        with torch.no_grad():
            collected(model, batch)
        assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["blocks.1.fc1.weight"]
    assert model.blocks[1].fc1.weight.grad.eq(1).all()
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_hooks_are_removed_when_the_forward_pass_fails(model):
    with pytest.raises(RuntimeError):
        collected(model, noise(3, 1, 8, 5, seed=1))
    assert not any(m._forward_hooks for m in model.modules())
    assert model.training


def test_noise_depends_on_its_seed_alone():
    random = torch.get_rng_state()
    (a, la), (b, lb), (c, _) = noise(4, 3, 8, 10, 5), noise(4, 3, 8, 10, 5), noise(4, 3, 8, 10, 6)
    assert torch.equal(torch.get_rng_state(), random)
    assert a.shape == (4, 3, 8, 8)
    assert torch.equal(a, b)
    assert torch.equal(la, lb)
    assert not torch.equal(a, c)


def test_a_site_without_a_weight_matrix_is_named(model, batch):
    with pytest.raises(CacheError, match=r"'blocks.0.norm' \(LayerNorm\) has no weight matrix"):
        collected(model, batch, ["fc1.w"], {"fc1": "blocks.*.norm"})


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.unused, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.twice(self.twice(x.mean((1, 2)))))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.out = nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.act(self.fc(x.mean((1, 2)))).add_(9))


def test_an_activation_that_is_changed_in_place_later():
    model, images, labels = InPlace(), torch.ones(2, 1, 1, 4), torch.tensor([0, 1])
    found = measure(model, {"hidden": [("act",)]}, ["hidden.a"], images, labels)
    close(found["hidden.a"], [torch.tanh(model.fc(images.mean((1, 2)))).detach()])
    with pytest.raises(CacheError, match="the module 'act' is changed in place later"):
        measure(model, {"hidden": [("act",)]}, ["hidden.g"], images, labels)


def test_a_module_that_is_not_called_once_or_has_no_gradient_is_named():
    images, labels = torch.ones(2, 1, 1, 4), torch.tensor([0, 1])
    with pytest.raises(CacheError, match="'twice' is called 2 times"):
        measure(Odd(), {"hidden": [("twice",)]}, ["hidden.a"], images, labels)
    with pytest.raises(CacheError, match="does not depend on the module 'unused' of site 'fc1'"):
        measure(Odd(), {"fc1": [("unused",)]}, ["fc1.g"], images, labels)
