"""Draw the first picture of the README, from the photo and the trained network that ship with the library.

    python examples/hero.py --out hero.png

Left a photo and the pixels that one unit can see; in the middle the feature maps of a layer on that photo; right the
patterns to which some channels respond most.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

import spatialprobe as sp
from spatialprobe.examples import draw_patterns, load_network, load_photo

UNIT = (23, 28)  # row and column, in the maps of conv4: on the eye
CHANNELS = (1, 2, 3, 6, 7, 9, 10, 12, 13)  # of conv2, of which the maps are shown
SEEKERS = (0, 3, 4, 13, 14, 18)  # channels of conv4, of which the top patches are shown
INK, FAINT = "#22222e", "#6b6b7b"


def draw() -> Figure:
    """Return the three pictures side by side, each under the question that it answers."""
    model, photo = load_network(), load_photo()
    patterns, _ = draw_patterns(1000, seed=1, size=64)
    fields = sp.receptive_fields(model, (1, *photo.shape))
    box = sp.receptive_field_overlay(photo, fields["conv4"], UNIT)
    seen = sp.capture(model, photo[None], layers="conv2", at="post_activation")
    maps = sp.feature_maps(seen["conv2"], channels=CHANNELS, columns=3)
    swept = sp.sweep(
        model, patterns, {"top": lambda: sp.Exemplars(6)}, layers="conv4", at="post_activation", progress=False
    )
    small = sp.receptive_fields(model, (1, *patterns.shape[1:]))
    patches = sp.exemplar_patches(swept["conv4"]["top"], patterns, small["conv4"], channels=SEEKERS, interior=True)
    rows, columns = fields["conv4"].size
    return arranged(
        {
            "Which pixels can a unit see?": (box.array, f"A unit of conv4 sees {rows} x {columns} pixels."),
            "What does a layer output?": (maps.array, f"{len(CHANNELS)} of the 16 feature maps of conv2."),
            "What does a channel look for?": (patches.array, "A row for each channel of conv4: its top patterns."),
        }
    )


def arranged(panels: dict[str, tuple[npt.NDArray[np.uint8], str]]) -> Figure:
    """Return the pictures at one height, each with its title above and a sentence below."""
    side, gap, above, below = 4.4, 0.35, 0.55, 0.5  # inches
    widths = [side * pixels.shape[1] / pixels.shape[0] for pixels, _ in panels.values()]
    figure = Figure((sum(widths) + gap * (len(panels) + 1), side + above + below), dpi=110, facecolor="white")
    across, down = figure.get_size_inches()
    left = gap
    for (title, (pixels, words)), width in zip(panels.items(), widths, strict=True):
        axes = figure.add_axes((left / across, below / down, width / across, side / down))
        axes.imshow(pixels, interpolation="antialiased")
        axes.set_axis_off()
        figure.text(left / across, 1 - 0.36 / down, title, fontsize=15, weight="bold", color=INK)
        figure.text(left / across, 0.2 / down, words, fontsize=10.5, color=FAINT)
        left += width + gap
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("hero.png"), help="the file to write (default: hero.png)")
    path = parser.parse_args().out
    draw().savefig(path)
    print(path)


if __name__ == "__main__":
    main()
