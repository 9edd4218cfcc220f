"""The exemplars' pictures as far as a page has room for them: sheets of small patches, then whole images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spatialprobe.report.exemplar_images import ExemplarImages, by_rank, stored_images
from spatialprobe.report.html import Page
from spatialprobe.report.patch_sheets import LARGEST, Patches, largest_side, patches_of
from spatialprobe.report.payload import PackedLayer
from spatialprobe.report.shares import even_share

Places = npt.NDArray[np.int64]

_FULL = 0.98  # of the room: beside pictures stand a few words
_FOR_SHEETS = 0.5  # of the room, where the patches of some layers are cut from whole images


def with_exemplars(page: Page, images: ExemplarImages, room: int) -> Page:
    """Return the page with as much of its exemplars' pictures as fits into so many bytes.

    Raises:
        ArgumentError: the data set holds something else than images of the model's size.
    """
    layers = list(page.layers)
    places = {index: found for index, packed in enumerate(layers) if (found := _places(packed)) is not None}
    small = [index for index, found in places.items() if _side(layers[index], found) <= LARGEST]
    share = _FULL if len(small) == len(places) else _FOR_SHEETS
    firsts = {index: _sheet(layers[index], places[index], 1, images) for index in small}
    wanted = [len(firsts[index].sheet) * places[index].shape[1] for index in small]
    cap = even_share(wanted, room * share) if small else 0.0
    for index, first in firsts.items():
        layers[index] = _with_sheet(layers[index], places[index], first, cap, images)
        room -= layers[index].sheet_bytes
    stored = stored_images(list(by_rank(places.values())), images, room * _FULL)
    return replace(page, layers=tuple(layers), images=stored)


def _places(packed: PackedLayer) -> Places | None:
    return packed.layer.swept.places if packed.layer.swept else None


def _side(packed: PackedLayer, places: Places) -> int:
    layer = packed.layer
    return largest_side(places, layer.boxes, layer.field.output_size[0])


def _sheet(packed: PackedLayer, places: Places, ranks: int, images: ExemplarImages) -> Patches:
    layer = packed.layer
    return patches_of(places[:, :ranks], layer.boxes, layer.field.output_size[0], images)


def _with_sheet(packed: PackedLayer, places: Places, first: Patches, cap: float, images: ExemplarImages) -> PackedLayer:
    """Return the layer with the sheet of as many ranks as the cap holds; `first` is that of one rank."""
    ranks = min(places.shape[1], int(cap / len(first.sheet)))
    while ranks > 1:
        patches = _sheet(packed, places, ranks, images)
        if len(patches.sheet) <= cap:
            return packed.with_patches(patches, ranks)
        ranks -= 1
    return packed.with_patches(first if ranks else None, ranks)
