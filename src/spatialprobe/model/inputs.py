"""Copy the inputs of a model, which may modify them in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy as shallow_copy
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_map

T = TypeVar("T")


def copy_inputs(
    inputs: T, device: torch.device | None = None, *, swapped: tuple[torch.Tensor, torch.Tensor] | None = None
) -> T:
    """Return nested inputs with a copy of each tensor, in the graph that the tensor is in.

    A tensor that occurs twice is one tensor in the copy too, since some models check whether two inputs are the same
    object. Sequences, mappings, dataclasses, and what else torch knows as a container, are copied too.

    Args:
        inputs: tensors, containers of them, and anything else, which is passed on as it is.
        device: the device of the copies; None: the tensors' own devices.
        swapped: a tensor of the inputs, and another that takes its place, as it is.

    >>> image = torch.zeros(1)
    >>> first, second = copy_inputs((image, image))
    >>> first is second, first is image
    (True, False)
    """
    copies: dict[int, torch.Tensor] = {} if swapped is None else {id(swapped[0]): swapped[1]}

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
        return tree_map(copy_leaf, part)  # slower, but supports every container that torch knows

    def copy_leaf(part: Any) -> Any:
        return copy(part) if isinstance(part, torch.Tensor) else _copy_members(part, copy)

    made: T = copy(inputs)
    return made


def _copy_members(part: Any, copy: Callable[[Any], Any]) -> Any:
    """Return a mapping or a dataclass with copies of what it holds; anything else as it is."""
    if isinstance(part, MutableMapping):
        made: Any = shallow_copy(part)  # of its own class, such as a tokenizer's BatchEncoding
        made.update({key: copy(value) for key, value in part.items()})
        return made
    if isinstance(part, Mapping):
        return {key: copy(value) for key, value in part.items()}
    if is_dataclass(part) and not isinstance(part, type):
        made = shallow_copy(part)
        for one in fields(part):
            if hasattr(part, one.name):
                object.__setattr__(made, one.name, copy(getattr(part, one.name)))  # of frozen ones, too
        return made
    return part


def _copy(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """Return a copy of a tensor, on `device` if it is not None; only copies to an accelerator are asynchronous."""
    if device is None or tensor.device == device:
        return tensor.clone()
    return tensor.to(device, non_blocking=device.type != "cpu")
