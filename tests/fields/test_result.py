"""Boxes, fields and their mapping as a user meets them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from torch import nn
from torchvision.ops import Permute
from zoo import ZOO

import spatialprobe as sp


@pytest.fixture(scope="module")
def fields():
    return sp.receptive_fields(ZOO["chain"].model(), (1, 3, 12, 12))


def test_box_is_a_tuple_with_names():
    """A box unpacks, compares with tuples, cuts arrays, and names its bounds in one, two and three dimensions."""
    box = sp.Box(1, 2, 4, 7)
    y0, x0, y1, x1 = box
    assert (y0, x0, y1, x1) == (box.y0, box.x0, box.y1, box.x1) == box == (1, 2, 4, 7)
    assert (box.start, box.stop, box.shape) == ((1, 2), (4, 7), (3, 5))
    assert np.zeros((9, 9))[box.slices].shape == (3, 5)
    assert (sp.Box(3, 5).x0, sp.Box(3, 5).x1) == (3, 5)
    assert sp.Box(1, 2, 3, 4, 5, 6).z1 == 4
    assert pickle.loads(pickle.dumps(box)) == copy.deepcopy(box) == box
    with pytest.raises(AttributeError, match="no 'z0'"):
        box.z0  # noqa: B018
    with pytest.raises(sp.ArgumentError, match="as many stops as starts"):
        sp.Box(1, 2, 3)


@pytest.mark.parametrize("layer", ["conv1", "pool", "conv2"])
def test_boxes_are_every_box(fields, layer):
    """`boxes` holds what `box` says of each unit, for all channels and for one."""
    field = fields[layer]
    for channel in (None, 1):
        boxes = field.boxes(channel)
        assert boxes.dtype == np.int64
        assert boxes.shape == (*field.output_size, 4)
        for unit in np.ndindex(*field.output_size):
            assert field.box(*unit, channel=channel) == tuple(boxes[unit])


@pytest.mark.parametrize("name", ZOO)
def test_boxes_without_borders(name):
    """`boxes(clip=False)` holds what `box(clip=False)` says of each unit, zeros where it says None."""
    fields = sp.receptive_fields(ZOO[name].model(), ZOO[name].shape)
    for field in (one for layer in fields for one in fields.calls(layer)):
        boxes = field.boxes(0, clip=False)
        for unit in list(np.ndindex(*field.output_size))[::7]:
            assert tuple(boxes[unit]) == (field.box(*unit, channel=0, clip=False) or (0,) * boxes.shape[-1])


def test_channels_that_see_different_pixels():
    """`per_channel` is true behind a concatenation of branches, and false in a plain chain."""
    fields = sp.receptive_fields(ZOO["concat"].model(), ZOO["concat"].shape)
    assert not any(fields[layer].per_channel for layer in ("narrow", "wide", "join"))
    grouped = nn.Sequential(nn.Conv2d(2, 2, 1), nn.PixelUnshuffle(2))
    assert sp.receptive_fields(grouped, (1, 2, 8, 8))["1"].per_channel


@pytest.mark.parametrize("name", ["chain", "strided", "transposed", "1-d", "3-d", "grouped"])
def test_reached_by_is_the_inverse_of_box(name):
    """A pixel reaches a box of units that holds exactly those whose box holds the pixel, or gaps between them."""
    specimen = ZOO[name]
    shape = (1, *specimen.shape[1:])
    fields = sp.receptive_fields(specimen.model(), shape)
    for field in fields.values():
        boxes = field.boxes()
        axes = len(shape) - 2
        for pixel in np.ndindex(*shape[2:]):
            holds = np.all((boxes[..., :axes] <= pixel) & (pixel < boxes[..., axes:]), axis=-1)
            reached = field.reached_by(*pixel)
            if reached is None:
                assert not holds.any()
                continue
            found = np.argwhere(holds)
            assert (*found.min(0), *(found.max(0) + 1)) == reached


def test_padding_only():
    """A unit that sees only padding has no box, in any form."""
    field = sp.receptive_fields(nn.Conv2d(1, 1, 1, padding=2), (1, 1, 3, 4))[""]
    assert field.box(0, 0) is None
    assert field.box(2, 0) is None
    assert field.box(0, 0, clip=False) is None
    assert field.box(2, 2) == (0, 0, 1, 1)
    assert field.boxes()[0, 3].tolist() == [0, 0, 0, 0]
    assert field.boxes(channel=0)[2, 2].tolist() == [0, 0, 1, 1]
    assert field.boxes(clip=False)[0, 3].tolist() == [0, 0, 0, 0]
    assert field.boxes(clip=False)[2, 2].tolist() == [0, 0, 1, 1]


def test_constant_output():
    """A layer that does not depend on the input sees nothing, and says so."""

    class Constant(nn.Module):
        def forward(self, x):
            return x.new_zeros(1, 2, 3, 3)

    field = sp.receptive_fields(Constant(), (1, 1, 4, 4))[""]
    assert (field.size, field.stride, field.is_global, field.exact) == ((0, 0), (0, 0), False, True)
    assert field.box(1, 1) is None
    assert field.reached_by(0, 0) is None
    assert not field.boxes().any()


def test_global_layers(fields):
    """After a global pool or a linear layer, units see everything and have no axes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    fields = sp.receptive_fields(model, (1, 3, 9, 9))
    assert [field.is_global for field in fields.values()] == [False, True, True, True, True]
    assert fields["3"].output_size == ()
    assert fields["3"].box() == (0, 0, 9, 9)
    assert fields["3"].box(channel=1) == (0, 0, 9, 9)
    with pytest.raises(sp.ArgumentError, match="no unit axes"):
        fields["3"].reached_by(0, 0)


def test_bad_units_channels_and_names(fields):
    """What is asked for wrongly is answered with what there is."""
    field = fields["conv2"]
    with pytest.raises(sp.ArgumentError, match=r"no unit \(4, 0\) of layer 'conv2': its units are 4 x 4"):
        field.box(4, 0)
    with pytest.raises(sp.ArgumentError, match=r"units along 2 axes, 4 x 4.*not \(1,\)"):
        field.box(1)
    with pytest.raises(sp.ArgumentError, match="has channels 0 to 4, not 9"):
        field.boxes(channel=9)
    with pytest.raises(sp.ArgumentError, match=r"no pixel \(12, 0\)"):
        field.reached_by(12, 0)
    with pytest.raises(sp.LayerNotFoundError, match="Did you mean 'conv2' or 'conv1'"):
        fields["convv"]


def test_mapping(fields):
    """Keys in order of execution; a layer that ran twice is ambiguous, and keyed like a record."""
    assert list(fields) == ["conv1", "relu1", "pool", "conv2", "relu2", ""]
    assert len(fields) == 6
    assert "conv1" in fields
    assert "nothing" not in fields
    shared = sp.receptive_fields(ZOO["shared"].model(), (1, 3, 8, 8))
    assert [shared["conv", i].size for i in (0, 1)] == [(3, 3), (5, 5)]
    assert [field.call for field in shared.calls("again")] == [0, 1]
    with pytest.raises(sp.AmbiguousCallError, match=r"fields\['conv', i\].*fields.calls"):
        shared["conv"]
    with pytest.raises(sp.LayerNotRunError, match="there is no run 2"):
        shared["conv", 2]


def test_tables(fields):
    """The repr is a table, and so is the notebook's, with names as text."""
    assert repr(fields).splitlines()[:3] == [
        "Receptive fields of Chain, in pixels of an input of 12 x 12",
        "  layer    units    size   stride  start   of the image",
        "  conv1    12 x 12  3 x 3  1 x 1   -1, -1  6.2%",
    ]
    assert ">conv1</td>" in fields._repr_html_()
    model = nn.ModuleDict({"<b>": nn.Conv2d(1, 1, 1)})
    model.forward = lambda x: model["<b>"](x)
    page = sp.receptive_fields(model, (1, 1, 2, 2))._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_what_the_table_leaves_out():
    """Modules without a field, and outputs whose channels may lie anywhere, are named under the table."""
    fields = sp.receptive_fields(ZOO["tuple"].model(), (1, 3, 6, 6))
    assert fields.missing == {"block": "it returns a tuple, not one tensor."}
    assert "No field: block; .missing says why." in repr(fields)
    assert "No field: block" in fields._repr_html_()
    tokens = nn.Sequential(nn.Conv2d(1, 5, 4, stride=4), nn.Flatten(2), nn.Linear(6, 2))
    fields = sp.receptive_fields(tokens, (1, 1, 8, 12))
    assert "No field: 2, (model); .missing says why." in repr(fields)
    assert "unit_axes=(1,) for tokens" in fields.missing["2"]
    assert "No field" not in repr(sp.receptive_fields(tokens, (1, 1, 8, 12), unit_axes=(2,)))


def test_channels_last_are_seen():
    """A linear layer on maps has its channels last, and its units along both rows and columns."""
    mixer = nn.Sequential(nn.Conv2d(1, 5, 4, stride=4), Permute([0, 2, 3, 1]), nn.LayerNorm(5), nn.Linear(5, 2))
    fields = sp.receptive_fields(mixer, (1, 1, 8, 12))
    assert [fields[name].output_size for name in ("0", "1", "2", "3")] == [(2, 3)] * 4
    assert [fields[name].layout for name in ("0", "1", "2", "3")] == ["channels_first", *["channels_last"] * 3]
    flat = nn.Sequential(nn.Conv2d(1, 5, 4, stride=4), nn.Flatten(), nn.Linear(30, 2))
    assert sp.receptive_fields(flat, (1, 1, 8, 12))["2"].output_size == ()


def test_places_that_are_no_whole_numbers():
    """They are refused as such, not by an array's index."""
    field = sp.receptive_fields(nn.Conv2d(1, 1, 3), (1, 1, 8, 8))[""]
    with pytest.raises(sp.ArgumentError, match=r"unit must be integers, such as unit=\(1, 2\), not \(3.0, 3\)"):
        field.box(3.0, 3)
    assert field.box(np.int64(3), 3) == field.box(3, 3)
