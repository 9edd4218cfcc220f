"""Copy the inputs of a model, which may modify them in place."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def copy_inputs(inputs: T, device: torch.device | None = None) -> T:
    """Return nested inputs with a copy of each tensor, in the graph that the tensor is in.

    A tensor that occurs twice is one tensor in the copy too, since some models check whether two inputs are the same
    object. The copies are on `device`, or on the tensors' own devices if it is None.

    >>> image = torch.zeros(1)
    >>> first, second = copy_inputs((image, image))
    >>> first is second, first is image
    (True, False)
    """
    copies: dict[int, torch.Tensor] = {}

    def copy(part: Any) -> Any:
        kind = type(part)
        if isinstance(part, torch.Tensor):
            if id(part) not in copies:
                copies[id(part)] = _copy(part, device)
            return copies[id(part)]
        if kind is tuple or kind is list:
            return kind(map(copy, part))
        if kind is dict:
            return {key: copy(value) for key, value in part.items()}
        return tree_map_only(torch.Tensor, copy, part)  # slower, but supports every container

    made: T = copy(inputs)
    return made


def _copy(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """Return a copy of a tensor, on `device` if it is not None; only copies to an accelerator are asynchronous."""
    if device is None or tensor.device == device:
        return tensor.clone()
    return tensor.to(device, non_blocking=device.type != "cpu")
