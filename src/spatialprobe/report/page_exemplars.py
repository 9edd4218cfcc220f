"""The exemplars' pictures as far as a page has room for them: sheets of small patches, then whole images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from spatialprobe.report.exemplar_images import ExemplarImages, by_rank, stored_images
from spatialprobe.report.html import Page
from spatialprobe.report.line_sheets import lines_of
from spatialprobe.report.patch_sheets import LARGEST, Patches, largest_side, patches_of
from spatialprobe.report.payload import PackedLayer
from spatialprobe.report.shares import even_share

Places = npt.NDArray[np.int64]

_FULL = 0.98  # of the room: beside pictures stand a few words
_ESTIMATED = 0.9  # of a cap that is shared by several ranks, whose sizes differ
_FOR_SHEETS = 0.5  # of the room, where the patches of some layers are cut from whole images


@dataclass(frozen=True, eq=False)
class Sheets:
    """Sheets of patches, each encoded once."""

    images: ExemplarImages
    _made: dict[tuple[str, int], Patches] = field(default_factory=dict)

    def of(self, packed: PackedLayer, places: Places, ranks: int) -> Patches:
        """Return the sheet of the first ranks of a layer's exemplars."""
        layer = packed.layer
        key = layer.name, ranks
        if key not in self._made:
            draw = lines_of if self.images.axes == 1 else patches_of
            self._made[key] = draw(places[:, :ranks], layer.boxes, self.images)
        return self._made[key]


def with_exemplars(page: Page, room: int, sheets: Sheets) -> Page:
    """Return the page with as much of its exemplars' pictures as fits into so many bytes.

    Of each layer the sheet of one rank is encoded, and that of as many as should fit by its size, or of fewer if not.

    Raises:
        ArgumentError: the data set holds something else than images of the model's size.
    """
    layers = list(page.layers)
    places = {index: found for index, packed in enumerate(layers) if (found := _places(packed)) is not None}
    planar = sheets.images.axes == 2
    small = [index for index, found in places.items() if not planar or _side(layers[index], found) <= LARGEST]
    share = _FULL if len(small) == len(places) else _FOR_SHEETS
    firsts = {index: sheets.of(layers[index], places[index], 1) for index in small}
    wanted = [len(firsts[index].sheet) * places[index].shape[1] for index in small]
    cap = even_share(wanted, room * share) if small else 0.0
    for index, first in firsts.items():
        layers[index] = _with_sheet(layers[index], places[index], first, cap, sheets)
        room -= layers[index].sheet_bytes
    if not planar:  # of signals and volumes the page holds no wholes
        return replace(page, layers=tuple(layers))
    stored = stored_images(list(by_rank(places.values())), sheets.images, room * _FULL)
    return replace(page, layers=tuple(layers), images=stored)


def _places(packed: PackedLayer) -> Places | None:
    swept = packed.layer.swept
    if swept is None or swept.places is None or not swept.has_boxes:
        return None
    return swept.places


def _side(packed: PackedLayer, places: Places) -> int:
    return largest_side(places, packed.layer.boxes)


def _with_sheet(packed: PackedLayer, places: Places, first: Patches, cap: float, sheets: Sheets) -> PackedLayer:
    """Return the layer with the sheet of as many ranks as the cap should hold; `first` is that of one rank."""
    most = places.shape[1]
    ranks = min(most, int(cap / len(first.sheet)))
    if 1 < ranks < most:
        ranks = max(1, min(ranks, int(_ESTIMATED * cap / len(first.sheet))))
    while ranks > 1:
        patches = sheets.of(packed, places, ranks)
        if len(patches.sheet) <= cap:
            return packed.with_patches(patches, ranks)
        ranks = max(1, min(ranks - 1, int(_ESTIMATED * cap * ranks / len(patches.sheet))))
    return packed.with_patches(first if ranks else None, min(ranks, 1))
