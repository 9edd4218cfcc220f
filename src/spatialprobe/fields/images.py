"""Checks of the images that one layer is measured on, and the layer's receptive field on them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, ForwardError, UnsupportedOutputError
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import Layout, LayoutChoice, check_layout, describe_rows
from spatialprobe.text import format_count


def field_of(
    model: nn.Module, images: torch.Tensor, layer: str, layout: LayoutChoice = "auto"
) -> tuple[ReceptiveField, Layout]:
    """Return the receptive field of the layer's first run on images of this size, and the layout of its output.

    Raises:
        ForwardError: the model raises an error on them.
        UnsupportedOutputError: the layout is in doubt.
    """
    check_layout(layout)
    try:
        field = receptive_fields(model, images[:1], layers=layer, layout=layout).calls(layer)[0]
        return field, field.layout or "channels_first"
    except ForwardError as error:
        cause = error.__cause__
        if not isinstance(cause, Exception):
            raise
        raise images_error(model, images[:1], cause) from cause


def check_batch(images: object, called: str = "images") -> None:
    """Check that a value is a tensor (N, C, *spatial) of at least one image.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(images, torch.Tensor) and images.ndim >= 3 and len(images):
        return
    hint = ""
    if hasattr(images, "__array__") and not isinstance(images, torch.Tensor):
        hint = " Convert an array with torch.from_numpy(array)."
    elif isinstance(images, (tuple, list)):
        hint = (
            " Convert a sequence of images with torch.stack(images); forward= calls a model of a list or of several "
            "inputs on them."
        )
    elif isinstance(images, Mapping):
        hint = " Pass its images, and forward=, such as forward=lambda model, images: model(pixel_values=images)."
    raise ArgumentError(
        f"{called} must be a tensor (N, C, *spatial) with at least one image, not {short_repr(images)}.{hint}"
    )


def check_images(images: torch.Tensor, called: str = "images") -> None:
    """Check that a value is a tensor (N, C, *spatial) of images in finite floating-point numbers.

    Raises:
        ArgumentError: it is not.
    """
    check_batch(images, called)
    if not images.is_floating_point():
        raise ArgumentError(
            f"{called} are {images.dtype}. Pass them as the model takes them, as floating-point numbers."
        )
    if images.is_meta:
        raise ArgumentError(f"{called} are on the meta device, where tensors have no values. Pass real ones.")
    if not images.isfinite().all():
        raise ArgumentError(f"{called} hold values that are infinite or NaN. Pass finite images.")


def check_rows(layer: str, output: torch.Tensor, count: int) -> None:
    """Check that a layer's output has values for each of `count` images, and an axis of channels.

    Raises:
        UnsupportedOutputError: it does not, so that values cannot be matched to images.
    """
    returned = f"Layer {layer!r} returned {tuple(output.shape)} for {format_count(count, 'image')}."
    problem = describe_rows(tuple(output.shape), count)
    if problem:
        raise UnsupportedOutputError(f"{returned} {problem}")
    if output.ndim < 2 or not output.numel():
        raise UnsupportedOutputError(
            f"{returned} An output (N, C, *units) is needed, with channels along the second axis. Choose another layer."
        )
