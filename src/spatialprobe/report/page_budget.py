"""Leave out parts of a page that would be too large, in this order.

Patches, synthesized images, resolution, images, channels, kernels.

What is encoded follows from sizes that are measured at one piece of each layer, so that little is encoded in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heapify, heapreplace

from spatialprobe.errors import ArgumentError
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.html import Page, stills_of
from spatialprobe.report.layers import PageLayer
from spatialprobe.report.map_pieces import MapPieces
from spatialprobe.report.page_exemplars import Sheets, with_exemplars
from spatialprobe.report.page_synthesis import SynthesisSheets
from spatialprobe.report.payload import PackedParts

_STEP = 2  # one of so many rows and columns of units is kept of a map that is too large
_LARGE = 28  # units along both sides of a map that may be thinned out
_PIECES = 60  # about as many pieces of maps fill the page, at least
_MOST_UNITS = 2**18  # of a piece
_HOPEFUL = 1.1  # of the bytes: estimates above are not tried
_FULL = 0.97  # of the bytes: closer need no more channels be tried
_TRIALS = 8


@dataclass(frozen=True)
class _Plan:
    """The maps that a page holds: the first pieces of each layer, for the first images."""

    steps: tuple[tuple[int, ...], ...]  # for each layer and piece: one of so many rows and columns
    images: int
    kernels: bool = True


@dataclass(frozen=True, eq=False)
class _Draft:
    """A page to be, whose layers are packed as a plan says."""

    page: Page  # all but the layers
    layers: Sequence[PageLayer]
    pieces: Sequence[MapPieces]
    max_bytes: int
    _parts: PackedParts = field(default_factory=PackedParts)

    @staticmethod
    def of(page: Page, layers: Sequence[PageLayer], max_bytes: int) -> _Draft:
        return _Draft(page, layers, [MapPieces.of(layer.maps, _MOST_UNITS) for layer in layers], max_bytes)

    def in_small_pieces(self) -> _Draft:
        """Return the same in pieces that are small beside the page, so that it can be filled."""
        most = min(_MOST_UNITS, self.max_bytes / _PIECES / len(self.page.inputs.images))
        return replace(self, pieces=[MapPieces.by_strength(layer.maps, most, layer.strength) for layer in self.layers])

    def made(self, plan: _Plan, *, blank: bool = False) -> Page:
        """Return the page; a blank one has nothing in place of each map, to learn what all else takes."""
        packed = tuple(
            self._parts.packed(layer if plan.kernels else layer.without_kernels(), pieces, steps, plan.images, blank)
            for layer, pieces, steps in zip(self.layers, self.pieces, plan.steps, strict=True)
        )
        inputs = replace(self.page.inputs, images=self.page.inputs.images[: plan.images])
        return replace(self.page, inputs=inputs, layers=packed, stills=stills_of(packed, inputs))

    def rest(self, plan: _Plan) -> int:
        """Return the bytes of all but the maps."""
        return _size(self.made(plan, blank=True))

    def whole(self, steps: Sequence[int], images: int) -> _Plan:
        """Return the plan of all pieces, with one step for each layer."""
        return _Plan(tuple((step,) * len(one) for step, one in zip(steps, self.pieces, strict=True)), images)


def fitted(
    page: Page, layers: Sequence[PageLayer], images: ExemplarImages | None, max_bytes: int
) -> tuple[Page, bytes]:
    """Return the page with its layers, reduced as little as it takes, and its file of at most so many bytes.

    Maps come first; what they leave is for the exemplars.

    Raises:
        ArgumentError: even the smallest page is larger, or the data set is not that of the sweep.
    """
    made = [layer for layer in layers if layer.synthesized is not None]
    words = 0 if images is None else _words_about(layers)
    page = _with_maps(_Draft.of(page, layers, max_bytes - words - (_words_about(made) if made else 0)))
    if made:
        page = _filled_up(page, SynthesisSheets().add, max_bytes - words)
    if images is not None:
        page = _filled_up(page, partial(with_exemplars, sheets=Sheets(images)), max_bytes)
    written = page.html().encode()
    if len(written) > max_bytes:
        raise ArgumentError(
            f"max_bytes={max_bytes} is too little: with one image, one channel of each layer, no kernels and no "
            f"exemplar patches the page takes {len(written)} bytes. Raise it, or choose fewer layers."
        )
    return page, written


def _words_about(layers: Sequence[PageLayer]) -> int:
    """Return the bytes that it may take to say which layers have no pictures of a kind."""
    return 200 + sum(60 + 6 * len(layer.name) for layer in layers)


def _filled_up(page: Page, add: Callable[[Page, int], Page], max_bytes: int) -> Page:
    """Return the page with the pictures that `add` finds room for; what it says about them takes room, too."""
    room = max_bytes - _size(page)
    for trial in range(_TRIALS):
        found = add(page, max(room, 0))
        excess = _size(found) - max_bytes
        if excess <= 0 or room <= 0:
            return found
        room -= excess << trial  # pictures are whole: a few bytes less may leave out none
    return add(page, 0)


def _size(page: Page) -> int:
    """Return the bytes of the page's file."""
    bare = replace(page, layers=tuple(packed.without_maps() for packed in page.layers))
    return len(bare.html().encode()) + sum(packed.map_bytes for packed in page.layers)


def _with_maps(draft: _Draft) -> Page:
    """Return the page with as much of its maps as fits, exemplars apart."""
    images = len(draft.page.inputs.images)
    fine = draft.whole([1] * len(draft.layers), images)
    rest, limit = draft.rest(fine), draft.max_bytes
    expected = [one.rate() * one.units * len(one.order) * images for one in draft.pieces]
    if rest + sum(expected) <= _HOPEFUL * limit and _images_that_fit(draft, [1] * len(draft.layers), rest) == images:
        page = draft.made(fine)
        if _size(page) <= limit:
            return page
    draft = draft.in_small_pieces()
    steps = [_STEP if all(_is_large(maps.codes.shape[-2:]) for maps in one.maps) else 1 for one in draft.pieces]
    count = _images_that_fit(draft, steps, rest)
    if count:
        found = _as_fine_as_fits(draft, draft.whole(steps, count))
        if found is not None:
            return found
    for kernels in (True, False):
        found = _with_fewer_channels(draft, steps, kernels)
        if found is not None:
            return found
    return draft.made(_Plan(tuple((step,) for step in steps), 1, kernels=False))


def _is_large(size: tuple[int, ...]) -> bool:
    """Return whether maps or slices of so many rows and columns may be thinned out; lines are one row."""
    return size[1] >= _LARGE**2 if size[0] == 1 else min(size) >= _LARGE


def _images_that_fit(draft: _Draft, steps: Sequence[int], rest: int) -> int:
    """Return for how many images the maps fit, from the first on; `rest` is what all else takes with all images.

    What an image adds beside its maps differs: the first of a size adds the fields of that size.
    """
    fitting, excessive = 0, len(draft.page.inputs.images)
    if _do_maps_fit(draft, steps, excessive, rest):
        return excessive
    while excessive - fitting > 1:
        count = (fitting + excessive) // 2
        if _do_maps_fit(draft, steps, count, draft.rest(draft.whole(steps, count))):
            fitting = count
        else:
            excessive = count
    return fitting


def _do_maps_fit(draft: _Draft, steps: Sequence[int], images: int, rest: int) -> bool:
    """Return whether the maps of the first images fit beside the rest; no more is encoded than fits."""
    room = draft.max_bytes - rest
    for image in range(images if room >= 0 else 0):
        for pieces, step in zip(draft.pieces, steps, strict=True):
            for piece in range(len(pieces)):
                room -= pieces.nbytes(image, piece, step)
                if room < 0:
                    return False
    return room >= 0


def _as_fine_as_fits(draft: _Draft, coarse: _Plan) -> Page | None:
    """Return the coarse page with as many pieces in full resolution as fit, those of small layers first."""
    room = draft.max_bytes - _size(draft.made(coarse))
    while room >= 0:
        steps = [list(one) for one in coarse.steps]
        for layer, piece, cost in _refinements(draft, coarse):
            if cost > room:
                break
            room -= cost
            steps[layer][piece] = 1
        page = draft.made(replace(coarse, steps=tuple(map(tuple, steps))))
        excess = _size(page) - draft.max_bytes
        if excess <= 0:
            return page
        room = draft.max_bytes - _size(draft.made(coarse)) - 2 * excess
    return None


def _refinements(draft: _Draft, coarse: _Plan) -> Iterator[tuple[int, int, int]]:
    """Yield layer, piece and cost in bytes of each piece that may have its full resolution, small layers first."""
    for layer in sorted(range(len(draft.pieces)), key=lambda one: draft.pieces[one].units * len(draft.pieces[one])):
        pieces = draft.pieces[layer]
        for piece, step in enumerate(coarse.steps[layer]):
            if step > 1:
                costs = (pieces.nbytes(i, piece, 1) - pieces.nbytes(i, piece, step) for i in range(coarse.images))
                yield layer, piece, sum(costs)


def _with_fewer_channels(draft: _Draft, steps: Sequence[int], kernels: bool) -> Page | None:
    """Return the page of the first image with as many channels as fit, the strongest of each layer.

    Layers get their pieces in turn, always the one with the fewest bytes so far, so that large ones are cut alike.
    """
    least = _Plan(tuple((step,) for step in steps), 1, kernels)
    best, size = None, _size(draft.made(least))
    full = replace(draft.whole(steps, 1), kernels=kernels)
    beside = (draft.rest(full) - draft.rest(least)) / max(1, sum(len(one.order) for one in draft.pieces))
    room = float(draft.max_bytes - size)
    for _ in range(_TRIALS if size <= draft.max_bytes else 0):
        plan = _filled(draft, steps, kernels, room, max(0.0, beside))
        page = draft.made(plan)
        size = _size(page)
        if size <= draft.max_bytes:
            best = page
        if _FULL * draft.max_bytes <= size <= draft.max_bytes or (plan == full and best is not None):
            break
        room += (1 + _FULL) / 2 * draft.max_bytes - size
    return best


def _filled(draft: _Draft, steps: Sequence[int], kernels: bool, room: float, beside: float) -> _Plan:
    """Return the plan of the pieces of the first image that fit; a channel takes so many bytes beside its map."""
    counts = [1] * len(draft.pieces)
    layers = [
        (one.nbytes(0, 0, step), index) for index, (one, step) in enumerate(zip(draft.pieces, steps, strict=True))
    ]
    heapify(layers)
    while layers:
        taken, index = layers[0]
        pieces, piece = draft.pieces[index], counts[index]
        if piece == len(pieces):
            layers[0] = layers[-1]
            layers.pop()
            heapify(layers)
            continue
        cost = pieces.nbytes(0, piece, steps[index])
        room -= cost + beside * len(pieces.channels(piece))
        if room < 0:
            break
        counts[index] += 1
        heapreplace(layers, (taken + cost, index))
    return _Plan(tuple((step,) * count for step, count in zip(steps, counts, strict=True)), 1, kernels)
