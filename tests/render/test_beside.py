"""The input beside its maps: the image itself, and the box of the unit with the largest value."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import spatialprobe as sp


@pytest.fixture(scope="module")
def layer():
    """A record, its fields and the images of it, the largest value of which is known."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 5, padding=2, stride=2)
    images = torch.rand(2, 3, 32, 32)
    return sp.capture(conv, images), sp.receptive_fields(conv, images), images


def test_image_and_box(layer):
    """The pixels of the strongest unit's box, and all others, are those of the image; the caption names the unit."""
    records, fields, images = layer
    record = records[""]
    mosaic = sp.feature_maps(record, sample=1, image=images[1], field=fields[""])
    values = record.tensor[1].detach()
    channel, y, x = np.unravel_index(int(values.argmax()), values.shape)
    box = fields[""].box(y, x)
    assert f"{values.max():.4g} of channel {channel} at ({y}, {x}): rows {box.y0} to {box.y1 - 1}" in mosaic.caption
    pixels = (images[1].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    shown = mosaic.array[18 + 8 :, 4 + 8 :][:320:10, :320:10]
    outside = np.ones((32, 32), bool)
    outside[max(box.y0 - 1, 0) : box.y1 + 1, max(box.x0 - 1, 0) : box.x1 + 1] = False
    inside = (slice(box.y0, box.y1), slice(box.x0, box.x1))
    assert np.array_equal(shown[inside], pixels[inside])
    assert np.array_equal(shown[outside], pixels[outside])


def test_the_maps_stay_as_they_are(layer):
    """Maps, numbers and bar are those of the picture without an image."""
    records, _, images = layer
    alone = sp.feature_maps(records[""])
    mosaic = sp.feature_maps(records[""], image=images[0])
    assert np.array_equal(mosaic.array[: alone.array.shape[0], -alone.array.shape[1] :], alone.array)
    assert mosaic.color_bar == alone.color_bar
    assert [label.text for label in mosaic.labels] == ["input", *(label.text for label in alone.labels)]
    assert mosaic.caption.endswith("At the left the input.")


def test_every_kind_of_image_and_several_layers(layer):
    """A PIL image and a normalized tensor look alike; a gallery takes the fields of all its layers."""
    records, fields, images = layer
    pixels = (images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    plain = sp.feature_maps(records, image=Image.fromarray(pixels), field=fields)[""]
    normalized = sp.feature_maps(records, image=(images[0] - 0.5) / 0.2, field=fields, mean=0.5, std=0.2)[""]
    assert np.abs(plain.array.astype(int) - normalized.array).max() <= 1
    assert re.search(r"the unit with the largest value sees, .* of channel \d", plain.caption)


def test_what_does_not_fit(layer):
    """Fields of other layers and sizes, and words about an image that is not there, are refused."""
    records, fields, images = layer
    other = sp.receptive_fields(nn.Conv2d(3, 4, 5), images)[""]
    for options, message in (
        ({"image": images[0], "field": other}, "The maps are of 16 x 16 units, the field of '' is of 28 x 28"),
        ({"image": images[0, :, :9], "field": fields[""]}, "is of 9 x 32 pixels"),
        ({"image": images[0], "field": 3}, "field is an int"),
        ({"field": fields[""]}, "are about image="),
        ({"mean": 0.5}, "are about image="),
        ({"image": "photo.jpg"}, "The image is of type str"),
    ):
        with pytest.raises(sp.ArgumentError, match=message):
            sp.feature_maps(records[""], **options)
    named = sp.capture(nn.Sequential(nn.Conv2d(3, 4, 3)), images)
    with pytest.raises(sp.ArgumentError, match="The fields hold none of layer '0'"):
        sp.feature_maps(named, image=images[0], field=fields)
