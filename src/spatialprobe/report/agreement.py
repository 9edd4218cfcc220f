"""Check whether the exemplars of a sweep are those of this model, with these weights, over this data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.capture import record_pass
from spatialprobe.activations.records import At, values_of, with_layout
from spatialprobe.errors import describe_error
from spatialprobe.fields.known_layouts import Layouts
from spatialprobe.fields.layout import layouts_of
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import called_by, with_one_tensor
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.layout import LayoutChoice, channels_second
from spatialprobe.model.samples import ImageOf, Images, image_in
from spatialprobe.model.weights import device_of
from spatialprobe.report.page_batch import PageBatch
from spatialprobe.statistics.exemplars import ExemplarsResult
from spatialprobe.statistics.loading import Collate
from spatialprobe.statistics.result import SweepResult

_TOLERANCE = 0.1  # of the norm of the values: far above what dtypes and devices differ by, far below what weights do


def doubts(
    batch: PageBatch,
    layers: Sequence[str],
    sweep: SweepResult,
    dataset: Images | None,
    at: At,
    image: ImageOf | None = None,
    layout: LayoutChoice = "auto",
) -> list[str]:
    """Return the sentences that say what of a sweep does not fit; an empty list if all does, or nothing can be tried.

    The last layer with exemplars is tried, which depends on all before it: on the sample that activates most of its
    channels, it must reach the values that were swept.
    """
    for layer in reversed(layers):
        for result in sweep.layers.get(layer, {}).values():
            if dataset is None or not isinstance(result, ExemplarsResult) or result.map_size is None:
                continue  # in a batch of images of several sizes a model may have padded them
            if result.values.numel():
                return _of_layer(batch, layer, result, dataset, at, image, layout)
    return []


def _of_layer(
    batch: PageBatch,
    layer: str,
    result: ExemplarsResult,
    dataset: Images,
    at: At,
    image: ImageOf | None,
    layout: LayoutChoice,
) -> list[str]:
    best, swept = result.samples[:, 0], result.values[:, 0].double()
    sample = int(best.mode().values)
    alike = (best == sample) & swept.isfinite()
    if sample < 0 or not swept[alike].any():
        return []
    try:
        reached = _reached(*_alone(batch, dataset[sample], image), layer, at, layout)
    except Exception as error:  # a data set of bytes, say, that the model does not take
        return [
            f"Whether the sweep fits is not known: on sample {sample} of the data set there was {describe_error(error)}"
        ]
    apart = torch.linalg.vector_norm((reached - swept)[alike]) / torch.linalg.vector_norm(swept[alike])
    if apart <= _TOLERANCE:
        return []
    channel = int(((reached - swept).abs() * alike).argmax())
    return [
        f"The sweep does not fit: it found {swept[channel]:.3g} in channel {channel} of layer {layer!r} for "
        f"sample {sample}, and this model reaches {reached[channel]:.3g} there. Its weights, or the images, are not "
        "those that were swept."
    ]


def _alone(batch: PageBatch, sample: Any, image: ImageOf | None) -> tuple[nn.Module, torch.Tensor]:
    """Return a model of one tensor, and that of a sample of the data set alone: of its image, where that is all."""
    model, reader = called_by(batch.model, batch.forward), BatchReader.of(batch.model, batch.forward)
    if batch.is_tensor:
        return model, Collate(BatchReader.of(model)).of_parts([image_in(sample, image)]).to(device_of(batch.model))
    return with_one_tensor(model, copy_inputs(Collate(reader).of_samples([sample]), device_of(batch.model)))


def _reached(model: nn.Module, image: torch.Tensor, layer: str, at: At, choice: LayoutChoice) -> torch.Tensor:
    """(C,) the largest value of each channel over all units and runs, float64."""
    with EvaluationMode(model):
        runs = record_pass(model, (image,), layers=layer, at=at, missing="ignore").calls(layer)
        runs = tuple(with_layout(run, choice) for run in runs)
        doubtful = any(run.layout is None for run in runs)
        known: Layouts = layouts_of(model, image, [layer]) if doubtful else {}
    found = known.get(layer) or (None,) * len(runs)
    layouts = [run.layout or layout or "channels_first" for run, layout in zip(runs, found, strict=False)]
    values = [channels_second(values_of(run), layout) for run, layout in zip(runs, layouts, strict=False)]
    return torch.stack([one[0].double().flatten(1).amax(dim=1) for one in values]).amax(dim=0)
