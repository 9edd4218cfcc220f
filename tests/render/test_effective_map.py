"""The picture of an effective field: its map, its frames and its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import spatialprobe as sp
from spatialprobe.render.palette import palette
from spatialprobe.render.robust import robust_reach


@pytest.fixture(scope="module")
def effective():
    """A field of 9 x 9 pixels of 40 x 40, in two images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.Conv2d(6, 4, 5, padding=2))
    return sp.effective_receptive_field(model, torch.rand(2, 3, 40, 40), "1")


def test_the_map_is_in_its_colors(effective):
    """Each pixel around the field has the color of its share, where no frame is drawn over it."""
    picture = sp.effective_field_map(effective)
    reach, _ = robust_reach(effective.map[effective.box.slices])
    assert picture.color_bar.high == pytest.approx(reach)
    top, left, bottom, right = (effective.box.y0 - 2, effective.box.x0 - 2, effective.box.y1 + 2, effective.box.x1 + 2)
    shares = effective.map[top:bottom, left:right]
    codes = np.clip(shares / reach * 241, 0, 240).astype(int)
    factor = 384 // len(shares)
    panel = picture.array[4 + 14 : 4 + 14 + factor * len(shares), 8 : 8 + factor * len(shares)]
    middles = panel[factor // 2 :: factor, factor // 2 :: factor]
    assert np.array_equal(middles, palette(False)[codes])


def test_the_frames_are_the_box_and_the_squares(effective):
    """White lines run around the box without a gap, and with gaps around the squares of half and 99 %."""
    picture = sp.effective_field_map(effective)
    factor = 384 // 13
    panel = picture.array[18 : 18 + 13 * factor, 8 : 8 + 13 * factor]
    white = (panel == 255).all(axis=2)
    first, last = 2 * factor, 11 * factor - 1
    assert white[first, first : last + 1].all()
    assert white[last, first : last + 1].all()
    assert white[first : last + 1, [first, last]].all()
    half = effective.sides[0.5]
    inner = (13 - half) // 2 * factor
    row = white[inner, inner : inner + half * factor]
    assert row.any()
    assert not row.all()


def test_its_numbers_are_told(effective):
    """The caption has the sides, the center, the spread and the number of images; the file, too."""
    words = sp.effective_field_map(effective).caption
    half, most = effective.sides[0.5], effective.sides[0.99]
    for part in (
        "9 x 9 pixels that the unit can see", f"half of the mass ({half} x {half})", f"99 % of it ({most} x {most})",
        f"spread {effective.std[0]:.1f} x {effective.std[1]:.1f} pixels", "absolute gradient, mean of 2 images",
        "Rows 14 to 26 and columns 14 to 26 of 40 x 40 pixels are shown.",
    ):  # fmt: skip
        assert part in words
    assert f"0.5: {half}" in sp.effective_field_map(effective).metadata["Sides"]


def test_an_image_beside_it(effective, tmp_path):
    """The input is as bright as the shares, whatever kind of image it is; one of another size is refused."""
    pixels = np.full((40, 40, 3), 200, np.uint8)
    picture = sp.effective_field_map(effective, Image.fromarray(pixels))
    alone = sp.effective_field_map(effective)
    assert picture.array.shape[1] > 1.9 * alone.array.shape[1]
    assert [label.text for label in picture.labels] == ["share of each pixel", "the input, as bright as the share"]
    factor = 384 // 13
    second = picture.array[18 : 18 + 13 * factor, 8 + 13 * factor + 8 :][
        factor // 2 :: factor, factor // 2 :: factor, 0
    ][:, :13]
    shares = effective.map[14:27, 14:27]
    order = np.corrcoef(second.ravel(), np.sqrt(np.minimum(shares, picture.color_bar.high)).ravel())[0, 1]
    assert order > 0.999
    assert picture.save(tmp_path / "field.svg").read_text().count("<text") > 5
    with pytest.raises(sp.ArgumentError, match="is of 8 x 8 pixels"):
        sp.effective_field_map(effective, torch.rand(3, 8, 8))


def test_what_is_no_effective_field():
    """A receptive field and a field of one axis are refused with what to pass."""
    conv = nn.Conv1d(1, 2, 3)
    with pytest.raises(sp.ArgumentError, match="pass the result of sp.effective_receptive_field"):
        sp.effective_field_map(sp.receptive_fields(conv, (1, 1, 20))[""])
    with pytest.raises(sp.ArgumentError, match="only fields of two axes"):
        sp.effective_field_map(sp.effective_receptive_field(conv, torch.rand(1, 1, 20), ""))
