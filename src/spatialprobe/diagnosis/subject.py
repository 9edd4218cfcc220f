"""The model that is examined, on the device and in the way that it is called, and extra passes on a few samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.probe import Probe
from spatialprobe.activations.records import At
from spatialprobe.diagnosis.samples import Samples
from spatialprobe.diagnosis.survey import Survey, survey
from spatialprobe.errors import SpatialProbeError
from spatialprobe.model.batch import Forward
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import called_by, images_error, run_model
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Layer, all_layers
from spatialprobe.model.weights import device_of


@dataclass(eq=False)
class Subject:
    """The model that is examined, with the samples of its extra passes."""

    model: nn.Module  # as the user passed it, out of a DistributedDataParallel
    forward: Forward | None
    device: torch.device | None  # on which it runs; None: the one that it is on
    layout: LayoutChoice
    samples: Samples = field(default_factory=lambda: Samples(None, 0))

    def __post_init__(self) -> None:
        self.called = called_by(self.model, self.forward)
        self.known = all_layers(self.called)

    @contextmanager
    def running(self, *, gradients: bool = False) -> Iterator[EvaluationMode]:
        """Yield a block in which the model is in evaluation mode; everything is restored when it ends."""
        with EvaluationMode(self.called, device=self.device, gradients=gradients) as mode:
            yield mode

    @property
    def where(self) -> torch.device:
        """The device on which the model runs."""
        return self.device or device_of(self.model)

    def survey(self, samples: Samples) -> Survey:
        """Return what runs in a pass on some samples; call it inside `running`.

        Raises:
            ForwardError: the model raised an error.
        """
        with self.describing(samples):
            return survey(self.called, self.known, samples.inputs, samples.count, self.where)

    def record(self, layers: list[Layer], at: At, samples: Samples, **options: Any) -> Probe:
        """Return the records of a pass on some samples; call it inside `running`.

        Raises:
            ForwardError: the model raised an error.
        """
        modules = [layer.module for layer in layers]
        probe = Probe(self.called, modules, at=at, missing="ignore", **options)
        with self.describing(samples), probe:
            run_model(self.called, samples.inputs, device=self.where)
        return probe

    @contextmanager
    def describing(self, samples: Samples) -> Iterator[None]:
        """Raise what the model raises as an error that says what it was given, and what to do."""
        try:
            yield
        except SpatialProbeError:
            raise
        except Exception as error:
            raise images_error(self.model, samples.inputs, error) from error
