"""Kernels as a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.render.letters import LINE_HEIGHT, lettering
from spatialprobe.render.palette import LEVELS, NONFINITE, palette
from spatialprobe.render.sheet import Grid, room_for


def test_color_kernels_show_their_weights():
    """Over three input channels gray is zero, and each color is its channel's weight."""
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
    assert "full color 2" in mosaic.caption


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
    assert "3 of 4 are hidden" in mosaic.caption
    assert (mosaic.color_bar.low, mosaic.color_bar.high) == (-1, 1)


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


@pytest.mark.parametrize("module", [nn.Linear(3, 3), nn.MaxPool2d(2)])
def test_no_convolution(module):
    """Anything else is refused by name."""
    with pytest.raises(sp.ArgumentError, match=f"not of a {type(module).__name__}"):
        sp.kernels(module)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_number_in_brackets_is_the_input_channel(groups, transposed):
    """The input channel named beside each kernel is the one through which it answers most strongly."""
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = make(4, 6, 1, groups=groups, bias=False)
    grid = Grid.of(6, 1, 1)
    answers = conv(torch.eye(4)[:, :, None, None]).squeeze().abs()  # (input channel, output channel)
    expected = [f"{channel} [{source}]" for channel, source in enumerate(answers.argmax(dim=0).tolist())]
    found = sp.kernels(conv)
    assert all(room_for(name, grid) for name in expected)
    for index, name in enumerate(expected):
        y, x = grid.corner(index)
        label = lettering(name)
        assert np.array_equal(found.pixels[y - LINE_HEIGHT : y, x : x + label.shape[1]], label)


def test_groups_of_three_are_no_colors():
    """Three input channels of a group of many are not red, green and blue."""
    assert "Red" in sp.kernels(nn.Conv2d(3, 6, 3)).caption
    assert "2 of 3 are hidden" in sp.kernels(nn.Conv2d(6, 6, 3, groups=2)).caption


@pytest.mark.parametrize("conv", [nn.Conv1d(3, 4, 5), nn.Conv3d(3, 4, 3), nn.ConvTranspose3d(2, 4, (1, 2, 3))])
def test_one_and_three_axes(conv):
    """Kernels of one axis are strips, those of three are slices."""
    mosaic = sp.kernels(conv)
    assert mosaic.title == f"4 kernels of {' x '.join(map(str, conv.kernel_size))}"
    assert ("slices along the first axis" in mosaic.caption) == (len(conv.kernel_size) == 3)


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 2, 3), nn.Conv2d(4, 2, 3)])
def test_weights_that_are_not_finite(conv):
    """A NaN is marked, and leaves the scale of the others alone."""
    with torch.no_grad():
        conv.weight.fill_(0.5)
        conv.weight[0, 0, 0, 0] = float("nan")
        conv.weight[0, 1, 1, 1] = 2
        conv.weight[0, 0, 2, 2] = 3
    mosaic = sp.kernels(conv)
    grid = Grid.of(2, 3, 3)
    y, x = grid.corner(0)
    assert mosaic.array[y, x].tolist() == palette(False)[NONFINITE].tolist()
    assert "1 with values that are not finite" in mosaic.caption
    assert "3" in mosaic.caption
    assert mosaic.metadata["Value range"] == "0.5 to 3"


def test_zero_weights():
    """A conv of zeros is gray, not an error."""
    conv = nn.Conv2d(3, 2, 3)
    nn.init.zeros_(conv.weight)
    assert np.unique(sp.kernels(conv).array[20, 10]).tolist() == [128]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.LazyConv2d(2, 3), "has no weights yet: run the model once"),
        (lambda: nn.LazyConvTranspose1d(2, 3), "has no weights yet: run the model once"),
        (lambda: nn.Conv2d(3, 2, 3, device="meta"), "on the meta device, where tensors have no values"),
        (lambda: nn.Conv2d(3, 2, 3, dtype=torch.complex64), r"are complex \(torch.complex64\): copy their abs"),
        (lambda: nn.Conv1d(3, 2, 3, dtype=torch.complex128), "are complex"),
        (lambda: nn.Conv2d(0, 2, 3), "there is no kernel to draw"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning", "ignore:Lazy modules:UserWarning")
def test_kernels_that_cannot_be_drawn(make, why):
    """Kernels without values, or of values that have no color, are refused with what to do."""
    with pytest.raises(sp.ArgumentError, match=why):
        sp.kernels(make())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_kernels_of_any_real_dtype(dtype):
    """Kernels of another dtype are drawn as those of float32 with the same values."""
    conv = nn.Conv2d(2, 3, 3)
    conv.weight.data = conv.weight.data.to(dtype).float()
    expected = sp.kernels(conv).array
    conv.weight = nn.Parameter(conv.weight.data.to(dtype), requires_grad=False)
    np.testing.assert_array_equal(sp.kernels(conv).array, expected)


def test_page_of_complex_kernels(tmp_path):
    """The page of a convolution that computes with complex kernels shows its real maps, without the kernels."""

    class Magnitude(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.to(torch.complex64)).abs()

    model = nn.Sequential(Magnitude(1, 2, 3, dtype=torch.complex64))
    report = sp.write_report(tmp_path / "page.html", model, torch.rand(1, 1, 8, 8))
    assert report.layers == ("0",)


def test_channels_and_limit():
    """Kernels are chosen by channel and cut by a limit, which is stated; the scale is that of all of them."""
    conv = nn.Conv2d(3, 8, 3)
    some = sp.kernels(conv, channels=[5, 2, 1], limit=2)
    assert some.metadata["Channels"] == "5 2"
    assert some.caption.startswith("2 of 8 kernels shown.")
    assert [label.text for label in some.labels] == ["5", "2"]
    assert some.title == "2 kernels of 3 x 3"
    deep = nn.Conv2d(6, 9, 3)
    assert sp.kernels(deep, channels=[4]).color_bar == sp.kernels(deep).color_bar
    with pytest.raises(sp.ArgumentError, match="has channels 0 to 7, not 8"):
        sp.kernels(conv, channels=[8])
    with pytest.raises(sp.ArgumentError, match="limit must be at least 1"):
        sp.kernels(conv, limit=0)


@pytest.mark.parametrize("inputs", [3, 4])
def test_scales(inputs):
    """One outlier among many weights does not gray the others; the other scales stay."""
    conv = nn.Conv2d(inputs, 60, 5)
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = 50
    robust = sp.kernels(conv)
    assert "99.5th percentile" in robust.caption
    assert "≥" in robust.caption if inputs == 3 else robust.color_bar.ends[1].startswith("≥")
    assert "50" in sp.kernels(conv, scale="layer").caption
    assert "Each map has its own scale" in sp.kernels(conv, scale="map").caption
    given = sp.kernels(conv, scale=(-0.5, 0.1)).caption
    assert "One given scale: -0.5 to 0.5" in given
    with pytest.raises(sp.ArgumentError, match="scale must be"):
        sp.kernels(conv, scale="whole")
