"""
What can be read off each layer
===============================

A linear classifier sees nothing but the mean of each channel's map. Deeper layers have more channels to read, which
alone makes a difference, so the untrained network of the same shape is the control.
"""

from __future__ import annotations

from functools import partial

import torch
from matplotlib.figure import Figure
from ready import patterns, trained
from simple_cnn import DeepCNN
from torch import nn
from training import as_input

import spatialprobe as sp

data, layers = patterns(), ("conv1", "conv2", "conv3")
images, test_images = (as_input(some[:1500], torch.device("cpu")) for some in (data.train_images, data.test_images))
labels, test_labels = data.train_labels[:1500], data.test_labels[:1500]


def read_off(model: nn.Module) -> list[float]:
    """The accuracy of a linear probe on each layer after its ReLU, in percent."""
    read = partial(sp.evidence.linear_probe, test_images=test_images, test_labels=test_labels, at="post_activation")
    return [100 * read(model, images, labels, layer).accuracy for layer in layers]


# %%
# A network of three convolutions, before and after training on the drawn patterns.

deep = partial(DeepCNN, 3)
torch.manual_seed(0)
found = {"untrained": read_off(deep()), "trained": read_off(trained(deep))}

# %%
# What training adds grows from layer to layer.

figure = Figure(figsize=(6.4, 3.8), layout="constrained")
axes = figure.add_subplot()
for (name, values), color, marker in zip(found.items(), ("#c9862b", "#2b2f5e"), "^o", strict=True):
    axes.plot(layers, values, marker=marker, color=color)
    axes.annotate(name, (len(layers) - 1, values[-1]), (8, 0), textcoords="offset points", va="center")
axes.axhline(100 / len(data.classes), color="#808088", linestyle=":", linewidth=1)
axes.set_ylabel("accuracy of a linear probe (%), chance dotted", fontsize=9)
axes.set_ylim(0, 100)
axes.set_xlim(-0.2, len(layers) - 0.4)
axes.spines[["top", "right"]].set_visible(False)
figure.suptitle(f"What can be read off each layer, on {data.name}")
figure.savefig("linear_probe.png")
