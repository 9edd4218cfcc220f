"""A model temporarily in evaluation mode, on a device, and everything that a forward pass writes into it restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.select import model_name

_Contents = tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any]]]


@contextmanager
def borrowed(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """The model in evaluation mode on the device, without gradients, until the block ends, however it ends.

    Modes, buffers that the model writes to, weights that moved and random state are put back.

    Raises:
        ArgumentError: its weights have no values.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ArgumentError(
            f"Weights of the {model_name(model)} are on the meta device, where tensors have no values: make it on a "
            "real one, or load its weights first."
        )
    cuda = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        stack.enter_context(evaluating(model))
        stack.enter_context(buffers_restored(model))
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.device != device:
                stack.callback(setattr, tensor, "data", tensor.data)
                tensor.data = tensor.data.to(device)
        yield model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode until the block ends, then each in the mode it was in.

    Modes are set one by one, since `eval()` may be overridden with something that `train()` does not undo.
    """
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Every module's plain attributes as they were when the block began, caches and counters too.

    For passes on stand-ins of the real tensors, which must leave nothing of them behind. Lists, dictionaries and sets
    get back their contents; deeper containers are taken as they are.
    """
    before = [_contents(module.__dict__) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, values, contents in before:
            for name in attributes.keys() - values.keys():
                del attributes[name]
            for name, value in values.items():
                if name not in attributes or attributes[name] is not value:
                    attributes[name] = value
            for container, content in contents:
                _refill(container, content)


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """Every module's buffers, the same tensors with the same values, as they were when the block began."""
    before = [_Buffers(module) for module in model.modules() if module._buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for held in before:
                held.put_back()


class _Buffers:
    """The buffers of one module and their values."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._held = dict(module._buffers)
        self._values = {name: None if held is None else held.clone() for name, held in module._buffers.items()}

    def put_back(self) -> None:
        """Make the module hold the same tensors with the same values."""
        self._module._buffers.clear()
        self._module._buffers.update(self._held)
        for name, value in self._values.items():
            held = self._held[name]
            if held is not None and value is not None and not torch.equal(held, value.to(held.device)):
                held.copy_(value)


def _contents(attributes: dict[str, Any]) -> _Contents:
    """A module's attributes, their values, and a copy of what each container among them holds."""
    containers = [value for value in attributes.values() if type(value) in (list, dict, set)]
    return attributes, dict(attributes), [(container, container.copy()) for container in containers]


def _refill(container: Any, content: Any) -> None:
    """Give a container its content back, in its order."""
    same = len(container) == len(content) and (
        container == content
        if isinstance(container, set)
        else all(a is b for a, b in zip(_items(container), _items(content), strict=True))
    )
    if not same:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(content)


def _items(container: Any) -> Iterator[Any]:
    """What a list or a dictionary holds, one by one."""
    if isinstance(container, dict):
        for key, value in container.items():
            yield key
            yield value
    else:
        yield from container
