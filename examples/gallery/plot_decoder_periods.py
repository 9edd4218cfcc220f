"""
Receptive fields of a decoder
=============================

Behind a transposed convolution units alternate: some see more pixels than their neighbors. One size and one stride for
the whole layer, as most calculators give, are then wrong for most units; boxes are exact for each.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

# %%
# A small encoder and decoder on a signal of one axis, so that all fields fit into a picture.

decoder = nn.Sequential(
    nn.Conv1d(1, 4, 3, stride=2, padding=1),
    nn.Conv1d(4, 4, 3, stride=2, padding=1),
    nn.ConvTranspose1d(4, 4, 4, stride=2, padding=1),
    nn.ConvTranspose1d(4, 1, 4, stride=2, padding=1),
)
fields = sp.receptive_fields(decoder, (1, 1, 32))
print(fields)

# %%
# Each bar is the window of one unit. Where the period is more than one, `size` is that of the largest.

figure = Figure(figsize=(8, 5.2), layout="constrained")
for axes, layer in zip(
    figure.subplots(4, 1, sharex=True), ("0", "1", "2", "3"), strict=True
):
    boxes = fields[layer].boxes()
    units = np.arange(len(boxes))
    axes.bar(
        units * 32 / len(boxes) + 16 / len(boxes),
        boxes[:, 1] - boxes[:, 0],
        bottom=boxes[:, 0],
        color="#8c8fb8",
    )
    axes.set_title(
        f"layer {layer}: period {fields[layer].period[0]}, size {fields[layer].size[0]}",
        fontsize=9,
        loc="left",
    )
    axes.set_ylabel("pixels seen", fontsize=8)
figure.supxlabel("where the unit lies, in pixels of the input", fontsize=9)
figure.savefig("decoder_periods.png")
