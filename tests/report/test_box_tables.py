"""Receptive fields as small tables: the same boxes, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.report.box_tables import BoxTable, LayerBoxes

PLANAR = [name for name in ZOO if name not in ("1-d", "3-d")]


class Irregular(nn.Module):
    """Units whose rows depend on their column: a map laid over its own transposed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.after = nn.Conv2d(4, 2, 2)

    def forward(self, x):
        y = self.conv(x)
        return self.after(y + y.transpose(2, 3).flip(2))


class Nothing(nn.Module):
    """Units in the outer rows see nothing but padding."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, padding=2)

    def forward(self, x):
        return self.conv(x)


def expected(field, channel):
    """(h, w, 8) unit by unit."""
    boxes = np.zeros((*field.output_size, 8), int)
    for unit in np.ndindex(*field.output_size):
        box, whole = (field.box(*unit, channel=channel, clip=clip) for clip in (True, False))
        boxes[unit] = (*box, *whole) if box else 0
    return boxes


def planar_fields(model, shape):
    fields = sp.receptive_fields(model, shape)
    return [one for name in fields for one in fields.calls(name) if len(one.output_size) == 2]


@pytest.mark.parametrize("name", PLANAR)
def test_tables_say_what_the_field_says(name):
    """Every layer of the zoo: the table of each channel holds the boxes of each unit, cut and uncut."""
    for field in planar_fields(ZOO[name].model(), ZOO[name].shape):
        channels = 2
        boxes = LayerBoxes.of(field, channels)
        for channel in range(channels):
            table = boxes.tables[boxes.of_channel[channel]]
            assert (table.boxes() == expected(field, channel)).all()


@pytest.mark.parametrize(("make", "by_axis"), [(Irregular, False), (Nothing, True)])
def test_irregular_fields(make, by_axis):
    """Where a unit's rows depend on its column each unit has an entry of its own; units that see nothing have zeros."""
    for field in planar_fields(make().eval(), (1, 3, 9, 9)):
        table = BoxTable.of(field, None)
        assert (table.boxes() == expected(field, None)).all()
    assert table.by_axis == by_axis


def test_regular_tables_are_small():
    """A map of 50 x 60 units takes 110 rows of four numbers, not 3,000 boxes, and all channels share them."""
    field = sp.receptive_fields(nn.Conv2d(3, 8, 5, padding=2), (1, 3, 50, 60))[""]
    boxes = LayerBoxes.of(field, 8)
    assert [table.numbers.shape for table in boxes.tables] == [(110, 4)]
    assert boxes.of_channel.tolist() == [0] * 8


def test_branches_keep_their_own():
    """Behind a concatenation each branch's channels have the branch's table, and equal tables are kept once."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide, self.join = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 5, padding=2), nn.Identity()

        def forward(self, x):
            return self.join(torch.cat([self.narrow(x), self.wide(x)], dim=1))

    field = sp.receptive_fields(Branches(), (1, 3, 9, 9))["join"]
    boxes = LayerBoxes.of(field, 5)
    assert field.per_channel
    assert len(boxes.tables) == 2
    assert boxes.of_channel.tolist() == [0, 0, 1, 1, 1]
    for channel in range(5):
        assert (boxes.tables[boxes.of_channel[channel]].boxes() == expected(field, channel)).all()
