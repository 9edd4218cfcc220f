"""Sums of the gradients of a layer's units with respect to images, the raw values of an effective field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.capture import record_pass
from spatialprobe.activations.records import Activation
from spatialprobe.arguments import as_channels
from spatialprobe.errors import NonFiniteActivationError, SpatialProbeError
from spatialprobe.fields.gradient_sums import GradientSums, gradient_of
from spatialprobe.fields.images import check_rows
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import Layout, channels_second
from spatialprobe.tensors import real_values

Statistic = Literal["absolute", "squared"]
Floats = npt.NDArray[np.float64]


def sum_gradients(
    model: nn.Module,
    images: torch.Tensor,
    layer: str,
    layout: Layout,
    unit: tuple[int, ...],
    channels: Literal["all"] | Sequence[int],
    statistic: Statistic,
    probes: int | None,
) -> Floats:
    """Return the statistic of each image, (N, *spatial), summed over input and output channels, up to a factor.

    Raises:
        NonFiniteActivationError: a gradient is infinite or NaN.
    """
    inputs = images.detach().clone().requires_grad_()
    record = capture_first(model, inputs, layer)
    units = real_values(layer, record.tensor)  # (N, channels, *units)
    check_rows(layer, units, len(images))
    units = channels_second(units, layout)
    for position in unit:
        units = units[:, :, position]
    chosen = _choose_channels(units, channels, layer)
    sums = GradientSums((len(images), *images.shape[2:]), squared=statistic == "squared")
    directions = list(_yield_directions(chosen, probes))
    for one in directions:
        gradient = _compute_gradient(model, one, inputs)
        if not sums.add(gradient):
            raise NonFiniteActivationError(_describe_nonfinite(layer, unit, chosen, gradient, inputs.dtype))
    return sums.values.numpy()


def capture_first(model: nn.Module, inputs: torch.Tensor, layer: str) -> Activation:
    """Return the record of the layer's first run, in the graph of the inputs; the model runs no further.

    Raises:
        ForwardError: the model raises an error on them.
    """
    try:
        return record_pass(model, (inputs,), layers=layer, keep_graph=True, stop_early=True).calls(layer)[0]
    except SpatialProbeError:
        raise
    except Exception as error:
        raise images_error(model, inputs, error) from error


def _compute_gradient(model: nn.Module, one: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a scalar with respect to the inputs, zeros where it does not depend on them.

    Raises:
        ForwardError: the model's backward pass raises an error.
    """

    def times(factor: float) -> torch.Tensor:
        try:
            seed = torch.full_like(one, factor)
            (found,) = torch.autograd.grad(one, inputs, seed, retain_graph=True, materialize_grads=True)
        except Exception as error:
            raise images_error(model, inputs, error) from error
        return found

    return gradient_of(times, inputs.dtype)


def _describe_nonfinite(
    layer: str, unit: tuple[int, ...], values: torch.Tensor, gradient: torch.Tensor, dtype: torch.dtype
) -> str:
    """Return a message: which gradients are infinite or NaN, whether the unit itself is, and what to do."""
    image = int((~gradient.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    nans, infinite = int(gradient[image].isnan().sum()), int(gradient[image].isinf().sum())
    itself = "finite" if values[image].isfinite().all() else "infinite or NaN itself"
    wider = torch.float64 if dtype is torch.float32 else torch.float32
    return (
        f"The gradient of unit {unit} of layer {layer!r} has {nans} NaN and {infinite} infinite values in image "
        f"{image}, where the unit is {itself}. A root, a logarithm or a division at zero has such a gradient, and "
        f"large gradients overflow in {str(dtype)[6:]}. Check the layers before it, or run model and images in "
        f"{str(wider)[6:]}."
    )


def _yield_directions(units: torch.Tensor, probes: int | None) -> Iterator[torch.Tensor]:
    """Yield each channel's sum over images, or random-sign sums of the channels; their gradients do not mix images."""
    if probes is None:
        yield from units.sum(dim=0)
        return
    generator = torch.Generator().manual_seed(0)
    for _ in range(probes):
        signs = torch.randint(0, 2, units.shape, generator=generator, device="cpu") * 2 - 1
        yield (units * signs.to(units)).sum()


def _choose_channels(units: torch.Tensor, channels: Literal["all"] | Sequence[int], layer: str) -> torch.Tensor:
    """Return the chosen channels of (N, channels)."""
    if isinstance(channels, str) and channels == "all":
        return units
    return units[:, as_channels(channels, units.shape[1], f"Layer {layer!r}")]
