"""
The same pixels in another order
================================

Both networks are trained again on images whose pixels are permuted, always in the same way, so that nothing is strange
to them. To the fully connected one the permuted problem is the very same problem. The convolutional one looks for
patterns of neighbors, and there are none left.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from ready import patterns, trained
from simple_cnn import MLP, SimpleCNN
from torch import nn
from training import evaluate, train

import spatialprobe as sp

data = patterns()
permutation = sp.evidence.PixelPermutation(32, 32, seed=0)


def permuted_accuracy(make: type[nn.Module]) -> float:
    """Test accuracy of a network trained and tested on permuted pixels."""
    torch.manual_seed(0)
    model = make()
    train(model, permutation(data.train_images), data.train_labels, epochs=1, seed=0)
    return evaluate(model, permutation(data.test_images), data.test_labels).accuracy


# %%
# Four trainings, a few seconds each.

found = {
    make.__name__: (evaluate(trained(make), data.test_images, data.test_labels).accuracy, permuted_accuracy(make))
    for make in (SimpleCNN, MLP)
}

# %%
# What the arrangement of pixels is worth to each.

figure = Figure(figsize=(8.6, 3.4), layout="constrained")
plain, moved, bars = figure.subplots(1, 3, width_ratios=[1, 1, 1.5])
plain.imshow(data.test_images[1].permute(1, 2, 0).numpy())
moved.imshow(permutation(data.test_images[1]).permute(1, 2, 0).numpy())
for axes, title in ((plain, "an image"), (moved, "its pixels in another order")):
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
for place, values in enumerate(found.values()):
    for offset, value, color in zip((-0.2, 0.2), values, ("#2b2f5e", "#c9862b"), strict=True):
        bars.bar(place + offset, 100 * value, 0.36, color=color)
        bars.annotate(f"{100 * value:.0f} %", (place + offset, 100 * value), ha="center", va="bottom", fontsize=8)
bars.axhline(100 / len(data.classes), color="#808088", linestyle=":", linewidth=1)
bars.set_xticks(range(len(found)), list(found))
bars.set_ylabel("test accuracy (%), chance dotted", fontsize=9)
bars.spines[["top", "right"]].set_visible(False)
figure.suptitle(f"In order (blue) and permuted (orange), trained on {data.name}")
figure.savefig("pixel_permutation.png")
