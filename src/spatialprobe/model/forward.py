"""What is told when a model raises an error in a forward pass that the library runs by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.arguments import shown
from spatialprobe.errors import ForwardError
from spatialprobe.model.select import model_name
from spatialprobe.model.weights import unlike_weights


def forward_error(model: nn.Module, inputs: Any, error: Exception, hint: str) -> ForwardError:
    """The error to raise from the model's own: what it said, of which inputs, and what to do."""
    leaves = tree_leaves(inputs)
    given = ", ".join(str(tuple(leaf.shape)) if isinstance(leaf, torch.Tensor) else shown(leaf) for leaf in leaves)
    inputs_of = "an input of" if len(leaves) == 1 else "inputs of"
    return ForwardError(
        f"{model_name(model)} raised {type(error).__name__} on {inputs_of} {given}: {error}\n{hint}"
        f"{unlike_weights(model, inputs)}"
    )


def images_error(model: nn.Module, images: torch.Tensor, error: Exception) -> ForwardError:
    """The same, where the model is given images alone."""
    hint = "Give images as the model takes them: same size, channels, number format, normalisation."
    if isinstance(error, TypeError) and "positional argument" in str(error):
        hint = "It is given the images alone: wrap a model of several inputs in one that adds the others."
    return forward_error(model, images, error, hint)
