"""The feature maps of a layer, or of each layer of a probe, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.activations.collection import Activations
from spatialprobe.activations.records import Activation, with_layout
from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.render.beside import field_of, put_beside
from spatialprobe.render.gallery import MOST_CHANNELS, Gallery, Key
from spatialprobe.render.images import Normalization
from spatialprobe.render.maps import Order, chosen_channels, count_words, flat_tiles, maps_of, no_maps, slice_words
from spatialprobe.render.marks import Marks
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import palette
from spatialprobe.render.scale import Extremes, Scale, ScaleChoice, Values, choose_scale, quantize
from spatialprobe.render.sheet import Grid, lay_out
from spatialprobe.text import kind_of

if TYPE_CHECKING:
    from spatialprobe.fields.result import ReceptiveField


@overload
def feature_maps(
    record: Activation | torch.Tensor | npt.NDArray[Any],
    *,
    sample: int = 0,
    channels: Sequence[int] | None = None,
    order: Order = "index",
    limit: int | None = None,
    scale: ScaleChoice = "robust",
    image: object = None,
    field: ReceptiveField | Mapping[Any, ReceptiveField] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    columns: int | None = None,
    layout: LayoutChoice = "auto",
) -> Mosaic: ...


@overload
def feature_maps(
    record: Mapping[str, Activation],
    *,
    sample: int = 0,
    channels: Sequence[int] | None = None,
    order: Order = "index",
    limit: int | None = None,
    scale: ScaleChoice = "robust",
    image: object = None,
    field: ReceptiveField | Mapping[Any, ReceptiveField] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    columns: int | None = None,
    layout: LayoutChoice = "auto",
) -> Gallery: ...


def feature_maps(
    record: Activation | torch.Tensor | npt.NDArray[Any] | Mapping[str, Activation],
    *,
    sample: int = 0,
    channels: Sequence[int] | None = None,
    order: Order = "index",
    limit: int | None = None,
    scale: ScaleChoice = "robust",
    image: object = None,
    field: ReceptiveField | Mapping[Any, ReceptiveField] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    columns: int | None = None,
    layout: LayoutChoice = "auto",
) -> Mosaic | Gallery:
    """Every channel's map for one sample, on one sheet a layer, each under its channel number.

    Signed values get colors that diverge around zero, others go from dark (zero) to light. Maps that are zero
    everywhere ("dead"), constant, or hold values that are not finite are marked as such. Maps of one axis are drawn
    as lines, those of three as slices.

    Args:
        record: of a layer with outputs (N, C, H, W), (N, C, L), (N, C, D, H, W), or without the batch; or a probe,
            or any mapping of names to records, for a `Gallery` with a mosaic for each of its records; or a tensor or
            array (N, C, H, W), (N, C, L) or (N, C, D, H, W) from anywhere.
        sample: which image of the batch.
        channels: which channels, and in which order; all if left out.
        order: "index"; "max" or "mean", by which the channels are sorted, the largest first.
        limit: how many to show at most; what is left out is counted in the caption. By default all channels of a
            record, and 64 of each layer in a gallery.
        scale: "robust", one range for all channels of the sample, hidden ones too, up to the 99.5th percentile of the
            magnitudes, so that a few bright units do not darken all others: what lies beyond has the color of the end,
            which is marked, and its share is stated; "layer", the same up to the largest; "map", one range for each
            channel; or a range (low, high).
        image: the input of this sample, (3, H, W) or (1, H, W), a PIL image or an array (H, W, 3), to be shown at the
            left of the maps.
        field: the layer's `ReceptiveField` over two axes, or the fields of several layers: what the unit with the
            largest value sees is shown on the image.
        mean: what the image was normalized by, one number or one for each channel, so that it looks as it did before.
        std: the same.
        columns: the number of columns; chosen to fit if left out.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid, drawn without its leading tokens; or "auto",
            the record's own `layout`.

    Raises:
        ArgumentError: the record, or each of several, holds no maps; or an argument does not fit them.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    >>> with sp.Probe(model) as probe:
    ...     output = model(torch.rand(1, 3, 32, 32))
    >>> mosaic = sp.feature_maps(probe["0"], limit=4, order="max")
    >>> mosaic.array.shape[2], mosaic.caption.split(".")[0]
    (3, '4 of 6 channels shown, largest maximum first')
    >>> list(sp.feature_maps(probe))
    ['0', '2']
    """

    def drawn(one: Activation, most: int | None = limit) -> Mosaic:
        mosaic, maps, chosen = _mosaic(one, sample, channels, order, most, scale, columns)
        if image is None:
            return mosaic
        return put_beside(mosaic, image, normalization, maps, chosen, field_of(one.layer, one.call, field))

    normalization = Normalization.of(mean, std)
    if image is None and (field is not None or normalization is not None):
        raise ArgumentError("field=, mean= and std= are about image=: pass the input that the maps are of, too.")

    if isinstance(record, (torch.Tensor, np.ndarray)):
        record = _record_of(record)
    if isinstance(record, Activation):
        return drawn(with_layout(record, layout))
    if not isinstance(record, Mapping):
        raise ArgumentError(
            "feature_maps() draws a record, a tensor, or a probe or another mapping of records, not "
            f"{kind_of(record)}: "
            "with sp.Probe(model) as probe: model(images), then sp.feature_maps(probe['conv1'])."
        )
    records = _by_key(record)
    others = [one for one in records.values() if not isinstance(one, Activation)]
    if others:
        raise ArgumentError(
            f"feature_maps() draws a mapping of records, and was given one with {short_repr(others[0])} in it."
        )
    records = {key: with_layout(one, layout) for key, one in records.items()}
    reasons = {key: no_maps(one) for key, one in records.items()}
    if all(reasons.values()):
        raise ArgumentError(" ".join(filter(None, reasons.values())) or "There are no records to draw.")
    most = MOST_CHANNELS if limit is None and channels is None else limit
    return Gallery(
        {key: drawn(one, most) for key, one in records.items() if not reasons[key]},
        left_out={key: reason for key, reason in reasons.items() if reason},
    )


def _record_of(maps: torch.Tensor | npt.NDArray[Any]) -> Activation:
    """Return maps that no layer has output as a record."""
    if isinstance(maps, np.ndarray):
        if maps.dtype.kind not in "buifc":
            raise ArgumentError(f"feature_maps() draws an array of numbers, not of {maps.dtype}.")
        maps = torch.from_numpy(np.ascontiguousarray(maps))
    return Activation("", (), 0, 0, 0, "output", "Tensor", None, maps, None, layout="channels_first")


def _by_key(records: Mapping[str, Activation]) -> dict[Key, Activation]:
    """The records of a mapping; those of a layer that ran several times under (layer, i), as a probe finds them."""
    if not isinstance(records, Activations):
        return {key: one for key, one in records.items()}  # noqa: C416 (a dict of wider keys)
    calls = {layer: records.calls(layer) for layer in records}
    return {
        (layer, index) if len(runs) > 1 else layer: run
        for layer, runs in calls.items()
        for index, run in enumerate(runs)
    }


def _mosaic(
    record: Activation,
    sample: int,
    channels: Sequence[int] | None,
    order: Order,
    limit: int | None,
    choice: ScaleChoice,
    columns: int | None,
) -> tuple[Mosaic, Values, npt.NDArray[np.int64]]:
    """The picture of one record, its maps and the channels drawn."""
    maps = maps_of(record, sample)
    extremes = Extremes.of(maps)
    shown = chosen_channels(extremes, [maps], record.layer, channels, order, limit)
    ranges = choose_scale(maps, choice, extremes).of(shown)
    marks = Marks.of(extremes.of_maps(shown))
    whole = np.array_equal(shown, np.arange(len(maps)))  # then a copy can be spared
    tiles = flat_tiles(quantize(maps if whole else maps[shown], ranges), signed=ranges.signed)
    grid = Grid.of(len(tiles), tiles.shape[1], tiles.shape[2], columns)
    words = [count_words(len(shown), len(maps), order, channels), ranges.words(), *slice_words(maps), *marks.words()]
    sheet = lay_out(tiles, marks.labels(shown.tolist(), grid), grid, marks.dead)
    mosaic = Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=f"{record.layer or record.module_type}, {record.at.replace('_', ' ')}, sample {sample}",
        caption=" ".join(words),
        color_bar=ColorBar.of(ranges),
        metadata=_metadata(record, sample, shown, ranges, extremes),
        colors=palette(ranges.signed),
    )
    return mosaic, maps, shown


def _metadata(
    record: Activation, sample: int, shown: npt.NDArray[np.int64], scale: Scale, extremes: Extremes
) -> dict[str, str]:
    """Return the metadata of a file that is seen on its own."""
    return {
        "Software": "spatialprobe",
        "Layer": f"{record.layer} ({record.module_type}), {record.at}",
        "Sample": str(sample),
        "Channels": " ".join(map(str, shown.tolist())),
        "Scale": scale.words(),
        "Value range": extremes.words(),
    }
