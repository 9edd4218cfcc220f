"""
Kernels without their pattern
=============================

Averaged kernels keep what they weigh each color with, shuffled ones keep their numbers; both lose the arrangement, and
nothing else. How much of the answer goes with it? The head is trained again on the outputs of the changed kernels: the
old one would only meet values that it does not know.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from ready import patterns, trained
from simple_cnn import SimpleCNN
from torch import nn
from training import evaluate, train

import spatialprobe as sp

data, model = patterns(), trained()


def with_new_head(changed: nn.Module) -> float:
    """Test accuracy with these convolutions, frozen, and a head trained on their outputs."""
    torch.manual_seed(1)
    fresh = SimpleCNN()
    for name, parameter in changed.named_parameters():
        if name.startswith("conv"):
            fresh.get_parameter(name).requires_grad_(False).copy_(parameter.detach())
    train(fresh, data.train_images, data.train_labels, epochs=1, seed=0)
    return evaluate(fresh, data.test_images, data.test_labels).accuracy


# %%
# The trained kernels, two operations on them, and kernels that training never touched.

versions = {
    "trained": model,
    "taps shuffled": sp.evidence.kernel_surgery(model, nn.Conv2d, how="shuffle"),
    "taps averaged": sp.evidence.kernel_surgery(model, nn.Conv2d, how="mean"),
    "random": sp.evidence.frozen_copy(model, seed=1),
}

# %%
# conv1's kernels, and what a new head makes of both convolutions.

figure = Figure(figsize=(11, 2.8), layout="constrained")
for axes, (name, changed) in zip(figure.subplots(1, len(versions)), versions.items(), strict=True):
    axes.imshow(sp.kernels(changed.get_submodule("conv1")).array)
    axes.set_title(f"{name}: a new head reaches {with_new_head(changed):.0%}", fontsize=9)
    axes.set_axis_off()
figure.suptitle(f"conv1's kernels, on {data.name}; chance is {1 / len(data.classes):.0%}")
figure.savefig("kernel_surgery.png")
