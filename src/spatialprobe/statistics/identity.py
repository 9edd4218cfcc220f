"""What tells models, data and reducers apart, as plain values that can be written and compared."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import nn

from spatialprobe.model.select import all_layers
from spatialprobe.storage.checksum import digest, fingerprint

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def model_identity(model: nn.Module) -> str:
    """A checksum of a model's structure, and of its weights and buffers bit by bit."""
    structure = [
        (layer.name, type(layer.module).__qualname__, layer.module.extra_repr()) for layer in all_layers(model)
    ]
    tensors = [
        (layer.name, name, describe(value))
        for layer in all_layers(model)
        for name, value in (*layer.module._parameters.items(), *layer.module._buffers.items())
    ]
    return digest(repr((structure, tensors)).encode())


def describe(value: Any) -> Any:
    """A value in words, equal for equal values in any process: of tensors the checksum, of objects what they hold.

    Raises:
        TypeError: an object that cannot be pickled, and so cannot be described.
    """
    if isinstance(value, torch.Tensor):
        return fingerprint(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return fingerprint(torch.from_numpy(np.array(value))) if value.dtype.kind in "biuf" else repr(value)
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Set):
        return sorted(repr(describe(item)) for item in value)
    if isinstance(value, Mapping):
        return [[describe(key), describe(item)] for key, item in value.items()]
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    made, arguments, *state = value.__reduce_ex__(2)  # how pickle takes an object apart
    return [
        describe(part) for part in (made, arguments, *(list(part) if _is_iterator(part) else part for part in state))
    ]


def _is_iterator(value: Any) -> bool:
    return hasattr(value, "__next__")
