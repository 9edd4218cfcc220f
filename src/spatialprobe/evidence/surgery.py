"""Changed copies of a model: kernels without their pattern, and kernels that training never touched."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from spatialprobe.arguments import check_one_of, seeded, whole_number
from spatialprobe.errors import ArgumentError
from spatialprobe.model.select import Layer, Selector, check_model, model_name, select
from spatialprobe.model.weights import device_of
from spatialprobe.text import kind_of

How = Literal["mean", "shuffle"]


def kernel_surgery(model: nn.Module, layer: Selector, how: How = "mean", seed: int = 0) -> nn.Module:
    """A copy of the model whose kernels have lost the arrangement of their taps, and nothing else.

    "mean" gives each tap the mean of its kernel's taps for that input channel: what is left of a kernel weighs colours
    or channels, but sees no pattern. "shuffle" puts the taps of all kernels of a layer in one other order: the same
    numbers, another pattern. Both keep each kernel's sum for each input channel, and the bias. The model itself is
    not changed, nor any random state; hooks are copied with the model.

    Args:
        model: any module.
        layer: the layer, by name or itself; or any selector that means several. Each must have kernels
            (out, in, *taps), as `nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d` and their transposes have.
        how: "mean" or "shuffle".
        seed: of the order, which is never the one they have.

    Raises:
        ArgumentError: a layer without kernels, or whose kernels are parametrized or have only one tap; or `how` is
            neither.
        LayerNotFoundError: no such layer; the message names the nearest.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 1, 2)
    >>> _ = conv.weight.data.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    >>> sp.evidence.kernel_surgery(conv, "", how="mean").weight.tolist()
    [[[[3.0, 3.0], [3.0, 3.0]]]]
    >>> sorted(sp.evidence.kernel_surgery(conv, "", how="shuffle", seed=1).weight.flatten().tolist())
    [1.0, 2.0, 3.0, 6.0]
    """
    check_one_of(how, "how", How)
    changed = _copied(model)
    generator = seeded(seed)
    shared: dict[torch.Tensor, nn.Parameter] = {}  # the new kernels by the old ones, which layers may share
    for chosen in _in_copy(changed, select(model, layer, "layer")):
        kernels = _kernels(chosen)
        if kernels in shared:
            chosen.module.weight = shared[kernels]
            continue
        taps = kernels.detach().flatten(2)
        if how == "mean":
            new = taps.mean(dim=2, keepdim=True).expand_as(taps)
        else:
            new = taps[..., _other_order(taps.shape[2], generator).to(taps.device)]
        # A parameter of its own, so that a layer that shares these weights keeps them.
        chosen.module.weight = nn.Parameter(
            new.reshape(kernels.shape).contiguous(), requires_grad=kernels.requires_grad
        )
        shared[kernels] = chosen.module.weight
    return changed


def frozen_copy(model: nn.Module, layers: Selector = nn.Conv2d, seed: int = 0) -> nn.Module:
    """A copy of the model whose chosen layers are drawn anew, as when they were made, and do not train.

    With the rest trained, it shows what untrained kernels are worth. Layers draw their weights by their own
    `reset_parameters`, from the seed; the random state of the program, and the model itself, stay as they are.

    Args:
        model: any module.
        layers: which layers, as for `Probe`.
        seed: of the weights.

    Raises:
        ArgumentError: a layer has no weights of its own, or no way to draw them.
        LayerNotFoundError: a selector matches nothing.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5400, 10))
    >>> frozen = sp.evidence.frozen_copy(model, seed=1)
    >>> [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
    ['3.weight', '3.bias']
    """
    changed = _copied(model)
    device = device_of(changed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(whole_number(seed, "seed"))
        for chosen in _in_copy(changed, select(model, layers)):
            _redraw(chosen)
    return changed


def _copied(model: nn.Module) -> nn.Module:
    check_model(model)
    if any(map(is_lazy, model.parameters())):
        raise ArgumentError(f"Some weights of the {model_name(model)} are not made yet: run it once on an input.")
    return deepcopy(model)


def _in_copy(copy: nn.Module, layers: list[Layer]) -> list[Layer]:
    """The layers of a copy that are where these are in its model."""
    return [replace(layer, module=copy.get_submodule(layer.raw_names[0])) for layer in layers]


def _redraw(chosen: Layer) -> None:
    module = chosen.module
    if parametrize.is_parametrized(module):
        raise ArgumentError(f"Layer {chosen.name!r} has parametrized weights, which cannot be drawn anew.")
    own = list(module.parameters(recurse=False))
    reset = getattr(module, "reset_parameters", None)
    if not own or not callable(reset):
        raise ArgumentError(
            f"Layer {chosen.name!r} is {kind_of(module)}, which has no weights of its own to draw, or no "
            "reset_parameters() to draw them with: choose other layers."
        )
    reset()
    for parameter in own:
        parameter.requires_grad_(False)


def _kernels(chosen: Layer) -> torch.Tensor:
    """A layer's kernels (out, in, *taps), or what is wrong with them."""
    module = chosen.module
    if parametrize.is_parametrized(module, "weight"):
        # Removing them from a copy would remove them from the model's class as well.
        raise ArgumentError(
            f"Layer {chosen.name!r} has parametrized kernels: make them plain first, with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
        )
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 3:
        raise ArgumentError(
            f"Layer {chosen.name!r} is {kind_of(module)}, which has no kernels in a parameter 'weight' "
            "(out, in, *taps): choose a convolution."
        )
    if weight[0, 0].numel() < 2:
        raise ArgumentError(f"The kernels of layer {chosen.name!r} have one tap: there is no pattern to take away.")
    return weight


def _other_order(taps: int, generator: torch.Generator) -> torch.Tensor:
    """An order of the taps other than the one they have."""
    while True:
        order = torch.randperm(taps, generator=generator, device="cpu")
        if not torch.equal(order, torch.arange(taps, device="cpu")):
            return order
