"""Patches cut out of images."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spatialprobe.fields.box import Box
from spatialprobe.render.patch import cut_patch


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(-4, 7), st.integers(-4, 7)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 3),
    st.booleans(),
)
def test_pixel_by_pixel(size, start, extent, every, colored):
    """Each place of a patch is the image's pixel there, or zero and marked as outside."""
    image = np.arange(1, 1 + np.prod(size) * (3 if colored else 1)).reshape(*size, *((3,) if colored else ()))
    box = Box(*start, *(low + many for low, many in zip(start, extent, strict=True)))
    patch, inside = cut_patch(image, box, every=every)
    for row, y in enumerate(range(box.start[0], box.stop[0], every)):
        for column, x in enumerate(range(box.start[1], box.stop[1], every)):
            there = 0 <= y < size[0] and 0 <= x < size[1]
            assert inside[row, column] == there
            assert np.array_equal(patch[row, column], image[y, x] if there else 0 * image[0, 0])
    assert inside.shape == tuple(-(-many // every) for many in extent)
