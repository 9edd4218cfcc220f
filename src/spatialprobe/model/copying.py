"""Copy a model, or explain why it cannot be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.model.select import all_layers, check_model, model_name
from spatialprobe.model.settings import set_gradients
from spatialprobe.model.undo import undo_block

_WHOLE = (type, ModuleType, FunctionType, BuiltinFunctionType, str, bytes)  # types that hold no tensors to copy


def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model, with its hooks.

    Tensors that are part of a graph, such as weights that `torch.nn.utils.weight_norm` computes, or tensors that a
    forward pass has stored, are copied as plain values, since torch cannot copy them.

    Raises:
        ArgumentError: the model is not a module, has uninitialized weights, or holds an object that cannot be copied,
            which the message names.

    >>> model = nn.Linear(1, 1)
    >>> model.kept = model(torch.ones(1))
    >>> copy_model(model).kept.requires_grad
    False
    """
    check_model(model)
    if any(map(is_lazy, model.parameters())):
        raise ArgumentError(
            f"Some weights of the {model_name(model)} are not initialized yet: run it once on an input."
        )
    # The list keeps them alive, since the memo refers to them by their ids.
    graphs = [tensor for tensor in _find_tensors(model) if not tensor.is_leaf]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in graphs}
    try:
        with undo_block() as undo:
            set_gradients(undo, torch.is_grad_enabled())  # torch disables gradients while it copies a tensor
            return copy.deepcopy(model, memo)
    except Exception as error:
        raise ArgumentError(
            f"The {model_name(model)} cannot be copied: deepcopy raised {describe_error(error)}, "
            f"{_find_culprit(model)}. Remove that from the model until it is copied, or add a __deepcopy__ method to "
            "its class."
        ) from error


def _find_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield all tensors that a model holds, in attributes, containers and objects of any depth."""
    waiting: list[Any] = [model]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _WHOLE):
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)) or type(value).__module__ == "collections":
            waiting += list(value) if isinstance(value, Iterable) else []
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            waiting.append(attributes)


def _find_culprit(model: nn.Module) -> str:
    """Return which attribute of which module cannot be copied, if a single one is the cause."""
    for layer in all_layers(model):
        for name, value in vars(layer.module).items():
            if isinstance(value, nn.Module) or name == "_modules":
                continue
            memo = {id(tensor): tensor.detach() for tensor in _find_tensors(layer.module) if not tensor.is_leaf}
            try:
                copy.deepcopy(value, memo)
            except Exception:
                return f"because of the attribute {name!r} of {layer.name or 'the model itself'!r}"
    return "because of an object that it holds"
