"""A unit's receptive field over its image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stand_ins import Box, Field
from torch import nn

import spatialprobe as sp

WIDE = Field("conv2", (32, 32), (16, 16), (8, 8), (2, 2), (-3, -3))
MARGIN, FACTOR = 8, 16  # pixels of paper around the image, and for each of its own pixels


def inside(picture, box, factor=FACTOR):
    """The box's pixels as they are in the picture."""
    ys, xs = (slice(MARGIN + a * factor, MARGIN + b * factor) for a, b in zip(box.start, box.stop, strict=True))
    return picture.array[ys, xs]


@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 9))
def test_the_box_is_untouched_and_the_rest_is_not(y, x, seed):
    """What the unit sees is shown exactly, pixel for pixel enlarged; what it does not see has lost its colors."""
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    picture = sp.receptive_field_overlay(image, WIDE, (y, x))
    box = WIDE.box(y, x)
    expected = image[:, box.y0 : box.y1, box.x0 : box.x1].permute(1, 2, 0).numpy()
    assert np.array_equal(inside(picture, box), expected.repeat(FACTOR, 0).repeat(FACTOR, 1))
    rest = picture.array[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
    rest[box.y0 * FACTOR : box.y1 * FACTOR, box.x0 * FACTOR : box.x1 * FACTOR] = 0
    assert np.array_equal(rest[..., 0], rest[..., 1])
    assert np.array_equal(rest[..., 0], rest[..., 2])


@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_box_is_visible_on_any_ground(level):
    """White within black runs around the box, and the shade differs from what is inside."""
    picture = sp.receptive_field_overlay(torch.full((3, 32, 32), level), WIDE, (5, 7)).array.astype(int)
    top, left = MARGIN + 7 * FACTOR, MARGIN + 11 * FACTOR
    across = picture[top + 5, left - 6 : left + 2, 0]
    assert across[2:6].tolist() == [0, 0, 255, 255]
    assert abs(across[0] - across[-1]) >= 40


def test_words():
    """The caption says which rows and columns, and what the border cuts off."""
    image = torch.rand(3, 32, 32)
    free, cut = (sp.receptive_field_overlay(image, WIDE, unit) for unit in ((5, 7), (0, 15)))
    assert free.caption == "The unit (5, 7) sees rows 7 to 14 and columns 11 to 18, 8 x 8 of 32 x 32 pixels."
    assert cut.caption.endswith(
        "The border cuts the field: 3 rows above the image, 3 columns right of the image are padding."
    )
    whole = Field("deep", (8, 8), (1, 1), (8, 8), start=(0, 0))
    assert "sees the whole image: rows 0 to 7" in sp.receptive_field_overlay(torch.rand(3, 8, 8), whole, (0, 0)).caption
    inexact = Field(exact=False, unknown=("aten::fold",))
    assert sp.receptive_field_overlay(torch.rand(3, 8, 8), inexact, (1, 1)).caption.endswith(
        "The field may be smaller than shown, because of aten::fold."
    )


def test_a_unit_that_sees_only_padding():
    """It has no box: everything is shaded, and the caption says why."""
    outside = Field(output_size=(12, 12), start=(-3, -3), size=(3, 3))
    picture = sp.receptive_field_overlay(torch.zeros(3, 8, 8), outside, (0, 0))
    assert picture.caption == "The unit (0, 0) sees nothing of the image, only padding."
    assert picture.metadata["Box"] == "empty"


def test_channel():
    """The channel is passed to the field, where channels see different pixels."""

    class ByChannel(Field):
        def box(self, y, x, channel=None, clip=True):
            return Box(channel, 0, channel + 1, 1)

    picture = sp.receptive_field_overlay(torch.rand(3, 8, 8), ByChannel(), (0, 0), channel=4)
    assert "rows 4 to 4" in picture.caption
    assert "channel 4" in picture.title


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 8, 8),
        torch.rand(1, 3, 8, 8),
        torch.rand(3, 8, 8).double().requires_grad_(),
        torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8),
        np.random.default_rng(0).random((3, 8, 8)),
    ],
)
def test_images(image):
    """Gray and color images, bytes and fractions, tensors and arrays, and a batch of one are taken."""
    assert sp.receptive_field_overlay(image, Field(), (4, 4)).array.shape == (8 * 64 + 16, 8 * 64 + 16, 3)


def test_other_ranges_are_stretched_and_said_to_be():
    """A normalized image goes from black to white; a NaN in it is marked, not drawn."""
    image = torch.linspace(-2, 3, 64).reshape(1, 8, 8).repeat(3, 1, 1)
    picture = sp.receptive_field_overlay(image, Field(size=(20, 20), start=(-10, -10)), (4, 4))
    assert picture.caption.endswith("Image values from -2 to 3 are stretched from black to white.")
    assert inside(picture, Box(0, 0, 1, 1), 64).max() == 0
    assert inside(picture, Box(7, 7, 8, 8), 64).min() == 255
    image[:, 4, 4] = float("nan")
    odd = sp.receptive_field_overlay(image, Field(), (4, 4))
    assert inside(odd, Box(4, 4, 5, 5), 64)[0, 0].tolist() == [225, 15, 90]


@pytest.mark.parametrize(
    ("image", "unit", "message"),
    [
        (torch.rand(3, 9, 8), (0, 0), "The image is of 9 x 8 pixels, but the field is one of inputs of 8 x 8"),
        (torch.rand(2, 8, 8), (0, 0), "bring one image"),
        (torch.rand(2, 3, 8, 8), (0, 0), "bring one image"),
        ("cat.png", (0, 0), "The image is of type str"),
        (torch.rand(3, 8, 8), (8, 0), r"units, \(0, 0\) to \(7, 7\): there is no unit \(8, 0\)"),
        (torch.rand(3, 8, 8), (-1, 0), "there is no unit"),
        (torch.rand(3, 8, 8), (1,), "there is no unit"),
        (torch.rand(3, 8, 8), 3, "unit must be integers"),
    ],
)
def test_what_does_not_fit(image, unit, message):
    """An image of another size and a unit that is not there are refused, with what would fit."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.receptive_field_overlay(image, Field(), unit)


def test_only_two_axes():
    """A field of one axis has no picture."""
    with pytest.raises(sp.ArgumentError, match="only fields of two axes can be drawn"):
        sp.receptive_field_overlay(torch.rand(3, 8, 8), Field(input_size=(8,), output_size=(8,)), (0, 0))


def test_file(tmp_path):
    """A lone file names layer, unit, box and range."""
    path = sp.receptive_field_overlay(torch.rand(3, 32, 32), WIDE, (5, 7)).save(tmp_path / "field.png")
    text = Image.open(path).text
    assert (text["Layer"], text["Unit"]) == ("conv2", "unit (5, 7)")
    assert text["Box"] == "rows 7 to 14 and columns 11 to 18, 8 x 8 of 32 x 32 pixels"
    assert "Value range" in text


def test_what_is_no_field():
    """The fields of all layers are refused, with how to name one."""
    fields = sp.receptive_fields(torch.nn.Conv2d(3, 4, 3), (1, 3, 8, 8))
    with pytest.raises(sp.ArgumentError, match=r"field is a ReceptiveFields: pass one layer's .*\['conv1'\]"):
        sp.receptive_field_overlay(torch.rand(3, 8, 8), fields, (0, 0))


def test_borders_that_wrap_round():
    """Circular padding lets a corner see the other side: that is said, and nothing of it is called padding."""
    conv = nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")
    overlay = sp.receptive_field_overlay(torch.rand(3, 8, 8), sp.receptive_fields(conv, (1, 3, 8, 8))[""], (0, 0))
    assert "sees the whole image" in overlay.caption
    assert "padding" not in overlay.caption
    assert overlay.title == "the model, what unit (0, 0) sees"


@pytest.mark.parametrize("kind", ["PIL", "array", "fractions", "batch", "channels first"])
def test_images_as_people_have_them(kind):
    """A PIL image, arrays with the channels last or first and a batch of one are the picture of the tensor."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    image = {
        "PIL": Image.fromarray(pixels),
        "array": pixels,
        "fractions": (pixels / 255).astype(np.float32),
        "batch": tensor[None],
        "channels first": np.ascontiguousarray(tensor.numpy()),
    }[kind]
    expected = sp.receptive_field_overlay(tensor, Field(), (2, 3)).array
    assert np.array_equal(sp.receptive_field_overlay(image, Field(), (2, 3)).array, expected)


def test_gray_images_of_two_axes():
    """A gray image needs no axis of channels; PIL's gray is one, its palettes are colors."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    expected = sp.receptive_field_overlay(torch.from_numpy(pixels)[None], Field(), (2, 3)).array
    for image in (pixels, Image.fromarray(pixels), Image.fromarray(pixels).convert("P")):
        assert np.array_equal(sp.receptive_field_overlay(image, Field(), (2, 3)).array, expected)


def test_mean_and_std():
    """A normalized image looks as it did before, whether they are numbers, tensors or lists."""
    image = torch.rand(3, 8, 8)
    expected = sp.receptive_field_overlay(image, Field(), (2, 3)).array.astype(int)
    for mean, std in ((0.5, 0.25), ([0.5] * 3, torch.tensor([0.25]))):
        found = sp.receptive_field_overlay((image - 0.5) / 0.25, Field(), (2, 3), mean=mean, std=std)
        assert np.abs(found.array - expected).max() <= 1
    for wrong, message in (
        ({"mean": "gray"}, "mean must be a number"),
        ({"mean": [0.5, 0.5]}, "mean must be a number, or one for each of three channels"),
        ({"std": 0}, "std must be above zero"),
    ):
        with pytest.raises(sp.ArgumentError, match=message):
            sp.receptive_field_overlay(image, Field(), (2, 3), **wrong)
    with pytest.raises(sp.ArgumentError, match="is of bytes, which are not normalized"):
        sp.receptive_field_overlay((image * 255).byte(), Field(), (2, 3), mean=0.5)
    with pytest.raises(sp.ArgumentError, match="has 1 channel, mean= and std= are for 3 and 1"):
        sp.receptive_field_overlay(image[:1], Field(), (2, 3), mean=[0.5] * 3)
