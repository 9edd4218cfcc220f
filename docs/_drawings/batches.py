"""What the model is called on, for three kinds of batches."""

import torch
from look import CRIMSON, DARK, GRAY, add_arrow, add_box, make_canvas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import spatialprobe as sp


def show(axes: Axes, image: torch.Tensor, left: float, top: float, width: float, height: float) -> None:
    """Draw an image (3, H, W) into a rectangle of the canvas."""
    axes.imshow(image.permute(1, 2, 0).numpy(), extent=(left, left + width, top + height, top), aspect="auto", zorder=2)


def draw() -> Figure:
    """Return a row for each kind: what the loader yields, and the call."""
    figure, axes = make_canvas(8.4, 3.9)
    images, _ = sp.examples.draw_patterns(12, seed=1, size=64)
    texts = ("a tensor (N, 3, H, W)", "a list of images, of any sizes", "a mapping")
    calls = ("model(batch)", "model(batch)", 'model(pixel_values=batch["pixel_values"])')
    for row, (text, call) in enumerate(zip(texts, calls, strict=True)):
        top = 0.15 + 1.28 * row
        axes.text(0.2, top + 0.12, text, fontsize=9, color=GRAY, va="center")
        add_arrow(axes, (4.25, top + 0.7), (4.85, top + 0.7))
        add_box(axes, (5.0, top + 0.45, 3.25, 0.5), "")
        axes.text(6.625, top + 0.7, call, fontsize=8.5, color=DARK, ha="center", va="center", family="monospace")
    for place in range(5):
        show(axes, images[place], 0.2 + 0.78 * place, 0.45, 0.72, 0.72)
    left = 0.2
    for place, (width, height) in enumerate([(0.6, 0.75), (0.95, 0.55), (0.7, 0.7), (1.1, 0.78)]):
        show(axes, images[5 + place][:, : round(60 * height), : round(55 * width)], left, 1.72, width, height)
        left += width + 0.1
    for place in range(3):
        show(axes, images[9 + place], 0.2 + 0.78 * place, 3.05, 0.72, 0.72)
    add_box(axes, (2.65, 3.2, 1.45, 0.45), '"labels": 3, 0, 7', edgecolor=CRIMSON)
    axes.text(1.25, 2.83, '"pixel_values"', fontsize=8, color=DARK, family="monospace")
    axes.text(2.65, 3.12, "left out", fontsize=8, color=CRIMSON)
    axes.set_xlim(0, 8.4)
    axes.set_ylim(3.9, 0)
    return figure
