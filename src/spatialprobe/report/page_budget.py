"""What goes when a page would be too large: exemplars, images, channels, patches, kernels, in this order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spatialprobe.errors import ArgumentError
from spatialprobe.report.html import Page, stills_of
from spatialprobe.report.payload import PackedLayer

_FEWER_EXEMPLARS = 4


def fitted(page: Page, max_bytes: int) -> tuple[Page, bytes]:
    """The page, reduced as little as it takes, and its file of at most so many bytes.

    Raises:
        ArgumentError: even the smallest page is larger.
    """
    written = page.html().encode()
    smaller = _ever_smaller(page, max_bytes, len(written))
    while len(written) > max_bytes:
        following = next(smaller, None)
        if following is None:
            raise ArgumentError(
                f"max_bytes={max_bytes} is too little: with one image, one channel of each layer, no kernels and no "
                f"exemplar patches the page takes {len(written)} bytes. Raise it, or choose fewer layers."
            )
        page, written = following, following.html().encode()
    return page, written


def _ever_smaller(page: Page, max_bytes: int, size: int) -> Iterator[Page]:
    """Pages that hold less and less, each without all that was given up before; the first takes `size` bytes."""
    if any(
        packed.layer.swept and packed.layer.swept.patches and packed.layer.swept.swept_for > _FEWER_EXEMPLARS
        for packed in page.layers
    ):
        page = _with_exemplars(page, _FEWER_EXEMPLARS)
        yield page
    while len(page.inputs.images) > 1:
        page = _with_images(page, _images_that_fit(page, max_bytes))
        yield page
    whole = page
    room = _room_for_maps(whole, max_bytes)
    for share in (0.98, 0.94, 0.88, 0.75, 0.5, 0.25):
        yield (page := _with_room(whole, room * share))
    room = _room_for_maps(_with_exemplars(page, 0), max_bytes)
    yield (page := _with_room(_with_exemplars(whole, 0), room * 0.9))
    yield (page := replace(page, layers=tuple(packed.without_kernels() for packed in page.layers)))
    yield _with_room(page, 0)


def _room_for_maps(page: Page, max_bytes: int) -> int:
    """The bytes that all else of the page leaves for its maps."""
    return max_bytes - len(page.html().encode()) + sum(packed.map_bytes for packed in page.layers)


def _with_exemplars(page: Page, columns: int) -> Page:
    """With so many exemplars of each channel at most, without their patches for none."""
    return replace(page, layers=tuple(packed.with_exemplars(columns) for packed in page.layers))


def _images_that_fit(page: Page, max_bytes: int) -> int:
    """How many images, from the first on, will about fit: at least one, and fewer than now."""
    excess = len(page.html().encode()) - max_bytes
    count = len(page.inputs.images)
    while count > 1 and (excess > 0 or count == len(page.inputs.images)):
        count -= 1
        excess -= len(page.inputs.images[count].picture)
        excess -= sum(len(text) for packed in page.layers for text in packed.maps[count].values())
    return count


def _with_images(page: Page, count: int) -> Page:
    """With the first images only."""
    layers = tuple(packed.with_images(count) for packed in page.layers)
    inputs = replace(page.inputs, images=page.inputs.images[:count])
    return replace(page, inputs=inputs, layers=layers, stills=stills_of(layers, inputs))


def _with_room(page: Page, room: float) -> Page:
    """With so many bytes for all maps: layers that take more than their even share keep their strongest channels."""
    cap = _even_share([packed.map_bytes for packed in page.layers], room)
    layers = tuple(_capped(packed, cap) for packed in page.layers)
    return replace(page, layers=layers, stills=stills_of(layers, page.inputs))


def _even_share(sizes: list[int], room: float) -> float:
    """The cap that all sizes together stay within the room with."""
    left = room
    for rank, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - rank)
        if size > share:
            return share
        left -= size
    return float(max(sizes))


def _capped(packed: PackedLayer, cap: float) -> PackedLayer:
    """The layer with about as many channels as the cap holds, at least one."""
    if packed.map_bytes <= cap:
        return packed
    count = max(1, int(len(packed.layer.channels) * max(cap, 0) / packed.map_bytes))
    return PackedLayer.of(packed.layer.of_strongest(count))
