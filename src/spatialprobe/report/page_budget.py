"""Leave out parts of a page that would be too large: patches, resolution, images, channels, kernels, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spatialprobe.errors import ArgumentError
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.html import Page, stills_of
from spatialprobe.report.page_exemplars import with_exemplars
from spatialprobe.report.payload import PackedLayer

_STEP = 2  # one of so many rows and columns of units is kept of a map that is too large
_LARGE = 28  # units along both sides of a map that may be thinned out
_FULL = 0.96  # of the bytes: closer need no channel be tried
_AIM = 0.98
_TRIALS = 8


def fitted(page: Page, images: ExemplarImages | None, max_bytes: int) -> tuple[Page, bytes]:
    """Return the page, reduced as little as it takes, and its file of at most so many bytes.

    Maps come first; what they leave is for the exemplars.

    Raises:
        ArgumentError: even the smallest page is larger, or the data set is not that of the sweep.
    """
    page = _with_maps(page, max_bytes - (0 if images is None else _words_about_exemplars(page)))
    if images is not None:
        page = _with_pictures(page, images, max_bytes)
    written = page.html().encode()
    if len(written) > max_bytes:
        raise ArgumentError(
            f"max_bytes={max_bytes} is too little: with one image, one channel of each layer, no kernels and no "
            f"exemplar patches the page takes {len(written)} bytes. Raise it, or choose fewer layers."
        )
    return page, written


def _words_about_exemplars(page: Page) -> int:
    """Return the bytes that it may take to say which layers have no patches."""
    return 200 + sum(60 + 6 * len(packed.layer.name) for packed in page.layers)


def _with_pictures(page: Page, images: ExemplarImages, max_bytes: int) -> Page:
    """Return the page with as much of the exemplars' pictures as fits; what it says about them takes room, too."""
    room = max_bytes - _size(page)
    for _ in range(_TRIALS):
        found = with_exemplars(page, images, max(room, 0))
        excess = _size(found) - max_bytes
        if excess <= 0 or room <= 0:
            return found
        room -= excess
    return found


def _with_maps(page: Page, max_bytes: int) -> Page:
    """Return the page with as much of its maps as fits, exemplars apart."""
    if _size(page) <= max_bytes:
        return page
    coarse = _thinned(page, range(len(page.layers)))
    if _size(coarse) <= max_bytes:
        return _as_fine_as_fits(page, coarse, max_bytes)
    count = _images_that_fit(coarse, max_bytes)
    page, coarse = _with_images(page, count), _with_images(coarse, count)
    if _size(coarse) <= max_bytes:
        return _as_fine_as_fits(page, coarse, max_bytes)
    for smaller in (coarse, replace(coarse, layers=tuple(packed.without_kernels() for packed in coarse.layers))):
        found = _with_fewer_channels(smaller, max_bytes)
        if _size(found) <= max_bytes:
            return found
    return _with_cap(smaller, 0)


def _size(page: Page) -> int:
    """Return the bytes of the page's file."""
    bare = replace(page, layers=tuple(packed.without_maps() for packed in page.layers))
    return len(bare.html().encode()) + sum(packed.map_bytes for packed in page.layers)


def _thinned(page: Page, chosen: Sequence[int]) -> Page:
    """Return the page with every second row and column of the large maps of the chosen layers."""
    layers = list(page.layers)
    for index in chosen:
        layer = layers[index].layer
        if min(layer.maps[0].codes.shape[1:]) >= _LARGE:
            layers[index] = layers[index].with_maps(layer.thinned(_STEP))
    return replace(page, layers=tuple(layers))


def _as_fine_as_fits(fine: Page, coarse: Page, max_bytes: int) -> Page:
    """Return the coarse page with as many of its layers in full resolution as fit, the smallest first."""
    room = max_bytes - _size(coarse)
    layers = list(coarse.layers)
    costs = [one.map_bytes - other.map_bytes for one, other in zip(fine.layers, coarse.layers, strict=True)]
    for index in sorted(range(len(layers)), key=costs.__getitem__):
        if costs[index] <= room:
            room -= costs[index]
            layers[index] = fine.layers[index]
    return replace(coarse, layers=tuple(layers))


def _images_that_fit(page: Page, max_bytes: int) -> int:
    """Return how many images fit, from the first on, at least one."""
    excess = _size(page) - max_bytes
    count = len(page.inputs.images)
    while count > 1 and excess > 0:
        count -= 1
        excess -= len(page.inputs.images[count].picture)
        excess -= sum(len(text) for packed in page.layers for text in packed.maps[count].values())
    return count


def _with_images(page: Page, count: int) -> Page:
    """Return the page with the first images only."""
    layers = tuple(packed.with_images(count) for packed in page.layers)
    inputs = replace(page.inputs, images=page.inputs.images[:count])
    return replace(page, inputs=inputs, layers=layers, stills=stills_of(layers, inputs))


def _with_fewer_channels(page: Page, max_bytes: int) -> Page:
    """Return the page with as many channels as fit: layers above a cap keep their strongest.

    The bytes grow about evenly with the cap, which is interpolated between one that is too small and one too large.
    """
    low, high = 0.0, float(max(packed.map_bytes for packed in page.layers))
    best = _with_cap(page, low)
    least, most = _size(best), _size(page)
    for _ in range(_TRIALS):
        if not least < _FULL * max_bytes < most:
            break
        cap = low + (high - low) * (_AIM * max_bytes - least) / (most - least)
        found = _with_cap(page, cap)
        size = _size(found)
        if size > max_bytes:
            high, most = cap, size
        else:
            low, least, best = cap, size, found
    return best


def _with_cap(page: Page, cap: float) -> Page:
    """Return the page with about so many bytes for the maps of each layer, of one channel at least."""
    layers = tuple(_capped(packed, cap) for packed in page.layers)
    return replace(page, layers=layers, stills=stills_of(layers, page.inputs))


def _capped(packed: PackedLayer, cap: float) -> PackedLayer:
    """Return the layer with about as many channels as the cap holds, at least one."""
    if packed.map_bytes <= cap:
        return packed
    count = max(1, int(len(packed.layer.channels) * max(cap, 0) / packed.map_bytes))
    return PackedLayer.of(packed.layer.of_strongest(count))
