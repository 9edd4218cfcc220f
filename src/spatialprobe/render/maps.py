"""The maps of a record as numbers, which of them to draw, and how each becomes a flat tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.activations.records import Activation, channels_of, why_in_doubt, why_no_values
from spatialprobe.arguments import as_channels, as_int, check_one_of
from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import HATCH, INK, LEVELS, NONFINITE, PAPER, Codes
from spatialprobe.render.scale import Extremes, Values
from spatialprobe.render.sheet import best_columns
from spatialprobe.text import format_count

Order = Literal["index", "max", "mean"]

_LINE_HEIGHT = 49  # pixels: how high a map of one axis is drawn; odd, so that zero has a row in the middle
_LINE_WIDTH = 96  # pixels: lines of fewer units are drawn wider
_SLICE = 64  # pixels: slices of maps of three axes are enlarged up to here
_SLICES = 2**21  # pixels: or until all of them have so many
_BETWEEN = 2  # pixels between slices
_ORDER_WORDS = {"index": "", "max": ", largest maximum first", "mean": ", largest mean first"}


def no_maps(record: Activation) -> str | None:
    """Return why a record holds nothing to draw, None if it does."""
    reason = why_no_values(record)
    if reason is not None:
        return reason
    shape, spatial = record.shape, _spatial_axes(record)
    if spatial not in (1, 2, 3) or len(shape) not in (spatial + 1, spatial + 2):
        return (
            f"Layer {record.layer!r} returned {shape}, which is not maps of (N, C, H, W), (N, C, L) or "
            "(N, C, D, H, W): draw another layer, or bring it into that shape."
        )
    doubt = why_in_doubt(record)
    if doubt is not None:
        return doubt
    if record.dtype.is_complex:
        return f"Layer {record.layer!r} returned complex values: draw .abs() or .angle() of them."
    if 0 in shape[-spatial - 1 :]:
        return f"Layer {record.layer!r} returned {shape}, which has nothing to draw."
    return None


def maps_of(record: Activation, sample: int) -> Values:
    """The maps (C, *spatial) of one sample, as floating point numbers.

    Raises:
        ArgumentError: the record holds no maps, or not that sample.
    """
    reason = no_maps(record)
    if reason:
        raise ArgumentError(reason)
    tensor = channels_of(record)
    if tensor.ndim == _spatial_axes(record) + 1:  # a layer that was given one image without a batch
        tensor = tensor[None]
    sample = as_int(sample, "sample")
    if not -len(tensor) <= sample < len(tensor):
        raise ArgumentError(
            f"There is no sample {sample}: layer {record.layer!r} holds {format_count(len(tensor), 'sample')}."
        )
    values = tensor[sample]
    values = values if values.dtype is torch.float64 else values.float()
    flat = values.flatten(1).contiguous()  # over two axes torch turns channels-last memory round much faster
    return flat.reshape(values.shape).numpy()


def _spatial_axes(record: Activation) -> int:
    return len(record.conv.kernel_size) if record.conv else max(len(record.shape) - 2, 0)


def chosen_channels(
    extremes: Extremes,
    maps: Sequence[Values],
    layer: str,
    channels: Sequence[int] | None,
    order: Order,
    limit: int | None,
) -> npt.NDArray[np.int64]:
    """The channels to draw, in their order; of several items' maps by their strength over all of them.

    Raises:
        ArgumentError: a channel that is not there, an unknown order, a limit below one.
    """
    count = len(maps[0])
    check_one_of(order, "order", Order)
    if limit is not None:
        as_int(limit, "limit", least=1)
    chosen = np.arange(count) if channels is None else as_channels(channels, count, f"Layer {layer!r}")
    if order != "index":
        strength = np.fmax(extremes.high, -np.inf) if order == "max" else _means(maps)
        chosen = chosen[np.argsort(-strength[chosen], kind="stable")]
    return chosen[:limit].astype(np.int64)


def _means(maps: Sequence[Values]) -> npt.NDArray[np.float64]:
    """(C,) the mean of each channel, over all items; what is not finite counts as zero."""
    flat = [item.reshape(len(item), -1) for item in maps]
    return np.asarray(
        np.mean([np.where(np.isfinite(item), item, 0).mean(axis=1, dtype=np.float64) for item in flat], axis=0)
    )


def count_words(shown: int, count: int, order: Order, channels: Sequence[int] | None) -> str:
    """Return the words for how many channels of how many are shown, and how they were chosen."""
    return f"{shown} of {format_count(count, 'channel')} shown{order_words(order, channels)}."


def order_words(order: Order, channels: Sequence[int] | None) -> str:
    """Return the words for how channels were chosen, after a comma; nothing for the plain order."""
    return (", as chosen" if channels is not None and order == "index" else "") + _ORDER_WORDS[order]


def flat_tiles(codes: Codes, *, signed: bool) -> Codes:
    """Codes (M, *spatial) as tiles (M, h, w): a line for one axis, slices beside each other for three."""
    if codes.ndim == 2:
        return _lines(codes, signed=signed)
    return codes if codes.ndim == 3 else _slices(codes)


def _lines(codes: Codes, *, signed: bool) -> Codes:
    """Codes (M, L) as lines over paper, the area between each and zero in the colors of the values."""
    wide = codes.repeat(max(1, _LINE_WIDTH // codes.shape[1]), axis=1)
    last = _LINE_HEIGHT - 1
    zero = last // 2 if signed else last
    rows = last - np.minimum(wide, LEVELS - 1).astype(np.int64) * last // (LEVELS - 1)
    before = np.concatenate([rows[:, :1], rows[:, :-1]], axis=1)
    places = np.arange(_LINE_HEIGHT)[:, None]
    line = (places >= np.minimum(rows, before)[:, None]) & (places <= np.maximum(rows, before)[:, None])
    area = (places >= np.minimum(rows, zero)[:, None]) & (places <= np.maximum(rows, zero)[:, None])
    tiles = np.where(area, wide[:, None], np.where(places == zero, HATCH, PAPER))
    tiles = np.where(line, INK.stop - 1, tiles)
    return np.where((wide < LEVELS)[:, None], tiles, NONFINITE).astype(np.uint8)


def _slices(codes: Codes) -> Codes:
    """Codes (M, D, H, W) as tiles of D slices each; enlarged, so that the lines between these need not be."""
    room = min(_SLICE / max(codes.shape[2:]), (_SLICES / codes.size) ** 0.5)
    large = codes.repeat(max(1, int(room)), axis=2).repeat(max(1, int(room)), axis=3)
    count, depth, height, width = large.shape
    columns = best_columns(depth, height, width)
    cell = height + _BETWEEN, width + _BETWEEN
    beside = 4 * _BETWEEN  # paper after the last slice: channels lie further apart than slices
    tiles = np.full((count, -(-depth // columns) * cell[0] + beside, columns * cell[1] + beside), PAPER, np.uint8)
    for index in range(depth):
        row, column = divmod(index, columns)
        top, left = row * cell[0], column * cell[1]
        tiles[:, top : top + height, left : left + width] = large[:, index]
    return tiles


def slice_words(maps: Values) -> list[str]:
    """Return the sentence for the tiles of maps with three axes, in a list; an empty list for others."""
    if maps.ndim != 4:
        return []
    return [f"Each tile holds the {maps.shape[1]} slices along the first axis, row by row."]
