"""
Linear probes
=============

A linear classifier sees nothing but the mean of each channel's map. Deeper layers have more channels to read, which
alone makes a difference, so the untrained network of the same shape is the control.
"""

from __future__ import annotations

from functools import partial

import torch
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

layers = ("conv1", "conv2", "conv3", "conv4")
images, labels = sp.examples.draw_patterns(1500, seed=2)
test_images, test_labels = sp.examples.draw_patterns(1500, seed=1)


def read_off(model: nn.Module) -> list[float]:
    """The accuracy of a linear probe on each layer after its ReLU, in percent."""
    read = partial(
        sp.evidence.linear_probe,
        test_images=test_images,
        test_labels=test_labels,
        at="post_activation",
    )
    return [100 * read(model, images, labels, layer).accuracy for layer in layers]


# %%
# A network of four convolutions, before and after training on the drawn patterns.

torch.manual_seed(0)
found = {
    "untrained": read_off(sp.examples.PatternNetwork()),
    "trained": read_off(sp.examples.load_network()),
}

# %%
# What training adds grows from layer to layer.

figure = Figure(figsize=(6.4, 3.8), layout="constrained")
axes = figure.add_subplot()
for (name, values), color, marker in zip(
    found.items(), ("#c9862b", "#2b2f5e"), "^o", strict=True
):
    axes.plot(layers, values, marker=marker, color=color)
    axes.annotate(
        name,
        (len(layers) - 1, values[-1]),
        (8, 0),
        textcoords="offset points",
        va="center",
    )
axes.axhline(
    100 / len(sp.examples.CLASSES), color="#808088", linestyle=":", linewidth=1
)
axes.set_ylabel("accuracy of a linear probe (%), chance dotted", fontsize=9)
axes.set_ylim(0, 100)
axes.set_xlim(-0.2, len(layers) - 0.4)
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle("What can be read off each layer, on drawn patterns")
figure.savefig("linear_probe.png")
