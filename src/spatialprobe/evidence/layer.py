"""The one layer that is measured: its output on images, and the layout of that output."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import record_pass
from spatialprobe.activations.records import At
from spatialprobe.errors import ForwardError, LayerNotRunError, SpatialProbeError, UnsupportedOutputError
from spatialprobe.fields.images import check_rows
from spatialprobe.fields.layout import layouts_of
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import (
    WAYS,
    Layout,
    LayoutChoice,
    Signs,
    channels_second,
    check_layout,
    describe_doubt,
    describe_misfit,
    fits,
    is_channels_first,
)
from spatialprobe.model.select import Layer, model_name
from spatialprobe.model.weights import device_of
from spatialprobe.tensors import computable_values, real_values

_HOW = f"Pass {WAYS}."


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
        records = record_pass(model, (images.to(device_of(model)),), layers=layer, stop_early=True, at=at, **options)
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
    if layout is not None and not fits(layout, tuple(values.shape)):
        raise UnsupportedOutputError(describe_misfit(layer, tuple(values.shape), layout))
    return channels_second(values, layout or "channels_first")


class LayerLayout:
    """The layout of one layer's output, found once for each size of images.

    Raises:
        ArgumentError: the choice is no layout.
    """

    def __init__(self, model: nn.Module, layer: Layer, choice: LayoutChoice) -> None:
        check_layout(choice)
        self._model = model
        self._layer = layer
        self._choice = choice
        self._found: dict[tuple[int, ...], Layout | None] = {}

    def on(self, images: torch.Tensor) -> Layout | None:
        """Return the layout of the layer's first output on images of this size; None if it is in doubt.

        The model does not run where the layer's type, or the model's modules, leave no doubt.
        """
        if self._choice != "auto":
            return self._choice
        size = tuple(images.shape[1:])
        if size not in self._found:
            self._found[size] = self._find(images[:1])
        return self._found[size]

    def _find(self, image: torch.Tensor) -> Layout | None:
        if is_channels_first(self._layer.module) or not Signs.of(self._model).features:
            return "channels_first"
        try:
            return layouts_of(self._model, image, [self._layer.name]).get(self._layer.name, (None,))[0]
        except ForwardError:  # the measurement itself will raise it again, with a message about the images
            return None
