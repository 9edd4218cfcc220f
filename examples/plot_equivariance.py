"""
Does a layer shift along?
=========================

Shift the image, and a convolution shifts its output along, exactly, as long as the shift is a whole number of its
units. conv2 counts in steps of two pixels, as it comes after a pooling: at odd shifts it is off [Zhang 2019]. Fully
connected units do not follow at all, even if each is compared with whichever unit comes nearest.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from ready import patterns, trained
from simple_cnn import MLP
from torch import nn
from training import as_input

import spatialprobe as sp


def errors(model: nn.Module, images: torch.Tensor, layer: str, shifts: range) -> list[float]:
    """The mean relative error of a layer, inside the image, at each shift to the right."""
    return [sp.evidence.equivariance_error(model, images, layer, (0, shift)).mean for shift in shifts]


# %%
# A SimpleCNN and a network without convolutions, both trained on drawn patterns, and 200 test images.

data, cnn, mlp = patterns(), trained(), trained(MLP)
images, shifts = as_input(data.test_images[:200], torch.device("cpu")), range(1, 9)
found = {
    "conv1": errors(cnn, images, "conv1", shifts),
    "conv2": errors(cnn, images, "conv2", shifts),
    "hidden units of an MLP": errors(mlp, images, "fc1", shifts),
}

# %%
# Zero means: one detector, the same everywhere.

figure = Figure(figsize=(7.6, 3.8), layout="constrained")
axes = figure.add_subplot()
for (name, values), color, marker in zip(found.items(), ("#2b2f5e", "#3f8f8b", "#c9862b"), "os^", strict=True):
    axes.plot(shifts, values, marker=marker, color=color, label=name, clip_on=False)
axes.set_xlabel("shift to the right (pixels)")
axes.set_ylabel("relative error, inside the image")
axes.set_ylim(0)
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle(f"How far layers are from shifting along, {len(images)} images of {data.name}")
figure.savefig("equivariance.png")
