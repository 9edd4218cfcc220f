"""Tokens as a layout: sizes that are checked, and views of the same memory."""

from __future__ import annotations

import pytest
import torch

import spatialprobe as sp
from spatialprobe.model.layout import channels_second, fits, leading_tokens


def test_views():
    """Grid and leading tokens of (N, L, C) lie in its memory, and each token is where its row and column are."""
    values = torch.rand(2, 3 + 4 * 6, 5)
    layout = sp.Tokens(4, 6, leading=3)
    grid = channels_second(values, layout)
    assert grid.shape == (2, 5, 4, 6)
    assert torch.equal(grid[1, :, 2, 3], values[1, 3 + 2 * 6 + 3])
    assert grid.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    assert torch.equal(leading_tokens(values, layout), values[:, :3])
    assert leading_tokens(values, sp.Tokens(3, 9)) is None
    assert fits(layout, (2, 27, 5))
    assert not fits(layout, (2, 26, 5))
    assert not fits(layout, (2, 27, 5, 1))


@pytest.mark.parametrize("sizes", [(0, 4), (4, -1), (2.5, 4), ("4", 4), (True, 4), (4, 4, -1), (4, 4, None)])
def test_wrong_sizes(sizes):
    """Sizes are whole numbers, leading tokens may be none."""
    with pytest.raises(sp.ArgumentError, match="height|width|leading"):
        sp.Tokens(*sizes)
