"""Arithmetic on intervals: unions that are kept as their parts, as the scores of an attention, by query and by key."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from spatialprobe.fields import reach as reaches
from spatialprobe.fields.intervals import Span, union
from spatialprobe.fields.reach import Reach

TOKENS = 300  # of whose scores there are more than are computed at once


class Scores(nn.Module):
    """Products of every token with every other, and what a function makes of them."""

    def __init__(self, change=lambda scores: scores):
        super().__init__()
        self.change, self.end = change, nn.Identity()

    def forward(self, x):
        tokens = x.transpose(1, 2)
        return self.end(self.change(tokens @ tokens.transpose(1, 2)))


def boxes_of(model, size=TOKENS):
    field = sp.receptive_fields(model, (1, 2, size), layers="end", unit_axes=(-2, -1))["end"]
    assert field.exact
    return field.boxes()


def hull(rows, columns):
    """The boxes (rows, columns, 2) of scores of these tokens; of a negative one nothing, that is padding."""
    row, column = np.meshgrid(rows, columns, indexing="ij")
    boxes = np.stack([np.minimum(row, column), np.maximum(row, column) + 1], -1)
    boxes[(row < 0) | (column < 0)] = 0
    return boxes


def doubled_in_part(scores):
    scores[:, 1:, 1:] += scores[:, 1:, 1:].clone()
    return scores


def replaced_in_part(scores):
    scores[:, 1:, 1:] = scores[:, 1:, :1]
    return scores


def replaced_but_for_first():
    expected = hull(ALL, ALL * 0)
    expected[0] = hull(ALL[:1], ALL)
    return expected


ALL = np.arange(TOKENS)
CHANGES = {
    "as they are": (lambda scores: scores, hull(ALL, ALL)),
    "with a bias": (lambda scores: scores + scores.mean(-1, keepdim=True).mT, hull(ALL * 0, ALL * 0 + TOKENS - 1)),
    "transposed": (lambda scores: scores.mT * 2, hull(ALL, ALL)),
    "every other": (lambda scores: scores[:, ::2, 1:], hull(ALL[::2], ALL[1:])),
    "as an image": (
        lambda scores: scores.view(1, 15, 20, TOKENS).permute(0, 3, 1, 2).reshape(1, TOKENS, TOKENS),
        hull(ALL, ALL),
    ),
    "padded": (lambda scores: F.pad(scores, (1, 0, 0, 2)), hull([*ALL, -1, -1], [-1, *ALL])),
    "in their order": (lambda scores: scores.flip(1), hull(ALL[::-1], ALL)),
    "softmax": (lambda scores: scores.softmax(-1), hull(ALL * 0, ALL * 0 + TOKENS - 1)),
    "products with values": (
        lambda scores: scores.softmax(-1) @ scores.mean(-1, keepdim=True),
        hull(ALL * 0, [TOKENS - 1]),
    ),
    "doubled in part": (doubled_in_part, hull(ALL, ALL)),
    "replaced in part": (replaced_in_part, replaced_but_for_first()),
    "summed so far": (
        lambda scores: scores.cumsum(1),
        np.stack(np.broadcast_arrays(0 * ALL[:, None], np.maximum(ALL[:, None], ALL) + 1), -1),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_scores(name):
    """A score sees its query, its key, and what lies between; where and how it is moved makes no difference."""
    change, expected = CHANGES[name]
    assert np.array_equal(boxes_of(Scores(change)), expected)


@pytest.mark.parametrize("rows", [(), (3,)])
def test_padded_windows(rows):
    """A window's padding sees nothing; in the sum of two tokens it leaves what the other sees, of all rows alike."""

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.end = nn.Identity()

        def forward(self, x):
            line = x.mean(2) if x.ndim == 4 else x
            tokens = F.pad(line, (0, 50)).transpose(1, 2).reshape(2, 275, 2).mean(-1)
            return self.end((tokens[:, :, None] + tokens[:, None]).reshape(1, 2 * 275, 275))

    token = np.arange(550).reshape(2, 275)
    lo, hi = np.where(token < 500, token, 10**6), np.where(token < 500, token + 1, 0)
    expected = np.stack([np.minimum(lo[:, :, None], lo[:, None]), np.maximum(hi[:, :, None], hi[:, None])], -1).reshape(
        550, 275, 2
    )
    expected[expected[..., 0] == 10**6] = 0
    if rows:
        seeing = expected[..., 1:] > 0
        expected = np.concatenate([0 * seeing, expected[..., :1], 3 * seeing, expected[..., 1:]], -1)
    field = sp.receptive_fields(Windows(), (1, 2, *rows, 500), layers="end", unit_axes=(-2, -1))["end"]
    assert field.exact
    assert np.array_equal(field.boxes(), expected)


def test_parts_stay_small():
    """Scores of 4,096 tokens, a bias by row and one by column take no array of all pairs, though all see all frames."""
    shape = (4096, 4096)
    rows, columns = (Span.identity(4096, dim, 2) for dim in (0, 1))
    frames = rows.reduced([0, 1], shape)
    scores = union([(frames, rows, rows), (frames, columns, columns), (frames, rows, rows)], shape)
    scores = union([scores, (frames, rows, rows)], shape)
    assert max(lo.size for span in scores for lo, _ in span.parts) == 4096
    assert [span.extents for span in scores] == [(1, 1), shape, shape]
    assert [span.reduced([1], shape).extents for span in scores] == [(1, 1)] * 3


def test_replacing_a_part_by_what_sees_the_same():
    """Scores of 4,096 tokens are modified in part without an array of all pairs, if they see the same afterwards."""
    rows, columns = (Reach((4096, 4096), (Span.identity(4096, dim, 2),)) for dim in (0, 1))
    scores = reaches.union([rows, columns], (4096, 4096))
    box = scores.sliced(0, 1, 1, 4095).sliced(1, 0, 2, 2048)
    region = (slice(1, None), slice(0, None, 2))
    assert [lo.size for lo, _ in scores.patched(region, box).spans[0].parts] == [4096, 4096]
