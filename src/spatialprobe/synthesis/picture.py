"""What drives channels up as one labeled picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.field_words import by, name_layer
from spatialprobe.render.images import Stretch
from spatialprobe.render.letters import width_of
from spatialprobe.render.maps import flat_tiles, slice_words
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import palette
from spatialprobe.render.rows import Rows, lay_out_rows
from spatialprobe.render.scale import Scale, choose_scale, quantize
from spatialprobe.render.sheet import Grid, Sheet, hatched, lay_out, room_for
from spatialprobe.synthesis.result import describe_unmoved
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from spatialprobe.synthesis.result import MaximizedActivation

_LARGEST = 1400  # pixels: a side of the sheet up to which patches are enlarged
_MOST_INPUTS = 8  # channels of the input that stand side by side


def draw_patches(found: MaximizedActivation, columns: int | None) -> Mosaic:
    """Return the patches of channels as one picture.

    Raises:
        ArgumentError: the inputs have no spatial axes.
    """
    if found.box is None:
        raise ArgumentError(
            f"Inputs {tuple(found.images.shape[1:])} have no spatial axes, so that there is nothing to draw: read "
            ".images."
        )
    patches = found.patches.numpy()
    if patches.ndim == 4 and patches.shape[1] in (1, 3):
        return _draw_images(found, patches, columns)
    return _draw_maps(found, patches)


def _draw_images(found: MaximizedActivation, patches: npt.NDArray[np.float32], columns: int | None) -> Mosaic:
    """Return the picture of patches (C, 1 or 3, H, W)."""
    tiles = Stretch(*found.bounds).pixels(np.moveaxis(patches, 1, -1))
    height, width = tiles.shape[1:3]
    grid = Grid.of(len(tiles), height, width, columns, largest=_LARGEST)
    sheet = lay_out(tiles, _labels(found, lambda label: room_for(label, grid)), grid)
    lines = palette(False)[hatched(grid.height * grid.factor, grid.width * grid.factor)]
    for still in found.unmoved.nonzero().flatten().tolist():
        top, left = grid.corner(still)
        sheet.pixels[top : top + lines.shape[0], left : left + lines.shape[1]] = lines
    low, high = found.bounds
    return _mosaic(found, sheet, [f"Black is {low:.4g}, white {high:.4g}."])


def _draw_maps(found: MaximizedActivation, patches: npt.NDArray[np.float32]) -> Mosaic:
    """Return the picture of patches (C, inputs, *sides) with a row for each channel and a map for each input."""
    shown = patches[:, :_MOST_INPUTS]
    inputs = shown.shape[1]
    flat = shown.reshape(-1, *shown.shape[2:])
    scale = choose_scale(flat, found.bounds)
    tiles = flat_tiles(quantize(flat, scale), signed=scale.signed)
    labels = [label for name in _labels(found, lambda label: True) for label in (name, *[""] * (inputs - 1))]
    widest = max(width_of(label) for label in labels)
    height, width = tiles.shape[1:]
    rows = Rows.of(len(shown), inputs, height, width, -(-widest // inputs))
    heads = [f"input {channel}" for channel in range(inputs)] if inputs > 1 else []
    still = found.unmoved.repeat_interleave(inputs).numpy()
    sheet = lay_out_rows(tiles, labels, [""] * len(shown), rows, heads, still)
    hidden = patches.shape[1] - inputs
    words = [
        *(
            [f"The first {inputs} of {format_count(patches.shape[1], 'channel')} of the input are shown."]
            * bool(hidden)
        ),
        scale.words().replace("given scale", "scale"),
        *slice_words(flat),
    ]
    return _mosaic(found, sheet, words, scale)


def _labels(found: MaximizedActivation, fits: Callable[[str], bool]) -> list[str]:
    """Return channel and value of each patch, with the best real value where there is room for all of them."""
    plain = [
        f"{channel}: none" if still else f"{channel}: {value:.3g}"
        for channel, value, still in zip(
            found.channels.tolist(), found.reached.tolist(), found.unmoved.tolist(), strict=True
        )
    ]
    if found.best_real is None:
        return plain
    both = [f"{label} ({best:.3g})" for label, best in zip(plain, found.best_real.tolist(), strict=True)]
    return both if all(map(fits, both)) else plain


def _mosaic(found: MaximizedActivation, sheet: Sheet, shading: list[str], scale: Scale | None = None) -> Mosaic:
    """Return the sheet with what is said about it."""
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=f"{name_layer(found.layer)}, what drives each channel up",
        caption=" ".join([*_words(found), *shading]),
        color_bar=None if scale is None else ColorBar.of(scale),
        metadata={
            "Software": "spatialprobe",
            "Layer": found.layer,
            "Unit": "all" if found.unit is None else str(found.unit),
            "Box": str(found.box),
            "Channels": " ".join(map(str, found.channels.tolist())),
            "Seed": str(found.seed),
        },
        colors=None if scale is None else palette(scale.signed),
    )


def _words(found: MaximizedActivation) -> list[str]:
    """Return the sentences that say what is shown."""
    box = found.patches.shape[2:]
    where = "the mean over all units" if found.unit is None else f"unit {found.unit}" if found.unit else "the layer"
    real = " (in brackets the largest of the exemplars)" if found.best_real is not None else ""
    still = found.channels[found.unmoved].tolist()
    return [
        f"Made by gradient ascent, not found in data: the {by(box)} pixels that {where} can see; above them the "
        f"channel and the value that it reaches{real}.",
        *([f"Hatched: {describe_unmoved(still)[0].lower()}{describe_unmoved(still)[1:]}."] if still else []),
    ]
