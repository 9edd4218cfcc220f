"""Call the model on a copy of a batch, which it may modify in place, and describe the error if it raises one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ForwardError, short_text
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.select import model_name
from spatialprobe.model.weights import describe_weight_mismatch
from spatialprobe.tensors import shape_text

_FEW = 6  # inputs that a message lists

Forward: TypeAlias = Callable[[nn.Module, Any], Any]  # calls a model on a batch


def run_model(
    model: nn.Module, batch: Any, *, forward: Forward | None = None, device: torch.device | None = None
) -> Any:
    """Return the output of a model for a copy of a batch.

    Every function of the library that runs a model on a batch calls this one, so that a model that modifies its input
    in place does not modify the caller's tensors.

    Args:
        model: any module.
        batch: a tensor, or tensors in tuples, lists and mappings.
        forward: a function of the model and the batch; by default the model is called on the batch.
        device: the device of the copy; by default that of the batch.

    >>> images = torch.ones(1, 3, 2, 2)
    >>> _ = run_model(nn.ReLU(inplace=True), images.neg_())
    >>> images.unique().item()
    -1.0
    """
    batch = copy_inputs(batch, device)
    return model(batch) if forward is None else forward(model, batch)


def forward_error(model: nn.Module, inputs: Any, error: Exception, hint: str) -> ForwardError:
    """Return the error to raise from the model's own, with its message, the shapes of the inputs, and what to do."""
    leaves = tree_leaves(inputs)
    few = leaves[:_FEW]
    given = ", ".join(shape_text(leaf) if isinstance(leaf, torch.Tensor) else short_repr(leaf) for leaf in few)
    given += f" and {len(leaves) - _FEW} more" if len(leaves) > _FEW else ""
    inputs_of = "an input of" if len(leaves) == 1 else "inputs of"
    return ForwardError(
        f"{model_name(model)} raised {type(error).__name__} on {inputs_of} {given}: {short_text(error)}\n{hint}"
        f"{describe_weight_mismatch(model, inputs)}"
    )


def images_error(model: nn.Module, images: torch.Tensor, error: Exception) -> ForwardError:
    """Return the error to raise from that of a model that was called on images alone."""
    hint = "Pass images as the model takes them: same size, channels, dtype, normalization."
    if isinstance(error, TypeError) and "positional argument" in str(error):
        hint = "It is called on the images alone: wrap a model of several inputs in one that adds the others."
    return forward_error(model, images, error, hint)
