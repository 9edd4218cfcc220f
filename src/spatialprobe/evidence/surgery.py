"""Changed copies of a model: kernels without their pattern, and kernels that training never touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from spatialprobe.arguments import as_int, check_one_of, make_generator
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.reparametrized import find_sources, find_unknown_computed_weight, initialize, make_plain
from spatialprobe.model.copying import copy_model
from spatialprobe.model.select import Layer, Selector, check_model, select
from spatialprobe.model.settings import seed_generators
from spatialprobe.model.undo import undo_block
from spatialprobe.text import kind_of

How = Literal["mean", "shuffle"]


def kernel_surgery(model: nn.Module, layer: Selector, how: How = "mean", *, seed: int = 0) -> nn.Module:
    """Return a copy of the model whose kernels have lost the arrangement of their taps, and nothing else.

    "mean" sets each tap to the mean of its kernel's taps for that input channel: the kernel still weighs colors or
    channels, but detects no pattern. "shuffle" puts the taps of all kernels of a layer in one other order: the same
    numbers, another pattern. Both keep each kernel's sum for each input channel, and the bias. Kernels that a hook of
    `torch.nn.utils` computes (`weight_norm`, `spectral_norm`, `prune`) are plain parameters in the copy, with the
    values that they have in evaluation mode. The model itself and all random states are not changed; other hooks are
    copied with it.

    Args:
        model: any module.
        layer: the layer, by name or itself; or any selector of several. Each must have kernels (out, in, *taps), as
            `nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d` and their transposes have.
        how: "mean" or "shuffle".
        seed: of the order, which is never the original one.

    Raises:
        ArgumentError: a layer has no kernels, or its kernels are parametrized or have only one tap; or `how` is
            neither; or the model cannot be copied.
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
    check_model(model)
    layers = select(model, layer, "layer")
    changed = copy_model(model)
    generator = make_generator(seed)
    shared: dict[tuple[torch.Tensor, ...], nn.Parameter] = {}  # the new kernels, by the parameters they come from
    for chosen in _find_in_copy(changed, layers):
        _check_plain(chosen)
        source = tuple(find_sources(chosen.module, "weight"))
        make_plain(chosen.module)
        kernels = _kernels(chosen)
        if source in shared:  # layers share them
            chosen.module.weight = shared[source]
            continue
        taps = kernels.detach().flatten(2)
        if how == "mean":
            new = taps.mean(dim=2, keepdim=True).expand_as(taps)
        else:
            new = taps[..., _draw_other_order(taps.shape[2], generator).to(taps.device)]
        # A parameter of its own, so that a layer that shares these weights keeps them.
        chosen.module.weight = nn.Parameter(
            new.reshape(kernels.shape).contiguous(), requires_grad=kernels.requires_grad
        )
        shared[source] = chosen.module.weight
    return changed


def frozen_copy(model: nn.Module, layers: Selector = nn.Conv2d, *, seed: int = 0) -> nn.Module:
    """Return a copy of the model whose chosen layers are re-initialized and frozen.

    Train the other layers to see what untrained kernels are worth. Layers draw their weights by their own
    `reset_parameters`, from the seed; hooks of `torch.nn.utils` (`weight_norm`, `spectral_norm`, `prune`) normalize or
    mask these weights as usual. Other layers that share weights with a chosen one keep theirs. The model itself and all
    random states are not changed.

    Args:
        model: any module.
        layers: the layers to freeze, as for `Probe`.
        seed: of the weights.

    Raises:
        ArgumentError: a layer has no weights of its own, or no `reset_parameters`; or the model cannot be copied.
        LayerNotFoundError: a selector matches nothing.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5400, 10))
    >>> frozen = sp.evidence.frozen_copy(model, seed=1)
    >>> [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
    ['3.weight', '3.bias']
    """
    check_model(model)
    chosen = select(model, layers)
    changed = copy_model(model)
    own: dict[nn.Parameter, nn.Parameter] = {}
    with undo_block() as undo:
        seed_generators(undo, as_int(seed, "seed"), {tensor.device for tensor in changed.parameters()})
        for layer in _find_in_copy(changed, chosen):
            _check_drawable(layer)
            _untie(layer.module, own)
            initialize(layer.module)
            for parameter in layer.module.parameters(recurse=False):
                parameter.requires_grad_(False)
    return changed


def _find_in_copy(copy: nn.Module, layers: list[Layer]) -> list[Layer]:
    """Return the layers of a model's copy that correspond to these layers of the model."""
    return [replace(layer, module=copy.get_submodule(layer.raw_names[0])) for layer in layers]


def _untie(module: nn.Module, own: dict[nn.Parameter, nn.Parameter]) -> None:
    """Replace a module's parameters by clones, one for each original, so that chosen modules go on sharing them."""
    for name, parameter in module._parameters.items():
        if parameter is not None:
            if parameter not in own:
                own[parameter] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            module._parameters[name] = own[parameter]


def _check_drawable(chosen: Layer) -> None:
    """Raise an error unless a layer has weights that it can initialize itself."""
    module = chosen.module
    if parametrize.is_parametrized(module):
        raise ArgumentError(
            f"Layer {chosen.name!r} has parametrized weights, which cannot be re-initialized. Make them plain first, "
            "with torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
        )
    reset = getattr(module, "reset_parameters", None)
    if not any(True for _ in module.parameters(recurse=False)) or not callable(reset):
        raise ArgumentError(
            f"Layer {chosen.name!r} is {kind_of(module)}, which has no weights of its own, or no reset_parameters() "
            "to initialize them. Choose other layers."
        )
    _check_computed(chosen)


def _check_plain(chosen: Layer) -> None:
    """Raise an error if a layer's kernels are computed from other tensors by something that cannot be removed."""
    if parametrize.is_parametrized(chosen.module, "weight"):
        # Removing them from a copy would remove them from the model's class as well.
        raise ArgumentError(
            f"Layer {chosen.name!r} has parametrized kernels. Make them plain first, with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')."
        )
    _check_computed(chosen)


def _check_computed(chosen: Layer) -> None:
    """Raise an error if hooks that are not torch's compute a layer's weights."""
    computed = find_unknown_computed_weight(chosen.module)
    if computed:
        raise ArgumentError(
            f"Layer {chosen.name!r} has {computed!r} as a plain tensor instead of a parameter, and a forward pre-hook "
            "that is not from torch.nn.utils and seems to compute it. Make it a parameter first."
        )


def _kernels(chosen: Layer) -> torch.Tensor:
    """Return a layer's kernels (out, in, *taps), or raise an error if it has none with several taps."""
    module = chosen.module
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 3:
        raise ArgumentError(
            f"Layer {chosen.name!r} is {kind_of(module)}, which has no kernels in a parameter 'weight' "
            "(out, in, *taps). Choose a convolution."
        )
    if weight[0, 0].numel() < 2:
        raise ArgumentError(
            f"The kernels of layer {chosen.name!r} have one tap, so they have no pattern to remove. Choose a layer "
            "with larger kernels."
        )
    return weight


def _draw_other_order(taps: int, generator: torch.Generator) -> torch.Tensor:
    """Return an order of the taps other than the original one."""
    while True:
        order = torch.randperm(taps, generator=generator, device="cpu")
        if not torch.equal(order, torch.arange(taps, device="cpu")):
            return order
