"""The robust end of a scale: numpy's percentile, whatever the values are, and what lies beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialprobe.render.robust import robust_reach


def oracle(values):
    """The percentile and the share beyond, by numpy's own percentile over all values."""
    magnitude = np.abs(values[np.isfinite(values)]).astype(np.float64)
    if not magnitude.any():
        return 0.0, 0.0
    reach = np.percentile(magnitude, 99.5, method="higher")
    if reach == 0:
        reach = np.percentile(magnitude[magnitude > 0], 99.5, method="higher")
    return reach, (magnitude > reach).mean()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 7, 200, 201, 5_000, 8_193, 60_000]),
    st.sampled_from(["normal", "relu", "sparse", "few", "ramp", "periodic", "outlier"]),
    st.booleans(),
)
def test_numpys_percentile(seed, count, kind, bad):
    """The reach is numpy's percentile of the magnitudes, also where a look at a few values misleads."""
    noise = np.random.default_rng(seed)
    values = noise.standard_normal(count).astype(np.float32)
    index = np.arange(count)
    values = {
        "normal": values,
        "relu": np.maximum(values, 0),
        "sparse": np.where(noise.random(count) < 0.002, values, 0),
        "few": np.rint(values),
        "ramp": index.astype(np.float32),
        "periodic": np.where(index % 61 == 0, np.abs(values) + 100, values),  # all that is looked at first is large
        "outlier": np.where(index == count // 2, 1e30, values),
    }[kind]
    if bad:
        values[:: max(1, count // 3)] = [np.nan, np.inf, -np.inf][seed % 3]
    assert robust_reach(values.reshape(1, -1)) == pytest.approx(oracle(values))


def test_hints_change_nothing():
    """What is known beforehand only spares time."""
    values = np.random.default_rng(0).random((4, 60, 60)).astype(np.float32)
    assert robust_reach(values, finite=True, signed=False) == robust_reach(values)


def test_never_more_than_promised():
    """At most 0.5 % of the values lie beyond, and of up to 200 values none."""
    for count in (1, 50, 200, 201, 1000, 10_000):
        _, beyond = robust_reach(np.arange(1.0, count + 1))
        assert beyond <= 0.005
        assert (beyond == 0) == (count <= 200)
