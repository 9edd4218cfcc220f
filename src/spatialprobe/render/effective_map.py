"""The effective field of a unit as a picture: how much each pixel moves it, and how far its mass reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spatialprobe.errors import ArgumentError
from spatialprobe.render.field_words import by, name_layer
from spatialprobe.render.images import Normalization, Stretch, extremes_of, image_values
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import palette
from spatialprobe.render.panels import Pixels, enlarge, lay_out_panels
from spatialprobe.render.robust import robust_reach
from spatialprobe.render.scale import choose_scale, quantize
from spatialprobe.text import format_count, kind_of

if TYPE_CHECKING:
    from spatialprobe.fields.effective import EffectiveReceptiveField

_SIDE = 384  # pixels: small inputs are enlarged up to here
_HALF, _NEARLY_ALL = 0.5, 0.99
_AROUND = 0.25  # of the box's side, that is shown on each side of it
_DASH = 5  # pixels: of a frame that is not solid
_DIM = 0.25  # of an image's brightness where no mass lies

Frame = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right) in input pixels, half open


def effective_field_map(
    effective: EffectiveReceptiveField,
    image: object = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Mosaic:
    """The effective field of a unit in colors, with its box and the squares that hold half and 99 % of its mass.

    Args:
        effective: the result of `effective_receptive_field`, over two axes.
        image: an input, (3, H, W) or (1, H, W), a PIL image or an array (H, W, 3); it is shown beside the map, as
            bright as the pixels' shares.
        mean: what the image was normalized by, one number or one for each channel, so that it looks as it did before.
        std: the same.

    Raises:
        ArgumentError: the field is not over two axes, or the image is of another size than its inputs.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(3, 4, 5, padding=2)
    >>> images = torch.rand(2, 3, 32, 32)
    >>> picture = sp.effective_field_map(sp.effective_receptive_field(conv, images, ""), images[0])
    >>> picture.title, picture.color_bar.low
    ('the model, the effective field of unit (16, 16)', 0.0)
    """
    shares = getattr(effective, "map", None)
    if not isinstance(shares, np.ndarray) or not hasattr(effective, "sides"):
        raise ArgumentError(
            f"effective is {kind_of(effective)}: pass the result of sp.effective_receptive_field(model, images, layer)."
        )
    if shares.ndim != 2:
        raise ArgumentError(f"The field lies on inputs of {by(shares.shape)}: only fields of two axes can be drawn.")
    window = _window(effective)
    factor = max(1, _SIDE // max(stop - start for start, stop in window))
    reach, _ = robust_reach(shares[effective.box.slices])
    scale = choose_scale(shares[None], (0.0, reach or 1.0))
    colored = palette(False)[quantize(shares[None], scale)[0]]
    panels = {"share of each pixel": _framed(colored, effective, window, factor)}
    words: list[str] = []
    if image is not None:
        values = image_values(image, shares.shape, "The image", Normalization.of(mean, std))
        stretch = Stretch.of(*extremes_of(values))
        light = np.clip(shares / (reach or 1.0), 0, 1)[..., None] ** 0.5
        shaded = np.round(stretch.pixels(values) * (_DIM + (1 - _DIM) * light)).astype(np.uint8)
        panels["the input, as bright as the share"] = _framed(shaded, effective, window, factor)
        words = stretch.words()
    sheet = lay_out_panels(panels)
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=f"{name_layer(effective.layer)}, the effective field of unit {effective.unit}",
        caption=" ".join([*_words(effective, window), scale.words().replace("given scale", "scale"), *words]),
        color_bar=ColorBar.of(scale),
        metadata={
            "Software": "spatialprobe",
            "Layer": effective.layer,
            "Unit": str(effective.unit),
            "Box": str(effective.box),
            "Sides": ", ".join(f"{mass:g}: {side}" for mass, side in effective.sides.items()),
            "Scale": scale.words(),
        },
    )


def _window(effective: EffectiveReceptiveField) -> Frame:
    """Return the rows and columns that are shown: the box with some of what is around it."""
    box, sizes = effective.box, effective.map.shape
    around = [max(2, round(_AROUND * side)) for side in box.shape]
    top, left = (max(0, start - more) for start, more in zip(box.start, around, strict=True))
    bottom, right = (min(size, stop + more) for size, stop, more in zip(sizes, box.stop, around, strict=True))
    return (top, bottom), (left, right)


def _words(effective: EffectiveReceptiveField, window: Frame) -> list[str]:
    """Return the sentences for the frames, and for the numbers of the field."""
    half, most = effective.sides[_HALF], effective.sides[_NEARLY_ALL]
    center = ", ".join(f"{value:.1f}" for value in effective.centroid)
    spread = " x ".join(f"{value:.1f}" for value in effective.std)
    return [
        f"Solid frame: the {by(effective.box.shape)} pixels that the unit can see; dashed: the squares that hold half "
        f"of the mass ({half} x {half}) and 99 % of it ({most} x {most}).",
        f"Center of mass ({center}), spread {spread} pixels; {effective.statistic} gradient, mean of "
        f"{format_count(effective.n, 'image')}.",
        *_window_words(window, effective.map.shape),
    ]


def _window_words(window: Frame, size: tuple[int, ...]) -> list[str]:
    """Return the sentence for the part of the input that is shown, in a list; an empty list where all of it is."""
    if window == tuple((0, length) for length in size):
        return []
    rows, columns = (f"{first} to {last - 1}" for first, last in window)
    return [f"Rows {rows} and columns {columns} of {by(size)} pixels are shown."]


def _framed(pixels: Pixels, effective: EffectiveReceptiveField, window: Frame, factor: int) -> Pixels:
    """Return the window of a panel, enlarged, with the box and both squares."""
    (top, bottom), (left, right) = window
    large = enlarge(pixels[top:bottom, left:right], factor)
    box = effective.box
    around = [
        (start - first, stop - first) for start, stop, (first, _) in zip(box.start, box.stop, window, strict=True)
    ]
    _draw_frame(large, (around[0], around[1]), factor, dashed=False)
    for mass in (_HALF, _NEARLY_ALL):
        side = effective.sides[mass]
        rows, columns = (((start + stop - side) // 2, (start + stop + side + 1) // 2) for start, stop in around)
        _draw_frame(large, (rows, columns), factor, dashed=True)
    return large


def _draw_frame(pixels: Pixels, frame: Frame, factor: int, *, dashed: bool) -> None:
    """Draw a white line inside a frame, and a dark one inside of that; what leaves the panel is cut."""
    height, width = pixels.shape[:2]
    top, bottom = max(frame[0][0] * factor, 0), min(frame[0][1] * factor, height)
    left, right = max(frame[1][0] * factor, 0), min(frame[1][1] * factor, width)
    for inset, shade in ((1, 40), (0, 255)):
        edges = np.zeros((height, width), np.bool_)
        edges[top + inset : bottom - inset, left + inset : right - inset] = True
        edges[top + inset + 1 : bottom - inset - 1, left + inset + 1 : right - inset - 1] = False
        if dashed:
            edges &= (np.add.outer(np.arange(height), np.arange(width)) // _DASH) % 2 == 0
        pixels[edges] = shade
