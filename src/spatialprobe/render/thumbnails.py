"""A strip of small maps for each layer, for the table of a probe in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from spatialprobe.activations.records import Activation
from spatialprobe.errors import SpatialProbeError
from spatialprobe.html_table import Html
from spatialprobe.render.maps import maps_of, no_maps
from spatialprobe.render.palette import PAPER, palette
from spatialprobe.render.png import png
from spatialprobe.render.scale import Values, choose_scale, quantize
from spatialprobe.text import as_html, format_count

_SIDE = 28  # pixels of a thumbnail's longer side, at most: maps of 224, 112, ... 7 units come out whole
_GAP = 2  # pixels between thumbnails
_MOST = 8  # thumbnails of a layer
_ALL = 440  # thumbnails of all layers, so that a deep model's table stays under half a megabyte
_LOOK = 24  # units along an axis by which channels are compared

THUMBNAILS_REMARK = (
    "Maps of sample 0: the channels of each layer that vary most, on one robust scale a layer. sp.feature_maps(...) "
    "draws all channels, with their numbers and a color bar."
)


def draw_thumbnails(records: Sequence[Activation]) -> list[Html]:
    """Return a strip of thumbnails for each record, empty for one without maps of two axes, and beyond 440 records."""
    most = min(_MOST, max(1, _ALL // max(1, len(records))))
    return [Html(_draw_strip(record, most)) if index < _ALL else Html("") for index, record in enumerate(records)]


def draw_signed_map(values: Values, reach: float, words: str) -> Html:
    """Return a signed map (h, w) as a thumbnail in colors from -reach to reach; empty for one of other axes."""
    if values.ndim != 2:
        return Html("")
    tile = _resize(np.ascontiguousarray(values[None]))
    codes = quantize(tile, choose_scale(tile, (-(reach or 1.0), reach or 1.0)))[0]
    return Html(_encode_strip(codes, palette(True), codes.shape[1], words))


def _draw_strip(record: Activation, most: int) -> str:
    """The most varied channels of a record as one image."""
    try:
        maps = _take_maps(record)
    except SpatialProbeError:  # such as values that were modified in place: the record itself says so when it is read
        return ""
    if maps is None:
        return ""
    chosen = _choose_channels(maps, most)
    tiles = _resize(maps[chosen])
    scale = choose_scale(tiles, "robust")
    height, width = tiles.shape[1:]
    sheet = np.full((height, len(tiles) * (width + _GAP) - _GAP), PAPER, np.uint8)
    for index, codes in enumerate(quantize(tiles, scale.of(np.zeros(len(tiles), np.int64)))):
        sheet[:, index * (width + _GAP) : index * (width + _GAP) + width] = codes
    return _encode_strip(sheet, palette(scale.signed), width, _describe_strip(chosen, len(maps)))


def _take_maps(record: Activation) -> Values | None:
    """The maps (C, h, w) of a record's first sample, None where it has none of two axes."""
    if no_maps(record) or len(record.shape) not in (3, 4):
        return None
    tensor = record.tensor
    if len(record.shape) == 4 and tensor.layout is torch.strided and not tensor.is_quantized:
        record = replace(record, tensor=tensor[:1])  # the other samples stay where they are
    maps = maps_of(record, 0)
    return maps if maps.ndim == 3 else None


def _choose_channels(maps: Values, most: int) -> npt.NDArray[np.int64]:
    """The channels whose values spread most, in their order; those that are not finite come first."""
    rows, columns = (-(-size // _LOOK) for size in maps.shape[1:])
    some = maps[:, rows // 2 :: rows, columns // 2 :: columns]
    with np.errstate(invalid="ignore", over="ignore"):
        spread = some.reshape(len(maps), -1).std(axis=1, dtype=np.float64)
        spread[~np.isfinite(maps.reshape(len(maps), -1).sum(axis=1))] = np.inf
    order = np.argsort(-spread, kind="stable")
    return np.sort(order[:most])


def _resize(maps: Values) -> Values:
    """Maps whose longer side is near that of a thumbnail: means of large ones, small ones enlarged."""
    longer = max(maps.shape[1:])
    if longer <= _SIDE:
        return maps.repeat(_SIDE // longer, axis=1).repeat(_SIDE // longer, axis=2)
    height, width = (max(1, round(side * _SIDE / longer)) for side in maps.shape[1:])
    made: Values = F.adaptive_avg_pool2d(torch.from_numpy(maps), (height, width)).numpy()
    return made


def _encode_strip(sheet: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8], width: int, words: str) -> str:
    """The strip as an image, whose gaps are cut out, so that they are as dark as the page."""
    data = base64.b64encode(png(sheet, colors, {})).decode()
    mask = f"repeating-linear-gradient(90deg,#000 0 {width}px,transparent 0 {width + _GAP}px)"
    return (
        f'<img src="data:image/png;base64,{data}" alt="{as_html(words)}" title="{as_html(words)}" '
        f'width="{sheet.shape[1]}" height="{sheet.shape[0]}" '
        f'style="display:block;margin:0;max-width:none;-webkit-mask:{mask};mask:{mask}">'
    )


def _describe_strip(chosen: npt.NDArray[np.int64], count: int) -> str:
    return f"{len(chosen)} of {format_count(count, 'channel')}: {', '.join(map(str, chosen.tolist()))}"
