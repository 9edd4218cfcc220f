"""Call the model on a copy of a batch, which it may modify in place, and describe the error if it raises one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.arguments import check_function, short_repr
from spatialprobe.errors import ForwardError, short_text
from spatialprobe.model.batch import BatchReader, tensors_of
from spatialprobe.model.batch import Forward as Forward  # for whoever calls `run_model`
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.select import check_model, model_name, without_replicas
from spatialprobe.model.weights import describe_weight_mismatch
from spatialprobe.tensors import shape_text

_FEW = 6  # inputs that a message lists


def run_model(
    model: nn.Module, batch: Any, *, forward: Forward | None = None, device: torch.device | None = None
) -> Any:
    """Return the output of a model for a copy of a batch.

    Every function of the library that runs a model on a batch calls this one, so that a model that modifies its input
    in place does not modify the caller's tensors.

    Args:
        model: any module.
        batch: a tensor, or tensors in tuples, lists and mappings.
        forward: a function of the model and the batch; by default the model is called on a tensor or a list of images
            as it is, on the first entry of another sequence, and on the entries of a mapping that it takes by name.
        device: the device of the copy; by default that of the batch.

    >>> images = torch.ones(1, 3, 2, 2)
    >>> _ = run_model(nn.ReLU(inplace=True), images.neg_())
    >>> images.unique().item()
    -1.0

    Raises:
        ArgumentError: what the model takes of the batch is not clear, and there is no `forward`.
    """
    if forward is not None:
        return forward(model, copy_inputs(batch, device))
    if isinstance(model, CalledBy):
        return model(copy_inputs(batch, device))
    part = batch if isinstance(batch, torch.Tensor) else BatchReader.of(model).part(batch)
    part = copy_inputs(part, device)
    return model(**part) if isinstance(part, dict) else model(part)


class CalledBy(nn.Module):
    """A model that a function calls: the function's `model(batch)` is this one's forward.

    It is a wrapper like those of torch, which layers' names do not show, so that whatever runs a model runs this one.

    >>> model = CalledBy(nn.Conv2d(1, 2, 3), lambda conv, batch: conv(batch["pixels"]))
    >>> model({"pixels": torch.zeros(1, 1, 5, 5)}).shape
    torch.Size([1, 2, 3, 3])
    """

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.training = False  # it has no mode of its own
        self._called_by_function = model
        self._function = forward

    def forward(self, batch: Any) -> Any:
        """Return what the function returns."""
        return self._function(self._called_by_function, batch)


def called_by(model: nn.Module, forward: Forward | None) -> nn.Module:
    """Return the model as a function calls it; itself, or the model inside a DataParallel, where there is no function.

    Raises:
        ArgumentError: the model is no module, or `forward` cannot be called.
    """
    check_model(model)
    check_function(forward, "forward", "lambda model, batch: model(batch['image'])")
    return without_replicas(model) if forward is None else CalledBy(model, forward)


def as_tensor_model(model: nn.Module, batch: Any, tensor: torch.Tensor) -> nn.Module:
    """Return the model as one of a single tensor, which takes the place of this one in copies of the batch."""

    def run(inner: nn.Module, value: torch.Tensor) -> Any:
        part = copy_inputs(batch, swapped=(tensor, value))
        return inner(**part) if isinstance(part, dict) and not isinstance(inner, CalledBy) else inner(part)

    return CalledBy(model, run)


def with_one_tensor(model: nn.Module, batch: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return a model of one tensor, and the tensor: of a batch of several the one of the most axes, the first of them.

    The other inputs stay as they are in the batch.
    """
    if isinstance(batch, torch.Tensor):
        return model, batch
    followed = max(tensors_of(batch), key=lambda tensor: tensor.ndim)
    return as_tensor_model(model, batch, followed), followed


def describe_batch(batch: Any) -> str:
    """Return the shape of a batch that is a tensor, else what is in it, in words.

    >>> describe_batch(torch.zeros(2, 3)), describe_batch([torch.zeros(3)])
    ('(2, 3)', 'a list with [0] a tensor (3,)')
    """
    return shape_text(batch) if isinstance(batch, torch.Tensor) else describe_leaves(batch)


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
        hint = (
            "It is called on the images alone: say how it is called on them, such as forward=lambda model, images: "
            "model(images, other_input)."
        )
    elif isinstance(error, (TypeError, AttributeError)) and "list" in str(error):
        hint = (
            "If it was called on a list of images, as detectors take them: a model of one tensor is called on each by "
            "forward=lambda model, images: model(torch.stack(images))."
        )
    return forward_error(model, images, error, hint)
