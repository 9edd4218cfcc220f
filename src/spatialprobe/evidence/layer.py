"""The one layer that a measure speaks of: which it is, what it hands on, and what its units see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import capture
from spatialprobe.activations.records import At
from spatialprobe.errors import LayerNotRunError, SpatialProbeError
from spatialprobe.model.evaluation import borrowed
from spatialprobe.model.forward import images_error
from spatialprobe.model.select import model_name
from spatialprobe.model.weights import device_of


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
            raise images_error(model, images, error) from error
    return records.calls(layer)[0].tensor
