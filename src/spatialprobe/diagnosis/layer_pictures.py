"""The pictures that take a pass of the model: values of a layer that are not finite, or that differ between passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spatialprobe.diagnosis.measured import Difference
from spatialprobe.diagnosis.pictures import GridPicture, MapsPicture
from spatialprobe.diagnosis.samples import Samples
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.errors import ArgumentError, UnsupportedOutputError


def read_maps(subject: Subject, layer: str, call: int, samples: Samples) -> torch.Tensor | None:
    """Return the output of one run of a layer, (N, C, *units) on the CPU; None if it has no samples and channels.

    Call it inside `subject.running`.
    """
    layers = [one for one in subject.known if one.name == layer]
    probe = subject.record(layers, "output", samples)
    runs = probe.calls(layer) if layer in probe else ()
    if call >= len(runs):
        return None
    try:
        values = runs[call].maps(subject.layout).values
    except (ArgumentError, UnsupportedOutputError):  # its axes are not known
        return None
    fits = values.ndim >= 2 and len(values) == samples.count and values.is_floating_point() and values.numel() > 0
    return values.detach().cpu() if fits else None


def draw_change(
    subject: Subject, found: Difference, passes: Sequence[Samples], title: str
) -> MapsPicture | GridPicture | None:
    """Return a picture of how a layer's values differ between two passes, of the sample that changes most.

    The channels that change most come first. Where a layer has no maps, all samples are rows, and channels columns.
    """
    with subject.running():  # both in one block, so that the second does not draw the same random numbers
        first, second = (read_maps(subject, found.layer, found.call, samples) for samples in passes)
    if first is None or second is None or first.shape[1:] != second.shape[1:]:
        return None
    count = min(len(first), len(second))
    change = second[:count].float() - first[:count].float()
    if change.ndim == 2:
        return GridPicture(change.double().numpy(), title, "difference", 0.0, "channel", "sample")
    row = int(change.flatten(1).norm(dim=1).argmax())
    order = change[row].flatten(1).norm(dim=1).argsort(descending=True, stable=True).tolist()
    return MapsPicture(change[row], tuple(order), f"{title}, sample {row}")


def draw_nonfinite(maps: torch.Tensor, title: str) -> MapsPicture | GridPicture:
    """Return a picture of a layer's values (C, *units) for one sample, channels with NaN or infinity first."""
    if maps.ndim == 1:
        return GridPicture(maps[None].double().numpy(), title, "value", None, "channel")
    wrong = ~maps.flatten(1).isfinite().all(dim=1)
    return MapsPicture(maps, tuple(wrong.nonzero().flatten().tolist()), title)
