"""Scales: codes decode to the values, and the scale says what it does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spatialprobe.errors import ArgumentError
from spatialprobe.render.marks import Marks
from spatialprobe.render.palette import LEVELS, NONFINITE, colors, palette
from spatialprobe.render.scale import Extremes, choose_scale, quantize

MAPS = arrays(
    np.float32,
    array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


@given(MAPS, st.sampled_from(["layer", "map"]))
def test_codes_decode_to_the_values(maps, choice):
    """A code stands for its value within half a step of the scale."""
    scale = choose_scale(maps, choice)
    low, high = (bound[:, None, None] for bound in (scale.low, scale.high))
    decoded = low + (quantize(maps, scale) + 0.5) / LEVELS * (high - low)
    assert np.all(np.abs(decoded - maps) <= (high - low) / LEVELS * 0.501)


@given(MAPS)
def test_zero_is_the_middle_of_signed_scales(maps):
    """Where values are signed, zero has the middle code, which is white."""
    maps[0, 0, 0] = -1
    scale = choose_scale(maps, "layer")
    assert scale.signed
    assert quantize(np.zeros_like(maps), scale).ravel().tolist() == [LEVELS // 2] * maps.size


@pytest.mark.parametrize("largest", [1e-45, 1e-38, 3e38])
def test_extreme_ranges(largest):
    """The smallest and the largest numbers of float32 are drawn like any others."""
    maps = np.array([[[-largest, 0.0, largest]]], np.float32)
    assert quantize(maps, choose_scale(maps, "layer")).ravel().tolist() == [0, LEVELS // 2, LEVELS - 1]


@given(MAPS, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_nonfinite_values_spoil_nothing_else(maps, bad):
    """One NaN or infinity gets a code of its own and leaves every other code as it was."""
    maps[-1, -1, -1] = 0
    expected = quantize(maps, choose_scale(maps, "layer"))
    maps[-1, -1, -1] = bad
    codes = quantize(maps, choose_scale(maps, "layer"))
    assert codes[-1, -1, -1] == NONFINITE
    assert np.array_equal(codes.ravel()[:-1], expected.ravel()[:-1])


def test_ranges():
    """Non-negative maps start at zero, signed ones reach equally far on both sides."""
    positive = np.array([[[0.5, 1.0]], [[2.0, 4.0]]], np.float32)
    assert choose_scale(positive, "layer").low.tolist() == [0, 0]
    assert choose_scale(positive, "layer").high.tolist() == [4, 4]
    assert choose_scale(positive, "map").high.tolist() == [1, 4]
    signed = choose_scale(-positive, "layer")
    assert (signed.low.tolist(), signed.high.tolist()) == ([-4, -4], [4, 4])


def test_robust_scale_says_what_lies_beyond():
    """An outlier does not flatten the picture; the share beyond is stated, and the end that is cut is marked."""
    maps = np.ones((1, 100, 100), np.float32)
    maps[0, 0, :40] = 1000
    scale = choose_scale(maps, "robust")
    assert scale.high[0] == 1
    assert scale.words() == "One scale for the layer: 0 to 1 (99.5th percentile); 0.40% of the values lie beyond."
    assert scale.ends() == ("0", "≥ 1")
    maps[0, 0, :40] = -1000
    assert choose_scale(maps, "robust").ends() == ("≤ -1", "1")
    maps[0, 0, 20:40] = 1000
    assert choose_scale(maps, "robust").ends() == ("≤ -1", "≥ 1")
    assert choose_scale(maps, "layer").ends() == ("-1000", "1000")
    assert choose_scale(maps, (0, 2)).ends() == ("≤ 0", "≥ 2")


def test_given_range():
    """A range the user gives is kept; around zero, both sides are made to reach equally far."""
    maps = np.array([[[-3.0, 0.0, 9.0]]], np.float32)
    scale = choose_scale(maps, (-1, 2))
    assert (scale.low[0], scale.high[0], scale.signed) == (-2, 2, True)
    assert "66.67% of the values lie beyond" in scale.words()
    assert choose_scale(maps, (1, 2)).signed is False


@pytest.mark.parametrize("choice", ["global", (1, 1), (2, 1), (0, np.nan), (0, np.inf), (1, 2, 3)])
def test_no_scale(choice):
    """An unknown choice or an empty range is refused."""
    with pytest.raises(ArgumentError, match="scale"):
        choose_scale(np.zeros((1, 2, 2)), choice)


def test_scale_of_nothing_but_zeros():
    """Maps of zeros, and maps without one finite value, have a scale all the same."""
    for value in (0, np.nan):
        scale = choose_scale(np.full((2, 2, 2), value, np.float32), "robust")
        assert (scale.low < scale.high).all()


def test_marks():
    """Dead, constant and non-finite maps are told apart; a single unit is none of the first two."""
    maps = np.ones((4, 2, 2), np.float32)
    maps[0] = 0
    maps[2, 0, 0] = 5
    maps[3, 0, 0] = np.nan
    marks = Marks.of(Extremes.of(maps))
    assert marks.dead.tolist() == [True, False, False, False]
    assert marks.constant.tolist() == [False, True, False, False]
    assert marks.nonfinite.tolist() == [False, False, False, True]
    assert not Marks.of(Extremes.of(np.zeros((1, 1, 1)))).dead.any()


def lightness(color):
    """CIE L* of sRGB colors, written down from its definition."""
    linear = np.where(color / 255 <= 0.04045, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_lightness_orders_the_colors():
    """Sequential colors grow lighter from end to end, diverging ones darker to both sides of the middle."""
    assert (np.diff(lightness(colors(False).astype(float))) > 0).all()
    diverging = lightness(colors(True).astype(float))
    assert (np.diff(diverging[: LEVELS // 2 + 1]) > 0).all()
    assert (np.diff(diverging[LEVELS // 2 :]) < 0).all()


@pytest.mark.parametrize("signed", [False, True])
def test_every_value_has_a_color_of_its_own(signed):
    """No two codes of values, and no value and mark, share a color, so that a picture can be decoded."""
    entries = palette(signed)[: NONFINITE + 2]
    assert len(np.unique(entries, axis=0)) == len(entries)
