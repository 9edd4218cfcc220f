"""What a type checker sees of the public API: mypy reads this file, nothing runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import nn
from typing_extensions import assert_type

import spatialprobe as sp
from spatialprobe.statistics.exemplars import ExemplarsResult


def captures(model: nn.Module, images: torch.Tensor) -> None:
    """Records and their mappings."""
    with sp.Probe(model, ["conv1", nn.Conv2d], gradients=True) as probe:
        model(images)
    assert_type(probe, sp.Probe)
    assert_type(probe["conv1"], sp.Activation)
    assert_type(probe["conv1", 0], sp.Activation)
    assert_type(probe.calls("conv1"), tuple[sp.Activation, ...])
    assert_type(probe.concatenated("conv1"), torch.Tensor)
    assert_type(sp.capture(model, images, layers="conv*"), sp.Probe)
    assert_type(sp.plan(model, images), sp.Plan)


def records(record: sp.Activation) -> None:
    """What a record gives."""
    assert_type(record.tensor, torch.Tensor)
    assert_type(record.gradient, torch.Tensor | None)
    assert_type(record.shape, tuple[int, ...])
    assert_type(record.conv, sp.ConvSpec | None)
    assert_type(record.maps(layout=sp.Tokens(4, 4)), sp.Maps)
    assert_type(record.maps().leading, torch.Tensor | None)
    assert_type(sp.feature_maps(record), sp.Mosaic)
    assert_type(sp.feature_maps(record.tensor), sp.Mosaic)
    assert_type(sp.feature_maps(record).array, npt.NDArray[np.uint8])


def attributions(model: nn.Module, images: torch.Tensor) -> None:
    """What layers contribute, by name and run."""
    found = sp.attribute(model, images, "predicted", method="ablation")
    assert_type(found, sp.Attributions)
    assert_type(found["conv1"], sp.Attribution)
    assert_type(found["conv1", 1], sp.Attribution)
    assert_type(found["conv1"].values, torch.Tensor | None)
    assert_type(found["conv1"].top(3), torch.Tensor)
    deletion = sp.evidence.channel_deletion(model, images, found["conv1"], k=2)
    assert_type(deletion, sp.evidence.ChannelDeletion)
    assert_type(found["conv1"].plot(0, deletion=deletion), Figure)
    sp.attribute(model, images, lambda output: output["logits"][:, 3])


def synthesized(model: nn.Module) -> None:
    """Inputs that drive channels up, as tensors and as a picture."""
    found = sp.maximize_activation(model, "conv2", [0, 2], shape=(3, 32, 32), normalize=lambda images: images - 0.5)
    assert_type(found, sp.MaximizedActivation)
    assert_type(found.patches, torch.Tensor)
    assert_type(found.best_real, torch.Tensor | None)
    assert_type(found.mosaic(columns=2), sp.Mosaic)


def sweeps(model: nn.Module, images: torch.Tensor) -> None:
    """Results by layer and reducer; a reducer's own type is what its user knows."""
    result = sp.sweep(model, images, {"moments": sp.Moments, "top": sp.Exemplars})
    assert_type(result, sp.SweepResult)
    sp.effective_receptive_field(model, images, "conv1", forward=lambda model, batch: model(list(batch)))
    sp.sweep(model, [{"image": images}], [sp.Moments], forward=lambda model, batch: model(batch["image"]))
    assert_type(result.samples, int)
    found = result["conv1"]["top"]
    assert isinstance(found, ExemplarsResult)
    assert_type(found.values, torch.Tensor)


def fields(model: nn.Module) -> None:
    """Fields, boxes and their parts."""
    found = sp.receptive_fields(model, (1, 3, 32, 32))
    assert_type(found, sp.ReceptiveFields)
    assert_type(found["conv1"], sp.ReceptiveField)
    assert_type(found["conv1"].size, tuple[int, ...])
    assert_type(found["conv1"].box(0, 0), sp.Box | None)
    layout = sp.Tokens(14, 14, leading=1)
    assert_type(layout.count, int)
    assert_type(sp.receptive_fields(model, (1, 3, 224, 224), layout=layout), sp.ReceptiveFields)


def edits_and_pages(model: nn.Module, images: torch.Tensor, path: Path) -> None:
    """Edits are a context, a page is a report."""
    with sp.edited(model, {"conv1": sp.ablate([2])}):
        model(images)
    assert_type(sp.write_report(path, model, images), sp.Report)
    assert_type(sp.explore(model, images, images, open=False), sp.Report)
