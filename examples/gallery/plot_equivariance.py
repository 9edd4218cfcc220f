"""
Shift equivariance
==================

Shift the image, and a convolution shifts its output along, exactly, as long as the shift is a whole number of its
units. conv3 counts in steps of two pixels, as it comes after a pooling: at odd shifts it is off [Zhang 2019]. Fully
connected units do not follow at all, even if each is compared with whichever unit comes nearest.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp


def errors(
    model: nn.Module, images: torch.Tensor, layer: str, shifts: range
) -> list[float]:
    """The mean relative error of a layer, inside the image, at each shift to the right."""
    return [
        sp.evidence.equivariance_error(model, images, layer, (0, shift)).mean
        for shift in shifts
    ]


# %%
# A CNN and a network without convolutions, both trained on drawn patterns, and 200 images that neither has seen.

cnn = sp.examples.load_network()
torch.manual_seed(0)
mlp = nn.Sequential(
    nn.Flatten(), nn.Linear(3 * 32 * 32, 30), nn.ReLU(), nn.Linear(30, 10)
)
patterns, labels = sp.examples.draw_patterns(2000)
sp.examples.train_network(
    mlp, patterns - 0.5, labels, epochs=3
)  # without centering its units die
images, shifts = sp.examples.draw_patterns(200, seed=1)[0], range(1, 9)
found = {
    "conv1": errors(cnn, images, "conv1", shifts),
    "conv3": errors(cnn, images, "conv3", shifts),
    "hidden units of an MLP": errors(mlp, images - 0.5, "1", shifts),
}

# %%
# Zero means: one detector, the same everywhere.

figure = Figure(figsize=(7.6, 3.8), layout="constrained")
axes = figure.add_subplot()
for (name, values), color, marker in zip(
    found.items(), ("#2b2f5e", "#3f8f8b", "#c9862b"), "os^", strict=True
):
    axes.plot(shifts, values, marker=marker, color=color, label=name, clip_on=False)
axes.set_xlabel("shift to the right (pixels)")
axes.set_ylabel("relative error, inside the image")
axes.set_ylim(0)
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle(f"How far layers are from shifting along, {len(images)} drawn patterns")
figure.savefig("equivariance.png")
