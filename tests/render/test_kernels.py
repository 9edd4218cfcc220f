"""Kernels as a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.render.palette import LEVELS, palette
from spatialprobe.render.sheet import Grid


def test_colour_kernels_show_their_weights():
    """Over three input channels grey is zero, and each colour is its channel's weight."""
    conv = nn.Conv2d(3, 2, 2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 0, 0, 0] = 2.0
        conv.weight[1, 2, 1, 1] = -2.0
    mosaic = sp.kernels(conv)
    grid = Grid.of(2, 2, 2)
    y, x = grid.corner(0)
    assert mosaic.array[y, x].tolist() == [128, 128, 128]
    y, x = grid.corner(1)
    assert mosaic.array[y, x].tolist() == [255, 128, 128]
    assert mosaic.array[y + grid.factor, x + grid.factor].tolist() == [128, 128, 0]
    assert "full colour 2" in mosaic.caption


def test_deeper_kernels_show_the_strongest_input_channel():
    """Of many input channels the one with the largest norm is drawn, and the others are counted."""
    conv = nn.Conv2d(4, 2, 2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 3, 0, 1] = 1.0
        conv.weight[1, 1, 1, 0] = -0.5
    mosaic = sp.kernels(conv)
    grid = Grid.of(2, 2, 2)
    y, x = grid.corner(0)
    assert mosaic.array[y, x + grid.factor].tolist() == palette(True)[LEVELS - 1].tolist()
    assert mosaic.array[y, x].tolist() == palette(True)[LEVELS // 2].tolist()
    assert "1 of 4" in mosaic.caption
    assert (mosaic.colour_bar.low, mosaic.colour_bar.high) == (-1, 1)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Conv2d(1, 4, 3),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Conv2d(3, 3, 1, dtype=torch.bfloat16),
    ],
)
def test_every_two_dimensional_convolution(conv):
    """Groups, transposed convolutions and other number formats can be drawn: a kernel for each output channel."""
    assert sp.kernels(conv).title.startswith(f"{conv.out_channels} kernels of")


def test_transposed_kernels_belong_to_their_output_channel():
    """The weight of a transposed convolution is turned so that tile c is output channel c."""
    conv = nn.ConvTranspose2d(2, 3, 1, groups=1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 2] = 1.0
    array, (y, x) = sp.kernels(conv).array, Grid.of(3, 1, 1).corner(2)
    assert array[y, x].tolist() == palette(True)[LEVELS - 1].tolist()


@pytest.mark.parametrize("module", [nn.Linear(3, 3), nn.Conv1d(3, 3, 3), nn.Conv3d(3, 3, 3)])
def test_no_two_dimensional_kernels(module):
    """Anything else is refused by name."""
    with pytest.raises(sp.ArgumentError, match=f"not a {type(module).__name__}"):
        sp.kernels(module)


def test_zero_weights():
    """A conv of zeros is grey, not an error."""
    conv = nn.Conv2d(3, 2, 3)
    nn.init.zeros_(conv.weight)
    assert np.unique(sp.kernels(conv).array[20, 10]).tolist() == [128]
