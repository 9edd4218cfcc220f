"""The units of a channel's exemplars, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spatialprobe.render.field_words import whole_box

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField
    from spatialprobe.statistics.exemplars import ExemplarsResult


@dataclass(frozen=True)
class Unit:
    """A unit of a sample; sample -1 is an empty place, where a channel has fewer than others."""

    sample: int
    place: tuple[int, ...]
    channel: int
    value: float
    silent: bool  # of a channel that was never active, whose patches would mean nothing

    @property
    def shown(self) -> bool:
        """Whether there is a patch of it."""
        return self.sample >= 0 and not self.silent


def units_of(exemplars: ExemplarsResult, channel: int, field: ReceptiveField, *, interior: bool) -> list[Unit]:
    """Return the units of a channel, the strongest first; of these, where asked, those that the border does not cut."""
    values = exemplars.values[channel].tolist()
    silent = not np.nan_to_num(values).any()
    places = zip(exemplars.samples[channel].tolist(), exemplars.positions[channel].tolist(), values, strict=True)
    units = [Unit(sample, tuple(place), channel, value, silent) for sample, place, value in places]
    return sorted(units, key=lambda unit: _leaves_image(field, unit)) if interior else units


def _leaves_image(field: ReceptiveField, unit: Unit) -> bool:
    """Return whether the border cuts a unit's field; the field of an empty place counts as cut."""
    box = box_of(field, unit)
    if box is None:
        return True
    return any(
        start < 0 or stop > size for start, stop, size in zip(box.start, box.stop, field.input_size, strict=True)
    )


def box_of(field: ReceptiveField, unit: Unit) -> Box | None:
    """Return the unclipped box of a unit, None if it sees only padding, or for an empty place."""
    return None if not unit.shown else whole_box(field, unit.place, unit.channel)
