"""Equivariance errors: zero where one detector runs everywhere, and not where something depends on the place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.evidence import equivariance_error


def stack(stride=2):
    """Two convolutions, the second after a pooling."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(stride), nn.Conv2d(4, 5, 3, padding=1))


@given(dy=st.integers(-6, 6), dx=st.integers(-6, 6))
def test_error_is_zero_at_multiples_of_the_stride(dy, dx):
    """Of a stack with stride 2: zero at even shifts, in whatever direction, and above it at any other."""
    if not (dy or dx):
        return
    found = equivariance_error(stack(), torch.rand(4, 3, 32, 32), "3", (dy, dx))
    assert found.n == 4
    assert found.whole == (dy % 2 == 0 and dx % 2 == 0)
    assert found.mean < 1e-6 if found.whole else found.mean > 1e-3


def test_values_are_those_of_the_definition():
    """The errors are the norms over interior units, cut out by hand for a padded convolution with a ramp added."""

    class WithPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x) + torch.linspace(0, 1, x.shape[-1], device=x.device)

    model, images = WithPlace(), torch.rand(3, 1, 10, 12)
    with torch.no_grad():
        before, after = model(images), model(images.roll((2, 1), (2, 3)))
    # down by 2, right by 1: rows 3 to 8 and columns 2 to 10 of the shifted output see neither border nor padding
    expected, found = before[..., 1:7, 1:10], after[..., 3:9, 2:11]
    errors = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    result = equivariance_error(model, images, "", (2, 1))
    assert torch.allclose(torch.from_numpy(result.values).float(), errors, atol=1e-5)
    assert result.units == 2 * 6 * 9
    assert result.mean == pytest.approx(errors.mean().item(), rel=1e-4)
    assert result.spread == pytest.approx(errors.std(correction=0).item(), rel=1e-3)


def test_interpolation_between_units():
    """A detector that is linear along the image loses nothing between units; one that is not, does."""
    keep = nn.Conv2d(1, 1, 1, stride=2, bias=False)
    keep.weight.data.fill_(1.0)
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    assert equivariance_error(keep, ramp, "", (0, 1)).mean < 1e-6
    assert equivariance_error(keep, ramp**2, "", (0, 1)).mean > 1e-3
    assert equivariance_error(keep, ramp.mT.contiguous(), "", (-3, 0)).mean < 1e-6


def test_fully_connected_units_fall_short_even_at_their_best():
    """The control: whichever unit is taken to have moved, the error of a fully connected layer stays large."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64))
    images = torch.randn(64, 3, 16, 16)
    found = equivariance_error(model, images, "1", (2, 2))
    assert found.mean > 0.5
    # all units that a convolution has, as rows of a matrix, with the borders closed: now some unit does match
    round_ = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    matrix = torch.stack([round_(one[None, None]).flatten() for one in torch.eye(64).reshape(64, 8, 8)]).T
    layer = nn.Linear(64, 64)
    layer.weight.data.copy_(matrix - round_.bias.detach())
    closed = nn.Sequential(nn.Flatten(), layer)
    layer.bias.data.copy_(round_.bias.detach().expand(64))
    assert equivariance_error(closed, torch.randn(16, 1, 8, 8), "1", (2, 3)).mean < 1e-5


@pytest.mark.parametrize("name", ["chain", "residual", "concat", "strided", "dilated", "asymmetric", "grouped"])
def test_every_convolution_of_the_zoo(name):
    """Convolutions, whatever leads to them, follow a shift by 4 pixels exactly."""
    specimen = ZOO[name]
    model = specimen.model()
    images = torch.randn(2, specimen.shape[1], 40, 40)
    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert equivariance_error(model, images, layer, (4, -4)).mean < 1e-5


def test_one_axis():
    """A convolution over one axis shifts along it."""
    model = nn.Sequential(nn.Conv1d(2, 3, 5, stride=3), nn.ReLU())
    assert equivariance_error(model, torch.rand(2, 2, 40), "0", (6,)).mean < 1e-6
    assert equivariance_error(model, torch.rand(2, 2, 40), "0", (1,)).mean > 1e-2


def test_silent_images_are_left_out():
    """An image that activates no unit compared counts for nothing, and if none does, there is nothing to measure."""
    model = nn.Conv2d(1, 1, 3, bias=False)
    images = torch.rand(3, 1, 12, 12)
    images[1] = 0
    images[1, 0, -1, -1] = 1  # where no unit is compared
    assert equivariance_error(model, images, "", (1, 1)).n == 2
    with pytest.raises(sp.ArgumentError, match="zero at every compared unit"):
        equivariance_error(model, images[1:2], "", (1, 1))


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ((0, 0), "moves nothing"),
        ((16, 0), "leaves nothing"),
        ((14, 0), "no interior units"),
        ((1,), "whole pixels along each spatial axis"),
        ((0.5, 0), "shift must be integers"),
        (2, "shift must be integers, .* not 2"),
    ],
)
def test_bad_shifts(shift, message):
    """A shift that is none, or too large, is said."""
    with pytest.raises(sp.ArgumentError, match=message):
        equivariance_error(nn.Conv2d(1, 1, 5, padding=2), torch.rand(1, 1, 16, 16), "", shift)


def test_layers_off_the_grid():
    """A layer that sees everything has no interior; one that turns the image has no counterpart of the shift."""
    images = torch.rand(1, 1, 16, 16)
    everything = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(sp.ArgumentError, match=r"grid|interior"):
        equivariance_error(everything, images, "1", (1, 0))

    class Turned(nn.Module):
        def forward(self, x):
            return F.avg_pool2d(x.mT, 2)

    with pytest.raises(sp.ArgumentError, match="no counterpart"):
        equivariance_error(Turned(), torch.rand(1, 1, 16, 12), "", (2, 0))
    with pytest.raises(sp.LayerNotFoundError, match="Did you mean 'conv1'"):
        equivariance_error(ZOO["chain"].model(), ZOO["chain"].images(), "cnv1", (1, 0))


def test_images_that_a_shift_leaves_as_they_are():
    """They would count as no error whatever the layer does, so they are left out."""
    images = torch.rand(3, 1, 16, 16)
    images[1] = 0.5
    assert equivariance_error(nn.Conv2d(1, 1, 3), images, "", (1, 2)).n == 2
    with pytest.raises(sp.ArgumentError, match="does not change any of the images"):
        equivariance_error(nn.Conv2d(1, 1, 3), images[1:2], "", (1, 2))
