"""One untrained network as a measure sees it: the model, its images, and what a pass needs around it. Loads torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...stats_cache.inputs import Batch
from ...stats_cache.noise import noise, ones
from ...stats_cache.passes import How, full_precision, normalising, one_thread, ready
from ...stats_cache.recipe import Recipe
from ...stats_cache.sites import Layers, find_layers


class Undefined(Exception):
    """A measure that has no meaning for this network. The message says why."""


class Subject:
    """The network of a recipe with one architecture, and the recipe's images and labels.

    ``batch``: the images that the recipe's input names, where they are given.
    """

    def __init__(self, recipe: Recipe, batch: Batch | None = None) -> None:
        self.recipe = recipe
        self.family = recipe.family()
        self.arch = self.family.check(recipe.archs[0])
        self.size = self.family.size(self.arch, recipe.classes)
        self.given = batch

    @cached_property
    def model(self) -> nn.Module:
        """The network, built once; no measure changes it."""
        return self.fresh()

    def fresh(self) -> nn.Module:
        """The network once more, for a measure that changes it."""
        with one_thread():
            return self.family.build(self.arch, seed=self.recipe.seed, classes=self.recipe.classes)

    @cached_property
    def _inputs(self) -> tuple[Tensor, Tensor]:
        if self.given is not None:
            return torch.from_numpy(self.given.images.copy()), torch.from_numpy(self.given.labels.copy())
        made, family = ones if self.recipe.input == "ones" else noise, self.family
        recipe = self.recipe
        return made(recipe.batch, family.channels, family.resolution, recipe.classes, recipe.input_seed)

    @property
    def images(self) -> Tensor:
        """``[batch, channels, side, side]``."""
        return self._inputs[0]

    @property
    def labels(self) -> Tensor:
        """``[batch]``."""
        return self._inputs[1]

    @property
    def convolutional(self) -> bool:
        """Whether the layers are convolutions, and not transformer layers."""
        return "conv" in self.family.sites

    @cached_property
    def layers(self) -> Layers:
        """The modules of every site."""
        return find_layers(self.model, self.family.sites)

    def how(self) -> How:
        """How statistics of this network are measured."""
        recipe = self.recipe
        return How(
            batch_statistics=self.family.batch_statistics,
            idle_modules=self.family.idle_modules,
            rows=recipe.rows,
            row_seed=recipe.input_seed,
        )

    def generator(self, purpose: int) -> torch.Generator:
        """Random numbers for one purpose, from the seed of the initialisation."""
        return torch.Generator().manual_seed(1_000_003 * (purpose + 1) + self.recipe.seed)

    @contextmanager
    def running(self, model: nn.Module | None = None) -> Iterator[nn.Module]:
        """Inside, the network is ready for a pass: eval mode, gradients, one thread, BatchNorms as the space says.

        Attention is computed by its definition: the fused form has no second derivative.
        """
        model = self.model if model is None else model
        by_batch = self.family.batch_statistics
        with one_thread(), full_precision(), ready(model), normalising(model, by_batch), sdpa_kernel(SDPBackend.MATH):
            yield model


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of all convolutions and linear maps, head included, in module order."""
    found: list[nn.Parameter] = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]  # type: ignore[misc]
    return found


def gradients(root: Tensor, tensors: list[nn.Parameter], *, keep: bool = False, create: bool = False) -> list[Tensor]:
    """The gradients of ``root`` by the tensors, 0 for one without influence. ``keep``: the graph is needed again."""
    found = torch.autograd.grad(root, tensors, retain_graph=keep or create, create_graph=create, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
