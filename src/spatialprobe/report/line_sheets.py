"""The patches of signals that the strongest units of each channel saw, as lines on one sheet."""

from __future__ import annotations

import numpy as np

from spatialprobe.render.palette import HATCH, PAPER, palette
from spatialprobe.render.patch import cut_patch
from spatialprobe.render.signals import line_tiles
from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.patch_sheets import Patches, Places, by_sample, lay_out, sights_of

_LONGEST = 96  # values of a patch: of a longer one only every n-th is drawn
_PERIOD = 5  # pixels between the lines over padding


def lines_of(places: Places, boxes: LayerBoxes, signals: ExemplarImages) -> Patches:
    """Return the sheet of the patches at places (C, k, 3), each as large as its cell, padding hatched.

    Raises:
        ArgumentError: the data set holds something else than signals of the model's length.
    """
    sights = sights_of(places, boxes)
    length = max((sight.box.shape[1] for sight in sights.values()), default=1)
    every = -(-length // _LONGEST)
    channels = len(signals.signal(int(places[next(iter(sights))][0])).T) if sights else 1
    values = np.zeros((*places.shape[:2], -(-length // every), channels), np.float32)
    known, padding = np.zeros(values.shape[:3], np.bool_), np.zeros(values.shape[:3], np.bool_)
    for sample, found in by_sample(places, sights):
        signal = signals.signal(sample)[None]
        for place in found:
            patch, inside = cut_patch(signal, sights[place].box, every=every)
            part = slice(patch.shape[1])
            values[place][part], known[place][part], padding[place][part] = patch[0], inside[0], ~inside[0]
    tiles, wide = line_tiles(values.reshape(-1, *values.shape[2:]), known.reshape(-1, known.shape[2]))
    lines = np.add.outer(np.arange(tiles.shape[1]), np.arange(tiles.shape[2])) % _PERIOD == 0
    cut, seen = (mask.reshape(-1, 1, mask.shape[2]).repeat(wide, axis=2) for mask in (padding, known))
    codes = np.where(cut & lines, HATCH, np.where(seen, tiles, PAPER)).astype(np.uint8)
    uri, columns = lay_out(codes.reshape(*places.shape[:2], *codes.shape[1:]), palette(True))
    return Patches(uri, codes.shape[2], codes.shape[1], columns, axes=1)
