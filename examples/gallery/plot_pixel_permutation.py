"""
Training on permuted pixels
===========================

Both networks are trained again on images whose pixels are permuted, always in the same way, so that nothing is strange
to them. To the fully connected one the permuted problem is the very same problem. The convolutional one looks for
patterns of neighbors, and there are none left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

images, labels = sp.examples.draw_patterns(4000)
test_images, test_labels = sp.examples.draw_patterns(1000, seed=1)
permutation = sp.evidence.PixelPermutation(32, 32, seed=0)


def without_convolutions() -> nn.Module:
    """Return a network of fully connected layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 32 * 32, 30), nn.ReLU(), nn.Linear(30, 10)
    )


def accuracy(
    make: Callable[[], nn.Module], order: Callable[[torch.Tensor], torch.Tensor]
) -> float:
    """Test accuracy of a network trained and tested on pixels in this order."""
    torch.manual_seed(0)
    model = sp.examples.train_network(make(), order(images) - 0.5, labels, epochs=3)
    with torch.no_grad():
        return float(
            (model(order(test_images) - 0.5).argmax(1) == test_labels).float().mean()
        )


# %%
# Four trainings, a few seconds each.

found = {
    name: (accuracy(make, torch.Tensor.clone), accuracy(make, permutation))
    for name, make in {
        "CNN": sp.examples.PatternNetwork,
        "MLP": without_convolutions,
    }.items()
}

# %%
# What the arrangement of pixels is worth to each.

figure = Figure(figsize=(8.6, 3.4), layout="constrained")
plain, moved, bars = figure.subplots(1, 3, width_ratios=[1, 1, 1.5])
plain.imshow(test_images[1].permute(1, 2, 0).numpy())
moved.imshow(permutation(test_images[1]).permute(1, 2, 0).numpy())
for axes, title in ((plain, "an image"), (moved, "its pixels in another order")):
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
for place, values in enumerate(found.values()):
    for offset, value, color in zip(
        (-0.2, 0.2), values, ("#2b2f5e", "#c9862b"), strict=True
    ):
        bars.bar(place + offset, 100 * value, 0.36, color=color)
        bars.annotate(
            f"{100 * value:.0f} %",
            (place + offset, 100 * value),
            ha="center",
            va="bottom",
            fontsize=8,
        )
bars.axhline(
    100 / len(sp.examples.CLASSES), color="#808088", linestyle=":", linewidth=1
)
bars.set_xticks(range(len(found)), list(found))
bars.set_ylabel("test accuracy (%), chance dotted", fontsize=9)
bars.spines[["top", "right"]].set_visible(False)
figure.suptitle("In order (blue) and permuted (orange), trained on drawn patterns")
figure.savefig("pixel_permutation.png")
