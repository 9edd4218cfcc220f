"""From the tokens of a vision transformer to maps: where each lies in the image."""

import numpy as np
from look import CRIMSON, DARK, GRAY, add_arrow, make_canvas
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import spatialprobe as sp

SIDE = 4  # patches along an edge
CELL = 0.36  # inches


def draw() -> Figure:
    """Return a photo in patches, the row of tokens, and the maps that it becomes, with the class token apart."""
    figure, axes = make_canvas(8.4, 3.4)
    colors = colormaps["viridis"](np.linspace(0.1, 0.95, SIDE * SIDE))
    photo = sp.examples.load_photo(256).permute(1, 2, 0).numpy()
    axes.imshow(photo, extent=(0.3, 2.3, 2.7, 0.7), zorder=0)
    for token in range(SIDE * SIDE):
        row, column = divmod(token, SIDE)
        place = (0.3 + 0.5 * column, 0.7 + 0.5 * row)
        axes.add_patch(Rectangle(place, 0.5, 0.5, facecolor="none", edgecolor=colors[token], linewidth=2))
        axes.text(place[0] + 0.06, place[1] + 0.13, str(token), fontsize=7, color="white", weight="bold")
    axes.text(1.3, 0.5, "16 patches", ha="center", fontsize=10, color=DARK)

    left = 3.1
    for index in range(1 + SIDE * SIDE):
        y = 0.55 + 0.145 * index
        color = GRAY if index == 0 else colors[index - 1]
        axes.add_patch(Rectangle((left, y), 1.15, 0.125, facecolor=color, edgecolor="none"))
    axes.text(left + 0.575, 0.38, "tokens (N, 17, 12)", ha="center", fontsize=10, color=DARK)
    axes.text(left + 1.22, 0.65, "class token", fontsize=8, color=GRAY, va="center")
    axes.text(left + 0.575, 3.2, "12 channels each", ha="center", fontsize=8, color=GRAY)

    for shift in (0.24, 0.12, 0.0):
        for token in range(SIDE * SIDE):
            row, column = divmod(token, SIDE)
            x, y = 5.9 + shift + CELL * column, 1.2 - shift + CELL * row
            axes.add_patch(Rectangle((x, y), CELL, CELL, facecolor=colors[token], edgecolor="white", linewidth=0.8))
            if shift == 0:
                axes.text(x + CELL / 2, y + CELL / 2, str(token), fontsize=7, color="white", ha="center", va="center")
    axes.text(6.75, 0.5, "maps.values (N, 12, 4, 4)", ha="center", fontsize=10, color=DARK)
    axes.add_patch(Rectangle((5.9, 2.92), 1.44, 0.13, facecolor=GRAY))
    axes.text(6.62, 3.24, "maps.leading (N, 1, 12)", ha="center", fontsize=10, color=DARK)
    add_arrow(axes, (2.42, 1.7), (3.0, 1.7))
    add_arrow(axes, (4.4, 1.9), (5.75, 1.9), CRIMSON)
    axes.text(5.07, 1.78, "record.maps()", fontsize=8.5, color=CRIMSON, ha="center", family="monospace")
    return figure
