"""The statistics of any ``nn.Module`` whose sites are named: at most one pass of the cross-entropy and one of SynFlow.

Loads torch. Nothing in the network is changed: modes, flags, hooks, ``.grad``, the random state are what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..grammar.errors import nearest
from .source import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Layers = Mapping[str, Sequence[str]]
"""Site -> names of its modules, in layer order."""

Calls = dict[str, list[tuple[Tensor, Tensor, int]]]


def noise(batch: int, channels: int, resolution: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standard normal images ``[batch, channels, resolution, resolution]``, uniform labels ``[batch]``, seeded."""
    generator = torch.Generator().manual_seed(seed)
    try:
        images = torch.randn(batch, channels, resolution, resolution, generator=generator, dtype=torch.float32)
    except RuntimeError as error:  # what torch raises when there is not that much memory
        pixels = batch * channels * resolution**2
        raise CacheError(
            f"no memory for a batch of {batch} images ({4 * pixels / 1e9:.0f} GB); choose fewer"
        ) from error
    return images, torch.randint(classes, (batch,), generator=generator)


def find_layers(model: nn.Module, sites: Mapping[str, str]) -> dict[str, list[str]]:
    """The modules of every site, in natural order of their names (``blocks.2`` before ``blocks.10``).

    ``sites``: site -> pattern; ``*`` stands for characters other than the dot. Raises CacheError, naming the modules,
    when a pattern matches nothing or when sites have different numbers of layers.
    """
    names = [name for name, _ in model.named_modules() if name]
    found = {}
    for site, pattern in sites.items():
        rule = re.compile(re.escape(pattern).replace(r"\*", "[^.]+"))
        found[site] = sorted(filter(rule.fullmatch, names), key=_natural)
        if not found[site]:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise CacheError(
                f"the pattern {pattern!r} of site {site!r} matches no module{nearest(pattern, names)} "
                f"(modules: {shown})"
            )
    if len({len(layers) for layers in found.values()}) > 1:
        listing = "; ".join(f"{site}: {len(ls)} ({ls[0]} .. {ls[-1]})" for site, ls in found.items())
        raise CacheError(f"the sites do not line up, they need the same number of layers: {listing}")
    return found


def measure(
    model: nn.Module, layers: Layers, statistics: Collection[str], images: Tensor, labels: Tensor
) -> dict[str, list[NDArray[np.float32]]]:
    """The wanted statistics (names ``site.kind``), a list of 2-D float32 segments each, in layer order.

    A weight is ``[out, in]`` (a kernel's other axes joined into ``in``), a gradient alike; an activation
    ``[tokens * batch, features]``. Only the passes that are needed are run. Kind ``w`` is a view of the weight.
    Raises CacheError naming the module that has no weight, is not called once in a forward pass, or has no gradient.
    """
    by_kind: dict[str, list[str]] = {kind: [] for kind in "wgav"}
    for name in sorted(statistics):
        site, _, kind = name.partition(".")
        by_kind[kind].append(site)
    out: dict[str, list[Tensor]] = {}
    with _ready(model):
        for site in by_kind["w"]:
            out[f"{site}.w"] = [_weight(model, module).detach() for module in layers[site]]
        if by_kind["g"] or by_kind["a"]:
            out |= _cross_entropy(model, layers, by_kind["g"], by_kind["a"], images, labels)
        if by_kind["v"]:
            out |= _synflow(model, layers, by_kind["v"], torch.ones_like(images[:1], dtype=torch.float64))
    return {name: [_segment(name, tensor) for tensor in tensors] for name, tensors in out.items()}


def _cross_entropy(
    model: nn.Module, layers: Layers, gradients: list[str], activations: list[str], images: Tensor, labels: Tensor
) -> dict[str, list[Tensor]]:
    """Kinds ``g`` and ``a``: a forward pass, and a backward pass of the mean cross-entropy if a gradient is wanted."""
    leaves = {
        site: [_weight(model, m) for m in layers[site]] for site in gradients if _has_weight(model, layers[site][0])
    }
    hooked = sorted({*activations, *gradients} - leaves.keys())
    with (
        _recorded(model, [m for site in hooked for m in layers[site]]) as calls,
        torch.set_grad_enabled(bool(gradients)),
    ):
        loss = F.cross_entropy(model(images), labels)
    for module, outputs in calls.items():
        if len(outputs) != 1:
            raise CacheError(
                f"the module {module!r} is called {len(outputs)} times in a forward pass; a site needs one call"
            )
        output, _, version = outputs[0]
        if gradients and output._version != version:
            raise CacheError(f"the output of the module {module!r} is changed in place later; its gradient is lost")
    out = {f"{site}.a": [calls[m][0][1] for m in layers[site]] for site in activations}
    if gradients:
        wanted: dict[str, Sequence[Tensor]] = {
            site: leaves[site] if site in leaves else [calls[m][0][0] for m in layers[site]] for site in gradients
        }
        out |= _gradients(loss, layers, wanted, "g")
    return out


def _synflow(model: nn.Module, layers: Layers, sites: list[str], ones: Tensor) -> dict[str, list[Tensor]]:
    """Kind ``v`` (SynFlow, Tanaka et al. 2020): the gradients of the sum of the outputs for an input of ones.

    In float64, with every parameter and float buffer of the state made absolute. The network is called with these
    tensors; its own are not changed.
    """
    saved = model.state_dict(keep_vars=True)
    state = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            double = tensor.detach().double()
            state[name] = double.abs() if name in saved else double
    names = {site: [f"{module}.weight" for module in layers[site]] for site in sites}
    for site, weights in names.items():
        for module, name in zip(layers[site], weights, strict=True):
            _weight(model, module)
            state[name].requires_grad_()
    total = torch.func.functional_call(model, state, (ones,)).sum()
    return _gradients(total, layers, {site: [state[name] for name in weights] for site, weights in names.items()}, "v")


def _gradients(
    root: Tensor, layers: Layers, wanted: Mapping[str, Sequence[Tensor]], kind: str
) -> dict[str, list[Tensor]]:
    """The gradients of ``root`` by the wanted tensors, per site; no ``.grad`` is touched."""
    flat = [tensor for tensors in wanted.values() for tensor in tensors]
    found = iter(torch.autograd.grad(root, flat, allow_unused=True))
    out: dict[str, list[Tensor]] = {}
    for site in wanted:
        out[f"{site}.{kind}"] = tensors = []
        for module in layers[site]:
            gradient = next(found)
            if gradient is None:
                raise CacheError(f"the output of the network does not depend on the module {module!r} of site {site!r}")
            tensors.append(gradient)
    return out


@contextmanager
def _recorded(model: nn.Module, modules: Sequence[str]) -> Iterator[Calls]:
    """Inside, every call of the modules is recorded: output, its values (a later layer may work in place), version."""
    calls: Calls = {module: [] for module in modules}
    handles: list[RemovableHandle] = []

    def recorder(module: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[module].append((output, output.detach().clone(), output._version))

        return record

    try:
        handles.extend(model.get_submodule(module).register_forward_hook(recorder(module)) for module in modules)
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _ready(model: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode and its float parameters are in the graph; afterwards all is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters() if p.is_floating_point()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread, so that sums are made in one order; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_weight(model: nn.Module, module: str) -> bool:
    weight = getattr(model.get_submodule(module), "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim >= 2


def _weight(model: nn.Module, module: str) -> nn.Parameter:
    if not _has_weight(model, module):
        kind = type(model.get_submodule(module)).__name__
        raise CacheError(f"the module {module!r} ({kind}) has no weight matrix; name a linear or convolutional layer")
    weight = model.get_submodule(module).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _segment(name: str, tensor: Tensor) -> NDArray[np.float32]:
    """As the store wants it: 2-D, float32, contiguous."""
    tensor = tensor.detach()
    flat = tensor.flatten(0, -2) if name.startswith("hidden.") else tensor.flatten(1)
    array: NDArray[np.float32] = flat.to("cpu", torch.float32).contiguous().numpy()
    return array


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Numbers in a name compare as numbers."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in name.split("."))
