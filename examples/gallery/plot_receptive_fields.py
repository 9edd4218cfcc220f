"""
Receptive fields of five architectures
======================================

The receptive field of every convolution, against how far into the network it comes. Only geometry matters here, so
the weights are random and no data is needed: every model is followed on tensors that have no values.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import nn
from torchvision.models import get_model

import spatialprobe as sp

NAMES = {
    "alexnet": "#3d3d8f",
    "vgg16": "#c9862b",
    "resnet18": "#2a8f6b",
    "densenet121": "#a8478f",
    "mobilenet_v2": "#777777",
}

# %%
# The whole shape of the input, batch included, is all that is needed.

fields = {
    name: sp.receptive_fields(
        get_model(name, weights=None).eval(), (1, 3, 224, 224), layers=nn.Conv2d
    )
    for name in NAMES
}
print(fields["alexnet"])

# %%
# Half-way, most networks see more than the image: their last layers could use all of it, and padding besides.

figure = Figure(figsize=(7.5, 4.2), layout="constrained")
axes = figure.subplots()
for name, color in NAMES.items():
    sizes = [field.size[0] for field in fields[name].values()]
    axes.plot(
        [number / (len(sizes) - 1) for number in range(len(sizes))],
        sizes,
        ".-",
        color=color,
        label=name,
    )
axes.axhline(224, color="black", linewidth=0.8, linestyle=":")
axes.text(1, 224, "the image", ha="right", va="bottom", fontsize=8)
axes.set_yscale("log", base=2)
axes.yaxis.set_major_formatter("{x:.0f}")
axes.set_xlabel("position among the convolutions, from first to last")
axes.set_ylabel("receptive field in pixels")
axes.legend(frameon=False)
figure.savefig("receptive_fields.png")
