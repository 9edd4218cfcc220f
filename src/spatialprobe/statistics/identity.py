"""The identity of a sweep for its checkpoint or store: plain values for everything that determines its results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.code import qualified_name
from spatialprobe.model.description import Description, UndescribableError
from spatialprobe.model.hooks import ProbeHook
from spatialprobe.model.select import Layer, all_layers
from spatialprobe.storage.checksum import digest
from spatialprobe.text import kind_of

_UNKNOWN = (
    "checkpoint= and store= continue a sweep only with the same model, so every part of it must be identified. Remove "
    "that object, add a __reduce__ to its class that returns its contents, or leave out checkpoint= and store="
)


def model_identity(model: nn.Module) -> dict[str, Any]:
    """Return descriptions that identify a model, by part.

    `model` is the structure and the weights, bit by bit; `code` is the code of the user's own classes and everything
    it uses; `hooks` are the user's forward hooks and edits; `attributes` are the plain attributes of all modules, by
    name.

    Raises:
        ArgumentError: a hook or an attribute cannot be described.
    """
    layers = all_layers(model)
    describes = Description({layer.module: layer.name for layer in layers})
    return {
        "model": _structure(layers, describes),
        "code": [describes.of(kind) for kind in dict.fromkeys(type(layer.module) for layer in layers)],
        "hooks": _hooks(model, layers, describes),
        "attributes": _attributes(layers, describes),
    }


def forward_identity(forward: Callable[..., Any] | None) -> dict[str, Any]:
    """Return what tells the function that calls the model from others: its code, and what it holds and uses.

    Raises:
        ArgumentError: it holds something that cannot be described.
    """
    if forward is None:
        return {}  # as in files of sweeps without one
    try:
        return {"forward": describe(forward)}
    except UndescribableError as error:
        raise ArgumentError(f"forward= holds {error}: {_UNKNOWN}.") from error


def settings_identity(device: torch.device) -> dict[str, Any]:
    """Return the settings of torch that change what a model computes on a device."""
    return {
        "device": device.type,
        "dtype": str(torch.get_default_dtype()),
        "autocast": [
            str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
            for kind in dict.fromkeys(("cpu", device.type))
        ],
        "precision": [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32],
    }


def describe(value: Any) -> Any:
    """Return a description of a value that is equal for equal values in any process; large values become checksums.

    Raises:
        ArgumentError: it holds something that cannot be described.

    >>> describe([1, "a", None]), describe(torch.zeros(2)) == describe(torch.zeros(2))
    (['1', "'a'", 'None'], True)
    """
    return Description().of(value)


def _structure(layers: Sequence[Layer], describes: Description) -> str:
    """Return a checksum of the names and classes of the modules, and of their parameters and buffers."""
    kinds = [(layer.name, layer.aliases, qualified_name(type(layer.module))) for layer in layers]
    tensors = [
        (layer.name, name, describes.of(value))
        for layer in layers
        for name, value in (*layer.module._parameters.items(), *layer.module._buffers.items())
    ]
    return digest(repr((kinds, tensors)).encode())


def _hooks(model: nn.Module, layers: Sequence[Layer], describes: Description) -> str:
    """Return a checksum of all forward hooks, global ones too, except the library's own, which change nothing."""
    found = []
    names = {layer.module: layer.name for layer in layers}
    name = ""  # for a wrapper around the model
    try:
        for module in model.modules():
            name = names.get(module, name)
            found.append((name, describes.hooks(module, without=ProbeHook)))
        of_all = nn.modules.module._global_forward_pre_hooks, nn.modules.module._global_forward_hooks
        found.append(("every module", [describes.of(list(hooks.values())) for hooks in of_all]))
    except UndescribableError as error:
        raise ArgumentError(f"A forward hook of layer {name!r} holds {error}: {_UNKNOWN}.") from error
    return digest(repr([entry for entry in found if any(entry[1])]).encode())


def _attributes(layers: Sequence[Layer], describes: Description) -> dict[str, str]:
    """Return a checksum of each plain attribute, by its name, over all modules that have it."""
    found: dict[str, list[Any]] = defaultdict(list)
    for layer in layers:
        try:
            for name, value in describes.attributes(layer.module).items():
                found[name].append((layer.name, value))
        except UndescribableError as error:
            raise ArgumentError(f"Layer {layer.name!r}, {kind_of(layer.module)}: {error}: {_UNKNOWN}.") from error
    return {name: digest(repr(held).encode())[:16] for name, held in sorted(found.items())}
