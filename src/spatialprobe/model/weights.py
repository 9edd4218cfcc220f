"""The device and dtype of a model's weights, and what they imply about the inputs that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.model.placement import is_offloaded


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's weights; the CPU for a model without any, and for one that is offloaded."""
    tensors = [*model.parameters(), *model.buffers()]
    if is_offloaded(model):  # what loads the weights moves the inputs to them
        tensors = [tensor for tensor in tensors if not tensor.is_meta]
    return tensors[0].device if tensors else torch.device("cpu")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the dtype of the model's weights, in which images for it are created."""
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(dtypes, torch.get_default_dtype())


def describe_weight_mismatch(model: nn.Module, inputs: Any) -> str:
    """Return a hint if the inputs of a model differ in dtype from its weights; an empty string if they do not."""
    if not any(parameter.is_floating_point() for parameter in model.parameters()):
        return ""
    wanted = dtype_of(model)
    found = {str(leaf.dtype) for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor) and leaf.dtype != wanted}
    if not found:
        return ""
    how = f"x.to({wanted})" + (", and bytes divided by 255" if "torch.uint8" in found else "")
    return f" The inputs are {', '.join(sorted(found))}, the model's weights {wanted}: convert them first, {how}."


def lacks_batch(module: nn.Module, inputs: torch.Tensor, output: torch.Tensor) -> bool:
    """Return whether a convolution took its inputs as one image without a batch axis.

    Torch allows this, and takes (3, 32, 32) as one image of three channels.
    """
    if not isinstance(module, nn.modules.conv._ConvNd):
        return False
    return inputs.ndim == output.ndim == len(module.kernel_size) + 1
