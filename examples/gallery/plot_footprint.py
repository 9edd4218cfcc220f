"""
Units that one pixel changes
============================

A pixel is changed, and the units that answer are marked (blue); around them the receptive field says which can
(orange). In a convolution the two are the same, and small. In the fully connected layer behind it every unit changes.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import spatialprobe as sp


def draw(axes: Axes, found: sp.evidence.Footprint) -> None:
    """The units that changed, and the edge of those that could."""
    axes.imshow(found.changed, cmap="Blues", vmin=0, vmax=1.3)
    rows, columns = found.predicted.nonzero()
    top, left, bottom, right = (
        rows.min() - 0.5,
        columns.min() - 0.5,
        rows.max() + 0.5,
        columns.max() + 0.5,
    )
    axes.plot(
        [left, right, right, left, left],
        [top, top, bottom, bottom, top],
        color="#c9862b",
    )
    axes.set_title(
        f"{found.layer}: {found.changed.sum()} of {found.changed.size} units changed",
        fontsize=9,
    )


# %%
# The trained network that ships with the library, and sixteen patterns.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(16, seed=1)
pixel = (13, 18)

# %%
# Predicted and measured are the same window, layer by layer.

figure = Figure(figsize=(9.6, 3.8), layout="constrained")
picture, *maps = figure.subplots(1, 3)
picture.imshow(images[0].permute(1, 2, 0).numpy())
picture.plot(
    pixel[1],
    pixel[0],
    "s",
    color="#c9862b",
    markersize=8,
    fillstyle="none",
    markeredgewidth=2,
)
picture.set_title(f"one of {len(images)} images, and the pixel", fontsize=9)
for axes, layer in zip(maps, ("conv2", "conv4"), strict=True):
    draw(axes, sp.evidence.footprint(model, images, layer, pixel))
figure.suptitle("What one pixel moves, on drawn patterns")
figure.savefig("footprint.png")

# %%
# The control: in a fully connected layer all units change.

print(sp.evidence.footprint(model, images, "fc", pixel))
