"""Which pixel each unit of a layer stands for: the center of its receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.evidence.result import Ints
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.layout import LayoutChoice


@dataclass(frozen=True, eq=False)
class UnitPlaces:
    """The units of a layer whose fields are centered in the image, and the pixels there."""

    units: Ints  # (U,) in row-major order
    pixels: Ints  # (U,) numbered in row-major order

    @staticmethod
    def of(field: ReceptiveField) -> UnitPlaces | None:
        """Return the places of a layer's units; None where they have none: they see all of the image alike."""
        axes = len(field.input_size)
        if len(field.output_size) != axes:
            return None
        boxes = field.boxes(clip=False).reshape(-1, 2 * axes)
        centers = (boxes[:, :axes] + boxes[:, axes:] - 1) // 2
        inside = ((centers >= 0) & (centers < np.array(field.input_size))).all(axis=1)
        units = np.flatnonzero(inside & (boxes[:, axes:] > boxes[:, :axes]).all(axis=1))
        pixels = np.ravel_multi_index(tuple(centers[units].T), field.input_size).astype(np.int64)
        return UnitPlaces(units, pixels) if len(np.unique(pixels)) > 1 else None


def place_units(
    model: nn.Module, image: torch.Tensor, names: Sequence[str], exact: frozenset[str], at: At, layout: LayoutChoice
) -> tuple[dict[str, UnitPlaces], dict[str, str]]:
    """Return the places of the units of layers, and why others have none.

    Args:
        model: called on the image.
        image: (1, C, *spatial).
        names: of the layers.
        exact: layers that were chosen by name.
        at, layout: as for `receptive_fields`.

    Raises:
        UnsupportedOutputError: a layer that was chosen by name has none.
    """
    fields = receptive_fields(model, image, layers=list(names), at=at, layout=layout)
    places, left_out = {}, {}
    for name in names:
        runs = fields.calls(name)
        found = UnitPlaces.of(runs[0]) if len(runs) == 1 else None
        if found is not None:
            places[name] = found
            continue
        left_out[name] = _describe_no_place(name or "(model)", len(runs))
        if name in exact:
            raise UnsupportedOutputError(left_out[name])
    return places, left_out


def _describe_no_place(layer: str, runs: int) -> str:
    """Return why the units of a layer have no place, and what to do."""
    if runs > 1:
        return (
            f"Layer {layer!r} ran {runs} times, and its units see something else in each run. Put a module such as "
            "nn.Identity() behind the run that you mean, and choose that."
        )
    return (
        f"The units of layer {layer!r} have no place in the image: they see all of it, or the layer has no unit axes. "
        "Choose another layer."
    )
