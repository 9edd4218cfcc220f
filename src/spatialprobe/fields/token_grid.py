"""Where tokens lie in the image, read off what they see: a grid, row by row, behind leading tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spatialprobe.fields.intervals import Span
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.taps import Bools, Ints
from spatialprobe.model.tokens import Tokens

_Bounds = npt.NDArray[np.int64]  # (2, tokens): the first pixel along one axis of the input, and the one behind the last


def find_grid(reach: Reach) -> Tokens | None:
    """Return the grid of the tokens (N, L, C) of which this says what they see; None if they are none.

    The columns of a grid see the same pixels in each row, and move along it; all tokens of a row see the same rows of
    the image, and rows move too. Tokens at the front that see nothing, as a class token does that was only put
    there, or all that any token sees, are leading. What tokens would see without borders counts, or else what they see.
    """
    if len(reach.shape) != 3 or len(reach.spans) != 2:
        return None
    return _grid([_unclipped(span, reach.shape) for span in reach.spans]) or _grid(
        [_clipped(span, reach.shape) for span in reach.spans]
    )


def token_reach(tokens: Tokens, shape: tuple[int, ...]) -> Reach:
    """Return what tokens (N, L, C) see of their own grid, each its own place, and the leading ones nothing."""
    samples, _, channels = shape
    grid = (samples, tokens.height, tokens.width, channels)
    spans = tuple(Span.identity(size, axis, len(grid)) for axis, size in enumerate(grid[1:3], start=1))
    flat = Reach(grid, spans).reshaped((samples, tokens.height * tokens.width, channels))
    return flat.padded(1, tokens.leading, tokens.count) if tokens.leading else flat


def _unclipped(span: Span, shape: tuple[int, ...]) -> _Bounds:
    lattice = span.lattice_over(shape).coarse(0, shape[0]).coarse(2, shape[2])
    return np.stack([bound.reshape(-1) for bound in lattice.at(1, np.arange(shape[1]))])


def _clipped(span: Span, shape: tuple[int, ...]) -> _Bounds:
    lo, hi = span.lo.min(axis=(0, 2)), span.hi.max(axis=(0, 2))
    return np.stack([np.broadcast_to(bound, shape[1:2]) for bound in (lo, hi)])


def _grid(bounds: list[_Bounds]) -> Tokens | None:
    """Return the grid of tokens with these bounds along the image's rows and columns."""
    leading = _count_leading(bounds)
    y, x = (bound[:, leading:] for bound in bounds)
    count = y.shape[1]
    for width in range(2, count // 2 + 1):
        if count % width or not (x[:, width:] == x[:, :-width]).all():
            continue
        rows, columns = y.reshape(2, -1, width), x[:, :width]
        if (rows == rows[:, :, :1]).all() and _moves(rows[:, :, 0]) and _moves(columns):
            return Tokens(count // width, width, leading)
        return None
    return None


def _count_leading(bounds: list[_Bounds]) -> int:
    """Return how many tokens at the front see nothing, or all that any sees."""
    seeing: Bools = np.all([lo < hi for lo, hi in bounds], axis=0)
    if not seeing.any():
        return 0
    everything = np.all([(lo <= lo[seeing].min()) & (hi >= hi[seeing].max()) for lo, hi in bounds], axis=0)
    single = np.flatnonzero(seeing & ~everything)
    return int(single[0]) if len(single) else 0


def _moves(bounds: Ints) -> bool:
    """Return whether both bounds (2, n) move one way together, and do so at all."""
    steps = np.diff(bounds, axis=1)
    return bool(((steps >= 0).all() or (steps <= 0).all()) and (steps[0] * steps[1] > 0).any())
