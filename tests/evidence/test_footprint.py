"""Footprints: what one pixel changes is what the field predicts, and a measure that can contradict it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.evidence import footprint

PLANAR = [name for name, specimen in ZOO.items() if len(specimen.shape) == 4 and name not in ("tuple", "dilated")]


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), (5, 2)])
def test_one_convolution_moves_a_square(kernel, padding):
    """A k x k kernel moves exactly k * k units, around the pixel."""
    found = footprint(nn.Conv2d(3, 6, kernel, padding=padding), torch.rand(3, 3, 32, 32), "", (16, 10))
    expected = torch.zeros(32, 32, dtype=torch.bool)
    reach = kernel // 2
    expected[16 - reach : 17 + reach, 10 - reach : 11 + reach] = True
    assert found.changed.tolist() == expected.tolist()
    assert found.equal
    assert found.share == kernel**2 / 32**2
    assert found.seed == 0


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("pixel", [(0, 0), (4, 3)])
def test_what_changes_lies_within_what_is_predicted(name, pixel):
    """For every convolution of the zoo, deep or branched: no unit changes that the field rules out."""
    specimen = ZOO[name]
    model, images = specimen.model(), specimen.images()
    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            found = footprint(model, images, layer, pixel)
            assert found.within
            assert found.n == len(images)


def test_agrees_with_gradients():
    """Of a smooth model, the units that change are those with a gradient: found by autograd, one unit at a time."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1)).double()
    images = torch.rand(1, 2, 11, 11, dtype=torch.float64, requires_grad=True)
    units = model(images)[0].sum(0)
    moved = [
        [torch.autograd.grad(u, images, retain_graph=True)[0][0, :, 5, 6].any().item() for u in row] for row in units
    ]
    assert footprint(model, images.detach(), "2", (5, 6)).changed.tolist() == moved


def test_fully_connected_units_all_change():
    """The control: every unit of a fully connected layer sees every pixel; each is a unit of its own."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 20))
    found = footprint(model, torch.rand(2, 3, 8, 8), "1", (0, 7))
    assert found.changed.shape == (20,)
    assert found.changed.all()
    assert found.equal


def test_dead_and_dilated_units_stay():
    """A dead unit never changes, nor one that sees the pixel between its taps; both lie within what is predicted."""
    dead = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1))
    dead[0].bias.data.fill_(-1e3)
    found = footprint(dead, torch.rand(2, 1, 8, 8), "2", (4, 4))
    assert not found.changed.any()
    assert found.predicted.sum() == 9
    assert found.within
    assert not found.equal
    dilated = footprint(nn.Conv2d(1, 1, 3, dilation=2), torch.rand(1, 1, 12, 12), "", (6, 6))
    assert (dilated.changed.sum(), dilated.predicted.sum()) == (9, 25)


def test_measure_can_contradict_the_field():
    """A model that looks further than its trace says is found out, not covered up."""

    class Deceiving(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(x if x.is_meta else F.avg_pool2d(x, 3, 1, padding=1))

    found = footprint(Deceiving(), torch.rand(1, 1, 9, 9), "conv", (4, 4))
    assert not found.within
    assert not found.equal
    assert (found.changed.sum(), found.predicted.sum()) == (25, 9)


def test_other_numbers_of_axes():
    """One and three axes work as two do."""
    assert footprint(nn.Conv1d(2, 3, 5), torch.rand(2, 2, 20), "", (9,)).changed.sum() == 5
    assert footprint(nn.Conv3d(1, 2, 3), torch.rand(1, 1, 7, 7, 7), "", (3, 3, 3)).changed.sum() == 27


def test_constant_images_are_enough():
    """Where the images have no range, the pixel is changed all the same."""
    assert footprint(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8), "", (3, 3)).equal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel": (32, 0)}, r"no pixel \(32, 0\) in images \(1, 3, 32, 32\)"),
        ({"pixel": (0, -1)}, r"no pixel \(0, -1\)"),
        ({"pixel": (1,)}, "one number for each spatial axis"),
        ({"pixel": 10}, r"pixel must be integers, such as pixel=\(1, 2\), not 10"),
        ({"pixel": "ab"}, "not 'ab'"),
        ({"pixel": (1.5, 2)}, r"not \(1.5, 2\)"),
        ({"layer": "0*"}, "matches 2 layers"),
        ({"images": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, "floating-point"),
        ({"images": torch.zeros(0, 3, 32, 32)}, "at least one image"),
        ({"images": torch.full((1, 3, 32, 32), torch.nan)}, "infinite or NaN"),
        ({"draws": 0}, "at least 1"),
        ({"model": "conv"}, "nn.Module"),
    ],
)
def test_errors(arguments, message):
    """What cannot be measured is said, with what to do."""
    model = nn.Sequential()
    model.add_module("0", nn.Conv2d(3, 4, 3))
    model.add_module("0b", nn.Conv2d(4, 4, 3))
    with pytest.raises(sp.ArgumentError, match=message):
        footprint(**{"model": model, "images": torch.rand(1, 3, 32, 32), "layer": "0", "pixel": (1, 1), **arguments})


def test_unknown_layer_names_the_nearest():
    """A misspelt layer is answered with the nearest one."""
    with pytest.raises(sp.LayerNotFoundError, match="Did you mean 'conv1'"):
        footprint(ZOO["chain"].model(), ZOO["chain"].images(), "covn1", (0, 0))


def test_images_of_another_number_format():
    """The error of the model comes with what to do."""
    conv = nn.Conv2d(3, 4, 3)
    with pytest.raises(sp.ForwardError, match=r"inputs are torch.float64, .* x.to\(torch.float32\)"):
        footprint(conv, torch.rand(1, 3, 8, 8, dtype=torch.float64), "", (1, 1))
