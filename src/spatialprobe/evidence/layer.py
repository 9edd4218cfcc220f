"""The one layer that a measure speaks of: which it is, what it hands on, and what its units see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import capture
from spatialprobe.activations.records import At
from spatialprobe.activations.select import Layer, check_model, model_name, select
from spatialprobe.activations.weights import device_of, unlike_weights
from spatialprobe.errors import ArgumentError, ForwardError, LayerNotRunError, SpatialProbeError, told
from spatialprobe.fields.question import check_batch
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.fields.trace import receptive_fields
from spatialprobe.statistics.loan import borrowed


def single_layer(model: nn.Module, layer: str | nn.Module) -> Layer:
    """The layer of this name, or this module of the model.

    Raises:
        ArgumentError: the model is no module, or a glob means several layers.
        LayerNotFoundError: there is none.
    """
    check_model(model)
    found = select(model, layer)
    if len(found) > 1:
        names = ", ".join(repr(one.name) for one in found[:6])
        raise ArgumentError(f"layer={layer!r} means {len(found)} layers ({names}, ...): this measure takes one.")
    return found[0]


def field_of(model: nn.Module, images: torch.Tensor, layer: str) -> ReceptiveField:
    """The receptive field of the layer's first run on images of this size."""
    return receptive_fields(model, images[:1], layers=layer).calls(layer)[0]


@contextmanager
def unit_by_unit() -> Iterator[None]:
    """Convolutions that compute each unit from its own field alone, until the block ends.

    Winograd and FFT algorithms compute neighbours together, so that rounding errors of one unit depend on pixels that
    it does not see.
    """
    with torch.backends.cudnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


def outputs(model: nn.Module, images: torch.Tensor, layer: str, *, at: At = "output", **options: Any) -> torch.Tensor:
    """What the layer's first run hands on for these images, detached, on the device where it was made.

    The model runs in evaluation mode, without gradients, and no further than the layer; it comes back as it was.

    Raises:
        LayerNotRunError: the layer does not run on these images.
        ForwardError: the model raises an error on them.
    """
    device = device_of(model)
    with borrowed(model, device):
        try:
            records = capture(model, images.to(device), layers=layer, stop_early=True, at=at, **options)
        except LayerNotRunError as error:
            raise LayerNotRunError(
                f"Layer {layer!r} does not run when {model_name(model)} is given these images in evaluation mode: "
                "choose another."
            ) from error
        except SpatialProbeError:
            raise
        except Exception as error:
            raise ForwardError(
                f"{model_name(model)} raised {told(error)} on images {tuple(images.shape)}."
                + unlike_weights(model, images)
            ) from error
    return records.calls(layer)[0].tensor


def check_images(images: torch.Tensor) -> None:
    """That these are images, in numbers that can be changed a little.

    Raises:
        ArgumentError: they are not.
    """
    check_batch(images)
    if not images.is_floating_point():
        raise ArgumentError(f"images are {images.dtype}: give them as the model takes them, as floating-point numbers.")
    if not images.isfinite().all():
        raise ArgumentError("images hold values that are infinite or no number.")
