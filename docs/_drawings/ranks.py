"""How a data set is shared among three processes, and what comes out of it."""

import torch
from look import DARK, GRAY, ORANGE, TEAL, VIOLET, add_arrow, add_box, make_canvas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import spatialprobe as sp
from spatialprobe.statistics.batches import share

RANKS, SAMPLES, CHANNEL = 3, 30, 18
COLORS = (VIOLET, ORANGE, TEAL)


def show(axes: Axes, image: torch.Tensor, left: float, top: float, side: float, color: str) -> None:
    """Draw an image in a frame of the color of its rank."""
    axes.imshow(image.permute(1, 2, 0).numpy(), extent=(left, left + side, top + side, top), aspect="auto", zorder=2)
    axes.add_patch(Rectangle((left, top), side, side, facecolor="none", edgecolor=color, linewidth=2, zorder=3))


def draw() -> Figure:
    """Return the shares in colors, a process for each, and a channel's top samples, each in its rank's color."""
    figure, axes = make_canvas(8.4, 3.4)
    images, _ = sp.examples.draw_patterns(SAMPLES, seed=3)
    found = sp.sweep(sp.examples.load_network(), images, [sp.Exemplars], layers="conv4", progress=False)
    top = found["conv4"]["exemplars"].samples[CHANNEL, :5].tolist()
    owner = {}
    for rank, color in enumerate(COLORS):
        first, last = share(SAMPLES, rank, RANKS)
        for place, sample in enumerate(range(first, last)):
            owner[sample] = color
            show(axes, images[sample], 0.2 + 0.36 * (place % 5), 0.45 + 1.0 * rank + 0.4 * (place // 5), 0.33, color)
        y = 0.85 + 1.0 * rank
        add_arrow(axes, (2.1, y), (2.6, y), color)
        add_box(axes, (2.7, y - 0.28, 1.5, 0.56), f"rank {rank}:\nsweep", edgecolor=color, linewidth=2)
        add_arrow(axes, (4.3, y), (5.0, 1.85 + 0.15 * (rank - 1)), color)
    axes.text(0.2, 0.25, f"{SAMPLES} samples, each in one share", fontsize=9, color=GRAY, va="center")
    add_box(axes, (5.1, 1.5, 0.95, 0.7), "merge", edgecolor=DARK, linewidth=2)
    add_arrow(axes, (6.15, 1.85), (6.55, 1.85))
    for place, sample in enumerate(top):
        show(axes, images[sample], 6.65, 0.6 + 0.52 * place, 0.46, owner[sample])
        axes.text(7.2, 0.84 + 0.52 * place, f"#{sample}", fontsize=8, color=DARK, va="center")
    axes.text(6.65, 0.38, f"top of channel {CHANNEL},", fontsize=8.5, color=GRAY, va="center")
    axes.text(6.65, 3.28, "as in one process", fontsize=8.5, color=GRAY, va="center")
    axes.set_xlim(0, 8.4)
    axes.set_ylim(3.4, 0)
    return figure
