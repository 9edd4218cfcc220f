"""Copy the inputs of a model, which may modify them in place, or change the tensors in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy as shallow_copy
from dataclasses import fields, is_dataclass
from functools import partial
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
    if swapped is None:
        return map_tensors(inputs, partial(_copy, device=device))
    tensor, other = swapped
    return map_tensors(inputs, lambda one: other if one is tensor else _copy(one, device))


def map_tensors(inputs: T, change: Callable[[Any], Any], whole: Callable[[Any], bool] = lambda part: False) -> T:
    """Return nested inputs with what a function returns in place of each tensor, once for a tensor that occurs twice.

    Args:
        inputs: tensors, containers of them, and anything else, which is passed on as it is.
        change: the function.
        whole: whether a part, such as a list of images, is passed to the function as if it were a tensor.

    >>> map_tensors({"x": torch.ones(1), "n": 2}, lambda one: -one)
    {'x': tensor([-1.]), 'n': 2}
    """
    changed: dict[int, Any] = {}

    def visit(part: Any) -> Any:
        kind = type(part)
        if isinstance(part, torch.Tensor) or whole(part):
            if id(part) not in changed:
                changed[id(part)] = change(part)
            return changed[id(part)]
        if kind is tuple or kind is list:
            return kind(map(visit, part))
        if kind is dict:
            return {key: visit(value) for key, value in part.items()}
        return tree_map(visit_leaf, part)  # slower, but supports every container that torch knows

    def visit_leaf(part: Any) -> Any:
        return visit(part) if isinstance(part, torch.Tensor) else _copy_members(part, visit)

    made: T = visit(inputs)
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
