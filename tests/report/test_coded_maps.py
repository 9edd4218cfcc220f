"""Maps as 8-bit codes: near enough, and exact where it matters."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialprobe.report.coded_maps import NONFINITE, STEPS, CodedMaps

FLOATS = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]),
    st.floats(-3, 3, width=32),
)
MAPS = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), elements=FLOATS)


@given(MAPS)
def test_values_come_back_within_half_a_step(maps):
    """Every finite value comes back within half of 1 / 254 of its channel's range, and nothing else is finite."""
    coded = CodedMaps.of(maps)
    values = coded.values()
    finite = np.isfinite(maps)
    assert (np.isfinite(values) == finite).all()
    step = np.where(finite.any(axis=(1, 2)), coded.high - coded.low, 0)[:, None, None] / STEPS
    exact = maps.astype(np.float64)
    error = np.abs(np.where(finite, values, 0) - np.where(finite, exact, 0))
    assert (error <= step * 0.5001 + np.abs(np.where(finite, exact, 0)) * 1e-12).all()


@given(MAPS)
def test_numbers_are_those_of_the_values(maps):
    """Least, greatest, mean and the share at or below zero are exact, channel by channel."""
    coded = CodedMaps.of(maps)
    for channel, one in enumerate(maps):
        known = one[np.isfinite(one)].astype(np.float64)
        low, high, mean, silent, nonfinite = coded.numbers[:, channel]
        assert silent == (one <= 0).mean()
        assert nonfinite == (not np.isfinite(one).all())
        if known.size:
            assert (low, high) == (known.min(), known.max())
            assert mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-9 * np.abs(known).max())
        else:
            assert np.isnan([low, high, mean]).all()


def test_ends_and_zeros_after_a_relu_are_exact():
    """The least and the greatest value of a channel come back to the last digit, and so does zero after a ReLU."""
    maps = np.maximum(np.random.default_rng(0).normal(size=(8, 9, 9)), 0)
    values = CodedMaps.of(maps).values()
    assert (values.min(axis=(1, 2)) == maps.min(axis=(1, 2))).all()
    assert (values.max(axis=(1, 2)) == maps.max(axis=(1, 2))).all()
    assert (values[maps == 0] == 0).all()


@pytest.mark.parametrize("scale", [1e308, 1e-308, 5e-324])
def test_ends_of_the_number_range(scale):
    """Values near the largest and the smallest number of float64 are coded without overflow."""
    maps = np.array([[[-scale, 0, scale, scale]]])
    coded = CodedMaps.of(maps)
    assert NONFINITE not in coded.codes
    assert (coded.low, coded.high) == (-scale, scale)
    assert np.isfinite(coded.values()).all()


def test_some_channels():
    """The maps of some channels are those of the whole, in the order asked for."""
    maps = np.random.default_rng(1).normal(size=(5, 4, 3))
    some, whole = CodedMaps.of(maps).of_channels(np.array([3, 1])), CodedMaps.of(maps)
    assert (some.values() == whole.values()[[3, 1]]).all()
    assert (some.numbers == whole.numbers[:, [3, 1]]).all()
    assert (some.reach == np.abs(maps[[3, 1]]).max(axis=(1, 2))).all()
