"""A model on loan: in evaluation mode, on a device, and given back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from spatialprobe.activations.mode import evaluating
from spatialprobe.activations.select import model_name
from spatialprobe.errors import ArgumentError


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
        stack.callback(_put_back, [_Buffers(module) for module in model.modules() if module._buffers])
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.device != device:
                stack.callback(setattr, tensor, "data", tensor.data)
                tensor.data = tensor.data.to(device)
        yield model


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


def _put_back(buffers: list[_Buffers]) -> None:
    for held in buffers:
        held.put_back()
