"""PNG files, read back by another library."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from spatialprobe.render.palette import palette
from spatialprobe.render.png import png

SIDES = st.integers(1, 40)
FEW = st.integers(0, 3)  # few values, so that rows and pixels repeat


def read(data):
    image = Image.open(io.BytesIO(data))
    image.verify()
    return Image.open(io.BytesIO(data))


@given(st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.uint8, shape, elements=FEW)))
def test_codes(pixels):
    """A picture of codes is a palette PNG that holds exactly these codes and colors."""
    image = read(png(pixels, palette(True), {}))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette(True)[pixels])


@given(st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.uint8, (*shape, 3), elements=st.integers(0, 255))))
def test_colors(pixels):
    """A picture in color is held exactly."""
    image = read(png(pixels, None, {}))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)


def test_pieces(monkeypatch):
    """However few rows are packed at once, the file holds the same picture, repeated rows at the seams too."""
    monkeypatch.setattr("spatialprobe.render.png._PIECE", 30)
    pixels = np.random.default_rng(0).integers(0, 241, (9, 10)).astype(np.uint8).repeat(2, axis=0)
    assert np.array_equal(np.asarray(read(png(pixels, palette(False), {}))), pixels)


def test_repeated_rows_cost_next_to_nothing():
    """Noise of which every row stands ten times is hardly larger than once."""
    noise = np.random.default_rng(0).integers(0, 241, (50, 400)).astype(np.uint8)
    once, often = (len(png(pixels, palette(False), {})) for pixels in (noise, noise.repeat(10, axis=0)))
    assert often < 1.2 * once


@pytest.mark.parametrize("words", ["plain", "größer als 0 → ∞", "", "two\nlines"])
def test_text(words):
    """Text chunks hold any words."""
    assert read(png(np.zeros((2, 2), np.uint8), palette(False), {"Title": words, "Layer": "x"})).text == {
        "Title": words,
        "Layer": "x",
    }
