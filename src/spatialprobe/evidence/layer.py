"""The one layer that is measured: its output on images, and the layout of that output."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import capture
from spatialprobe.activations.records import At
from spatialprobe.arguments import check_one_of
from spatialprobe.errors import ForwardError, LayerNotRunError, SpatialProbeError, UnsupportedOutputError
from spatialprobe.fields.images import check_rows
from spatialprobe.fields.layout import layouts_of
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import (
    Layout,
    LayoutChoice,
    Signs,
    channels_second,
    describe_doubt,
    is_channels_first,
)
from spatialprobe.model.select import Layer, model_name
from spatialprobe.model.weights import device_of
from spatialprobe.tensors import computable_values, real_values

_HOW = "Pass layout='channels_first' or layout='channels_last'."


def compute_outputs(
    mode: EvaluationMode,
    images: torch.Tensor,
    layer: str,
    *,
    at: At = "output",
    layout: Layout | None = "channels_first",
    allow_complex: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Return the output (N, C, *units) of the layer's first run on these images, dense and detached, on its device.

    The model runs in evaluation mode, no further than the layer, and each time begins in the state that it had when
    the mode was entered: two runs of a model that counts or draws random numbers are alike.

    Raises:
        UnsupportedOutputError: the output has no values that can be read as one array, or not a row for each image; or
            it is complex, unless that is allowed; or its layout is None, and it has more axes than (N, C).
        LayerNotRunError: the layer does not run on these images.
        ForwardError: the model raises an error on them.
    """
    model = mode.model
    try:
        records = capture(model, images.to(device_of(model)), layers=layer, stop_early=True, at=at, **options)
    except LayerNotRunError as error:
        raise LayerNotRunError(
            f"Layer {layer!r} does not run when {model_name(model)} is given these images in evaluation mode. Choose "
            "another layer."
        ) from error
    except SpatialProbeError:
        raise
    except Exception as error:
        raise images_error(model, images, error) from error
    finally:
        mode.reset()
    output = records.calls(layer)[0].tensor
    values = computable_values(layer, output) if allow_complex else real_values(layer, output)
    check_rows(layer, values, len(images))
    if layout is None and values.ndim > 2:
        raise UnsupportedOutputError(describe_doubt(layer, tuple(values.shape), _HOW))
    return channels_second(values, layout or "channels_first")


def layout_for(model: nn.Module, images: torch.Tensor, layer: Layer, choice: LayoutChoice) -> Layout | None:
    """Return the layout of the layer's first output on images of this shape; None if it is in doubt.

    The model does not run where the layer's type, or the model's modules, leave no doubt.
    """
    check_one_of(choice, "layout", LayoutChoice)
    if choice != "auto":
        return choice
    if is_channels_first(layer.module) or not Signs.of(model).features:
        return "channels_first"
    try:
        return layouts_of(model, images[:1], [layer.name]).get(layer.name, (None,))[0]
    except ForwardError:  # the measurement itself will raise it again, with a message about the images
        return None
