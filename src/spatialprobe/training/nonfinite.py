"""Where infinite values and NaN arise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from spatialprobe.activations.memory import share_storage
from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.html_fields import format_fields_html
from spatialprobe.model.batch import tensors_of
from spatialprobe.statistics.intake import all_finite
from spatialprobe.tensors import dense_values, is_batched
from spatialprobe.text import format_count

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class NonFiniteOrigin:
    """Where the first infinite value or NaN of a forward or backward pass arises.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 2, 1)
    >>> with torch.no_grad():
    ...     conv.weight[1] = torch.inf
    >>> origin = sp.find_nonfinite(torch.nn.Sequential(torch.nn.ReLU(), conv), torch.ones(3, 1, 4, 4))
    >>> origin.layer, origin.sample, origin.count, origin.weights_finite
    ('1', 0, 48, False)
    """

    layer: str | None  # None: the loss; "" is the model itself
    direction: Direction
    count: int  # infinite values and NaN in what the layer computed
    sample: int | None  # the first sample of the batch with such a value; None for gradients of parameters
    input_finite: bool | None  # whether what the layer took was finite; None if it was modified since
    weights_finite: bool | None  # whether the layer's own weights are finite; None if it has none
    dtype: torch.dtype
    step: int | None = None  # of a monitored training

    def __str__(self) -> str:
        where = "the loss" if self.layer is None else f"layer {self.layer!r}" if self.layer else "the model"
        subject = f"The output of {where}" if self.direction == "forward" else f"The gradient at {where}"
        if self.layer is None and self.direction == "forward":
            subject = "The loss"
        sample = "" if self.sample is None else f", the first for sample {self.sample}"
        step = "" if self.step is None else f", at step {self.step}"
        return (
            f"{subject}, {self.dtype}, has {format_count(self.count, 'infinite or NaN value')}{sample}{step}. "
            f"{self._describe_input()}{self._describe_weights()}"
        )

    def _describe_input(self) -> str:
        took = "What it took" if self.direction == "forward" else "The gradient that came to it"
        if self.input_finite is None:
            return f"{took} was modified in place since, or is not known."
        if self.input_finite:
            return f"{took} was finite: they arise here."
        return f"{took} was not finite: they arise {'before' if self.direction == 'forward' else 'in what follows it'}."

    def _describe_weights(self) -> str:
        if self.weights_finite is not False:
            return ""
        return " Its weights are not finite: an earlier step made them so."

    def _repr_html_(self) -> str:
        """The fields for a notebook."""
        return format_fields_html(self, self.layer)


def plain_tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested containers that hold floating-point values."""
    for tensor in tensors_of(value):
        if not (tensor.is_floating_point() or tensor.is_complex()) or is_batched(tensor):
            continue
        try:
            yield dense_values(None, tensor.detach())
        except UnsupportedOutputError:
            continue


def is_finite(value: Any) -> bool:
    """Return whether no tensor in nested containers has an infinite value or NaN."""
    return all(map(all_finite, plain_tensors(value)))


def find_in_output(
    layer: str, module: nn.Module, args: Any, output: Any, step: int | None = None
) -> NonFiniteOrigin | None:
    """Return the origin in the output of a layer, None if it is finite."""
    wrong = next((tensor for tensor in plain_tensors(output) if not all_finite(tensor)), None)
    if wrong is None:
        return None
    inputs = list(plain_tensors(args))
    changed = not inputs or any(share_storage(one, wrong) for one in inputs)
    return NonFiniteOrigin(
        layer=layer,
        direction="forward",
        count=count_nonfinite(wrong),
        sample=first_sample(wrong),
        input_finite=None if changed else is_finite(inputs),
        weights_finite=are_weights_finite(module),
        dtype=wrong.dtype,
        step=step,
    )


def count_nonfinite(value: torch.Tensor) -> int:
    """Return the number of infinite values and NaN."""
    return int((~torch.isfinite(value)).sum())


def first_sample(value: torch.Tensor) -> int | None:
    """Return the first row with an infinite value or NaN; None for a single number."""
    return None if value.ndim == 0 else int((~torch.isfinite(value)).reshape(len(value), -1).any(dim=1).nonzero()[0])


def are_weights_finite(module: nn.Module) -> bool | None:
    """Return whether a layer's own parameters are finite, in evaluation mode its buffers too; None if it has none.

    In training mode a normalization has updated its buffers by the very values that it took.
    """
    own = [*module.parameters(recurse=False), *(() if module.training else module.buffers(recurse=False))]
    return is_finite(own) if own else None


def find_in_gradient(layer: str, module: nn.Module, gradient: torch.Tensor, step: int) -> NonFiniteOrigin:
    """Return the origin in the gradient of a layer's output, which what follows the layer has computed."""
    return NonFiniteOrigin(
        layer=layer,
        direction="backward",
        count=count_nonfinite(gradient),
        sample=first_sample(gradient),
        input_finite=False,
        weights_finite=are_weights_finite(module),
        dtype=gradient.dtype,
        step=step,
    )
