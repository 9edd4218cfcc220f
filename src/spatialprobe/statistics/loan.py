"""A model on loan: in evaluation mode, on a device, and given back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from spatialprobe.activations.mode import evaluating
from spatialprobe.activations.restore import buffers_restored
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
        stack.enter_context(buffers_restored(model))
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.device != device:
                stack.callback(setattr, tensor, "data", tensor.data)
                tensor.data = tensor.data.to(device)
        yield model
