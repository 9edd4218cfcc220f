"""How far outputs are from moving along with the image between multiples of a layer's stride."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spatialprobe.diagnosis.samples import Samples
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.equivariance import compare_shifted
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.select import Layer
from spatialprobe.model.settings import compute_units_apart

_SAMPLES = 4  # images, each with thousands of units

Errors = Mapping[str, tuple[float, tuple[int, ...]]]  # of each layer: the mean error, and the shift in pixels


def measure_shifts(subject: Subject, fields: Mapping[str, ReceptiveField]) -> Errors:
    """Return the error of equivariance of layers at a shift of half their stride.

    Layers whose units are all too near to a border, or not on a grid along the image's axes, are left out.
    """
    samples = subject.samples.first(_SAMPLES)
    found: dict[str, tuple[float, tuple[int, ...]]] = {}
    strided = {name: one for name, one in fields.items() if max(one.stride, default=0) > 1}
    with subject.running() as mode, compute_units_apart():
        for moved in dict.fromkeys(_half_stride(one) for one in strided.values()):
            names = [name for name, one in strided.items() if _half_stride(one) == moved]
            layers = [layer for layer in subject.known if layer.name in names]
            before = _outputs(subject, layers, samples)
            mode.reset()
            after = _outputs(subject, layers, samples.shifted(moved))
            mode.reset()
            for name in names:
                if name in before and name in after:
                    error = _error(strided[name], moved, before[name], after[name])
                    if error is not None:
                        found[name] = error, moved
    return {name: found[name] for name in fields if name in found}


def _half_stride(field: ReceptiveField) -> tuple[int, ...]:
    """Return half of a layer's stride in pixels along each axis."""
    return tuple(int(stride) // 2 for stride in field.stride)


def _outputs(subject: Subject, layers: list[Layer], samples: Samples) -> dict[str, torch.Tensor]:
    probe = subject.record(layers, "output", samples)
    return {name: probe.calls(name)[0].tensor for name in probe}


def _error(field: ReceptiveField, moved: tuple[int, ...], before: torch.Tensor, after: torch.Tensor) -> float | None:
    """Return the mean error over images; None if no unit can be compared."""
    try:
        expected, found = compare_shifted(field, moved, before.double(), after.double())
    except ArgumentError:
        return None
    size = torch.linalg.vector_norm(expected, dim=1)
    errors = (torch.linalg.vector_norm(found - expected, dim=1) / size)[size > 0]
    return float(errors.mean()) if len(errors) else None
