"""The maps of a fixed batch, from a forward pass in evaluation mode in the middle of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from spatialprobe.activations.capture import capture
from spatialprobe.activations.probe import Probe
from spatialprobe.activations.records import Activation, At
from spatialprobe.errors import SpatialProbeError
from spatialprobe.model.batch import BatchReader, Forward
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import called_by, forward_error
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.select import Layer, unwrap
from spatialprobe.model.settings import disable_autocast_cache
from spatialprobe.model.weights import device_of


class FixedBatch:
    """Images whose maps are taken again and again, while the model is left as it is.

    Args:
        model: the model that trains.
        layers: the layers whose maps are kept.
        at: "output" or "post_activation".
        images: a batch in any form that the model, or `forward`, takes.
        forward: how the model is called on it.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], at: At, images: Any, forward: Forward | None) -> None:
        self._model = unwrap(model)  # a forward of DistributedDataParallel would wait for the other processes
        self._layers = layers
        self._at = at
        self._images = images if forward is not None else BatchReader.of(self._model).part(images)
        self._forward = forward

    def maps(self) -> Mapping[str, tuple[Activation, ...]]:
        """Return the records of each layer, on the CPU, from a forward pass in evaluation mode.

        Weights, buffers, modes, random states and autocast's converted weights are those of before.

        Raises:
            ForwardError: the model raised on the images.
        """
        with disable_autocast_cache(), EvaluationMode(self._model):
            try:
                records = self._capture()
            except SpatialProbeError:
                raise
            except Exception as error:
                raise forward_error(self._model, self._images, error, "Pass other images=, or forward=.") from error
        return {name: records.calls(name) for name in records}

    def _capture(self) -> Probe:
        inputs = copy_inputs(self._images, device_of(self._model))
        named = isinstance(inputs, dict) and self._forward is None
        return capture(
            called_by(self._model, self._forward),
            *(() if named else (inputs,)),
            kwargs=inputs if named else None,
            layers=[layer.module for layer in self._layers],
            at=self._at,
            copy="always",
            device="cpu",
            missing="ignore",
        )
