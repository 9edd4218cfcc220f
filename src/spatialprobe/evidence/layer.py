"""The one layer that a measure speaks of: which it is, what it hands on, and what its units see."""

from __future__ import annotations

from typing import Any

import torch

from spatialprobe.activations.capture import capture
from spatialprobe.activations.records import At
from spatialprobe.errors import LayerNotRunError, SpatialProbeError
from spatialprobe.fields.images import check_rows
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.select import model_name
from spatialprobe.model.weights import device_of
from spatialprobe.tensors import computable_values, real_values


def outputs(
    mode: EvaluationMode,
    images: torch.Tensor,
    layer: str,
    *,
    at: At = "output",
    allow_complex: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Return the output of the layer's first run on these images, dense and detached, on the device where it was made.

    The model runs in evaluation mode, no further than the layer, and each time begins in the state that it had when
    the mode was entered: of a model that counts or draws random numbers, two runs are alike.

    Raises:
        UnsupportedOutputError: the output has no values that can be read as one array, or not a row for each image; or
            it is complex, unless that is allowed.
        LayerNotRunError: the layer does not run on these images.
        ForwardError: the model raises an error on them.
    """
    model = mode.model
    try:
        records = capture(model, images.to(device_of(model)), layers=layer, stop_early=True, at=at, **options)
    except LayerNotRunError as error:
        raise LayerNotRunError(
            f"Layer {layer!r} does not run when {model_name(model)} is given these images in evaluation mode: "
            "choose another."
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
    return values
