"""Signals as lines: what a unit sees of one, each channel between its least and its greatest value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.images import as_channels
from spatialprobe.render.palette import INK, LEVELS, NONFINITE, PAPER, Codes
from spatialprobe.text import format_count

Signal = npt.NDArray[np.float32]  # (L, C)

MOST_CHANNELS = 8  # of a signal that are drawn
_HEIGHT = 34  # pixels of a channel's line
_AROUND = 3  # pixels above and below it
_WIDTH = 96  # pixels: shorter lines are stretched about so wide
_BETWEEN = 1  # pixels between channels
WHITE = LEVELS // 2  # the code of zero in the signed palette


def signal_values(signal: object, size: Sequence[int] | None, what: str) -> Signal:
    """Return a signal of this size, the channels last.

    Args:
        signal: (C, L), a tensor or an array.
        size: (L,); None for any.
        what: its name in messages, as of an image.

    Raises:
        ArgumentError: it is no such signal, or of another size.
    """
    found = as_channels(signal, 1, what, "one signal, (C, L)")
    if size is not None and tuple(found.shape[1:]) != tuple(size):
        raise ArgumentError(
            f"{what} has {format_count(found.shape[1], 'value')}, but the field is one of inputs of {size[0]}: bring "
            "the signal as the model saw it."
        )
    return np.asarray(found.detach().cpu().float().numpy().T)


def signal_words(channels: int) -> str:
    """Return how a signal of so many channels is drawn, in a sentence or two."""
    words = "Each channel of the input is a line between the least and the greatest of its values here."
    if channels > MOST_CHANNELS:
        words += f" Of {channels} channels of the input the first {MOST_CHANNELS} are drawn."
    return words


def line_tiles(values: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> tuple[Codes, int]:
    """Return tiles (M, h, w) of lines, in codes of the signed palette, and how many pixels wide a value is.

    Args:
        values: (M, L, C) of patches of signals.
        known: (M, L) where they are.
    """
    shown = np.where(known[..., None], values, np.nan)[..., :MOST_CHANNELS].astype(np.float64)
    wide = max(1, _WIDTH // shown.shape[1])
    bands = [_band(shown[..., channel], wide) for channel in range(shown.shape[-1])]
    between = np.full((len(shown), _BETWEEN, shown.shape[1] * wide), PAPER, np.uint8)
    parts = [part for band in bands for part in (band, between)][:-1]
    return np.concatenate(parts, axis=1), wide


def _band(values: npt.NDArray[np.float64], wide: int) -> Codes:
    """Return the lines (M, h, w) of one channel's values (M, L), NaN where there are none."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scale = (_HEIGHT - 1 - 2 * _AROUND) / ((high - low) or 1.0)
    levels = _HEIGHT - 1 - _AROUND - _between(np.where(np.isfinite(values), values, np.nan), wide) * scale + low * scale
    ends = np.concatenate([levels[:, :1], (levels[:, 1:] + levels[:, :-1]) / 2, levels[:, -1:]], axis=1)
    sides = np.stack([levels, *(np.where(np.isnan(end), levels, end) for end in (ends[:, :-1], ends[:, 1:]))])
    places = np.arange(_HEIGHT)[:, None]
    line = (places >= np.floor(sides.min(axis=0))[:, None]) & (places <= np.ceil(sides.max(axis=0))[:, None])
    tiles = np.full(line.shape, WHITE, np.uint8)
    if low < 0 < high:
        tiles[:, round(_HEIGHT - 1 - _AROUND + low * scale)] = PAPER
    tiles[line] = INK.stop - 1
    broken = np.isinf(values).repeat(wide, axis=1)
    return np.where(broken[:, None], np.uint8(NONFINITE), tiles)


def _between(values: npt.NDArray[np.float64], wide: int) -> npt.NDArray[np.float64]:
    """Return values (M, L) at each of so many pixels a value, (M, L * wide), straight from one to the next."""
    length = values.shape[1]
    at = np.clip((np.arange(length * wide) + 0.5) / wide - 0.5, 0, length - 1)
    first = np.floor(at).astype(np.int64)
    one, other = values[:, first], values[:, np.minimum(first + 1, length - 1)]
    one, other = np.where(np.isnan(one), other, one), np.where(np.isnan(other), one, other)
    found = one + (other - one) * (at - first)
    return np.where(np.isnan(values).repeat(wide, axis=1), np.nan, found)
