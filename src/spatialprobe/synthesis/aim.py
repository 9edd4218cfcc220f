"""The value that is driven up: one unit of each channel of a layer, or the mean of all; and the pixels that it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from spatialprobe.arguments import as_ints, short_repr
from spatialprobe.errors import ArgumentError, UnsupportedOutputError
from spatialprobe.fields.box import Box
from spatialprobe.fields.images import check_rows, field_of
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.layout import Layout, LayoutChoice, channels_second, describe_misfit, fits
from spatialprobe.tensors import real_values

UnitChoice: TypeAlias = Literal["center", "all"] | Sequence[int]


@dataclass(frozen=True, eq=False)
class Aim:
    """What is driven up in a layer's output, and which pixels can do it."""

    layer: str
    layout: Layout
    unit: tuple[int, ...] | None  # its position along each unit axis; None: the mean over all units
    box: Box | None  # the pixels that the unit sees, of any channel; None for an input without spatial axes
    field: ReceptiveField | None  # None for an input without spatial axes

    def read(self, output: torch.Tensor, count: int) -> torch.Tensor:
        """Return the values (N, C) of a layer's output for `count` images, float32 and differentiable.

        Raises:
            UnsupportedOutputError: the output holds no such values.
        """
        values = real_values(self.layer, output)
        check_rows(self.layer, values, count)
        if not fits(self.layout, tuple(values.shape)):
            raise UnsupportedOutputError(describe_misfit(self.layer, tuple(values.shape), self.layout))
        maps = channels_second(values, self.layout).float()
        if self.unit is None:
            return maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps
        if maps.ndim != 2 + len(self.unit):
            raise UnsupportedOutputError(
                f"Layer {self.layer!r} returned {tuple(values.shape)}: it is not known which of its units unit "
                f"{self.unit} is. Pass unit='all' for the mean over all, or another layer."
            )
        for place in self.unit:
            maps = maps[:, :, place]
        return maps

    def seen_by(self, channels: torch.Tensor) -> torch.Tensor | None:
        """Return which pixels of the box each channel sees, bool (C, *sides); None where all see all of it."""
        if self.field is None or self.box is None or not self.field.per_channel:
            return None
        seen = np.zeros((len(channels), *self.box.shape), np.bool_)
        for row, channel in enumerate(channels.tolist()):
            box = _box_of(self.field, self.unit, channel)
            if box is not None:
                places = zip(box.start, box.stop, self.box.start, strict=True)
                sides = tuple(slice(start - first, stop - first) for start, stop, first in places)
                seen[row][sides] = True
        return torch.from_numpy(seen)


def take_aim(
    model: nn.Module, layer: str, example: torch.Tensor, unit: UnitChoice, layout: LayoutChoice, layer_words: str
) -> Aim:
    """Return what is driven up, for inputs like the example (1, *shape).

    Raises:
        ArgumentError: there is no such unit, or it sees only padding.
        ForwardError: the model raises an error on such inputs.
        UnsupportedOutputError: it cannot be determined which axis of the output holds the channels.
    """
    if example.ndim < 3:
        if not (isinstance(unit, str) and unit in ("center", "all")):
            raise ArgumentError(
                f"unit={short_repr(unit)} names a place, and inputs {tuple(example.shape[1:])} have no spatial axes: "
                "leave it out."
            )
        return Aim(layer, "channels_first" if layout == "auto" else layout, None if unit == "all" else (), None, None)
    field, found = field_of(model, example, layer, layout)
    place = _place_of(unit, field)
    box = _box_of(field, place, None)
    if box is None:
        where = "All units" if place is None else f"Unit {place}"
        raise ArgumentError(
            f"{where} of {layer_words} sees only padding, or nothing of the input: no pixel moves it. Pass another "
            "unit or layer."
        )
    return Aim(layer, found, place, box, field)


def _place_of(unit: UnitChoice, field: ReceptiveField) -> tuple[int, ...] | None:
    """Return the position of the chosen unit, None for the mean over all.

    Raises:
        ArgumentError: there is no such unit.
    """
    if isinstance(unit, str):
        if unit not in ("center", "all"):
            raise ArgumentError(f"unit must be 'center', 'all' or a position such as (8, 8), not {short_repr(unit)}.")
        return None if unit == "all" else tuple(size // 2 for size in field.output_size)
    place = as_ints(unit, "unit")
    field.box(*place)  # raises where there is no such unit
    return place


def _box_of(field: ReceptiveField, unit: tuple[int, ...] | None, channel: int | None) -> Box | None:
    """Return the pixels that a unit sees, or those that any unit sees; None if there are none."""
    if unit is not None:
        return field.box(*unit, channel=channel)
    axes = len(field.input_size)
    boxes = field.boxes(channel).reshape(-1, 2 * axes)
    boxes = boxes[(boxes[:, axes:] > boxes[:, :axes]).all(axis=1)]
    if not len(boxes):
        return None
    return Box(*boxes[:, :axes].min(axis=0).tolist(), *boxes[:, axes:].max(axis=0).tolist())
