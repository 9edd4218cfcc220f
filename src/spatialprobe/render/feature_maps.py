"""The feature maps of one layer as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from spatialprobe.activations.records import Activation
from spatialprobe.errors import ArgumentError
from spatialprobe.render.mosaic import ColourBar, Mosaic
from spatialprobe.render.palette import HATCH, Codes, palette
from spatialprobe.render.scale import Marks, Scale, ScaleChoice, Values, choose_scale, quantise
from spatialprobe.render.sheet import Grid, lay_out, room_for

Order = Literal["index", "max", "mean"]

_STRIP_HEIGHT = 8  # units: how high a one-dimensional map is drawn
_ORDER_WORDS = {"index": "", "max": ", largest maximum first", "mean": ", largest mean first"}


def feature_maps(
    record: Activation,
    *,
    sample: int = 0,
    channels: Sequence[int] | None = None,
    order: Order = "index",
    limit: int | None = None,
    scale: ScaleChoice = "layer",
    columns: int | None = None,
) -> Mosaic:
    """Every channel's map for one sample, on one sheet, each under its channel number.

    Signed values get colours that diverge around zero, others go from dark (zero) to light. Maps that are zero
    everywhere ("dead"), constant, or hold values that are not finite are marked as such.

    Args:
        record: of a layer with outputs (N, C, H, W), (N, C, L), or without the batch.
        sample: which image of the batch.
        channels: which channels, and in which order; all if left out.
        order: "index"; "max" or "mean", by which the channels are sorted, the largest first.
        limit: how many to show at most; what is left out is counted in the caption.
        scale: "layer", one range for all channels of the sample, hidden ones too; "map", one for each;
            "robust", as "layer" but up to the 99th percentile; or a range (low, high).
        columns: the number of columns; chosen to fit if left out.

    Raises:
        ArgumentError: the record holds no maps, or an argument does not fit them.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> conv = nn.Conv2d(3, 6, 3)
    >>> with sp.Probe(conv) as probe:
    ...     output = conv(torch.rand(1, 3, 32, 32))
    >>> mosaic = sp.feature_maps(probe[""], limit=4, order="max")
    >>> mosaic.array.shape[2], mosaic.caption.split(".")[0]
    (3, '4 of 6 channels shown, largest maximum first')
    """
    maps = _maps(record, sample)
    shown = _chosen(maps, record.layer, channels, order, limit)
    ranges = choose_scale(maps, scale).of(shown)
    drawn = maps[shown]
    if drawn.ndim == 2:
        drawn = drawn[:, None].repeat(_STRIP_HEIGHT, axis=1)
    marks = Marks.of(maps[shown])
    grid = Grid.of(len(shown), drawn.shape[1], drawn.shape[2], columns)
    codes = quantise(drawn, ranges)
    _hatch(codes, marks.dead)
    return Mosaic(
        pixels=lay_out(codes, _labels(shown, marks, grid), grid),
        title=f"{record.layer or record.module_type}, {record.at.replace('_', ' ')}, sample {sample}",
        caption=" ".join([_count_words(shown, maps, order, channels), ranges.words(), *_mark_words(marks)]),
        colour_bar=_colour_bar(ranges),
        metadata=_metadata(record, sample, shown, ranges, maps),
        colours=palette(ranges.signed),
    )


def _maps(record: Activation, sample: int) -> Values:
    """The maps (C, *spatial) of one sample, as floating point numbers."""
    tensor = record.tensor
    spatial = len(record.conv.kernel_size) if record.conv else max(tensor.ndim - 2, 0)
    if tensor.ndim == spatial + 1:  # a layer that was given one image without a batch
        tensor = tensor[None]
    if spatial not in (1, 2) or tensor.ndim != spatial + 2:
        raise ArgumentError(
            f"Layer {record.layer!r} handed on {record.shape}, which is not maps of (N, C, H, W) or (N, C, L): "
            "draw another layer, or bring it into that shape."
        )
    if tensor.is_complex():
        raise ArgumentError(f"Layer {record.layer!r} handed on complex values: draw .abs() or .angle() of them.")
    if not -len(tensor) <= sample < len(tensor):
        raise ArgumentError(f"There is no sample {sample}: layer {record.layer!r} holds {len(tensor)} samples.")
    if 0 in tensor.shape[1:]:
        raise ArgumentError(f"Layer {record.layer!r} handed on {record.shape}, which has nothing to draw.")
    values = tensor[sample].detach().cpu()
    return (values if values.dtype.itemsize == 8 and values.is_floating_point() else values.float()).numpy()


def _chosen(
    maps: Values, layer: str, channels: Sequence[int] | None, order: Order, limit: int | None
) -> npt.NDArray[np.int64]:
    """The channels to draw, in their order."""
    if order not in get_args(Order):
        raise ArgumentError(f"order must be 'index', 'max' or 'mean', not {order!r}.")
    if limit is not None and limit < 1:
        raise ArgumentError(f"limit must be at least 1, not {limit}.")
    chosen = np.arange(len(maps)) if channels is None else np.asarray(channels)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise ArgumentError(f"channels must be a non-empty sequence of channel numbers, not {channels!r}.")
    wrong = chosen[(chosen < 0) | (chosen >= len(maps))]
    if len(wrong):
        raise ArgumentError(
            f"Layer {layer!r} has channels 0 to {len(maps) - 1}: there is no {', '.join(map(str, wrong))}."
        )
    if order != "index":
        flat = maps[chosen].reshape(len(chosen), -1)
        known = np.where(np.isfinite(flat), flat, -np.inf if order == "max" else 0)
        strength = known.max(axis=1) if order == "max" else known.mean(axis=1)
        chosen = chosen[np.argsort(-strength, kind="stable")]
    return chosen[:limit].astype(np.int64)


def _hatch(codes: Codes, dead: npt.NDArray[np.bool_]) -> None:
    """Lines across dead maps, so that they cannot be taken for dark ones."""
    height, width = codes.shape[1:]
    period = max(2, min(height, width) // 3)
    stripes = np.add.outer(np.arange(height), np.arange(width)) % period == 0
    codes[dead] = np.where(stripes, np.uint8(HATCH), codes[dead])


def _labels(shown: npt.NDArray[np.int64], marks: Marks, grid: Grid) -> list[str]:
    """The channel number, with the mark in words where there is room, else in one letter."""
    labels = []
    for index, channel in enumerate(shown):
        words = [
            word
            for word, mark in (
                ("dead", marks.dead),
                ("constant", marks.constant),
                ("not finite", marks.nonfinite),
            )
            if mark[index]
        ]
        long, short = ("  ".join([str(channel), *(word[:cut] for word in words)]) for cut in (None, 1))
        labels.append(long if room_for(long, grid) else short)
    return labels


def _count_words(shown: npt.NDArray[np.int64], maps: Values, order: Order, channels: Sequence[int] | None) -> str:
    chosen = ", as chosen" if channels is not None and order == "index" else ""
    return f"{len(shown)} of {len(maps)} channels shown{chosen}{_ORDER_WORDS[order]}."


def _mark_words(marks: Marks) -> list[str]:
    counts = {
        "dead (zero everywhere, hatched)": marks.dead,
        "constant": marks.constant,
        "with values that are not finite (magenta)": marks.nonfinite,
    }
    told = [f"{int(mark.sum())} {words}" for words, mark in counts.items() if mark.any()]
    return [f"Marked: {', '.join(told)}."] if told else []


def _colour_bar(scale: Scale) -> ColourBar | None:
    return ColourBar(scale.signed, float(scale.low[0]), float(scale.high[0])) if scale.shared else None


def _metadata(
    record: Activation, sample: int, shown: npt.NDArray[np.int64], scale: Scale, maps: Values
) -> dict[str, str]:
    """What a lone file needs to explain itself."""
    finite = maps[np.isfinite(maps)]
    values = f"{finite.min():.6g} to {finite.max():.6g}" if finite.size else "none finite"
    return {
        "Software": "spatialprobe",
        "Layer": f"{record.layer} ({record.module_type}), {record.at}",
        "Sample": str(sample),
        "Channels": " ".join(map(str, shown)),
        "Scale": scale.words(),
        "Value range": values,
    }
