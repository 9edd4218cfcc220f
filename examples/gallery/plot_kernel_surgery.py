"""
Kernel surgery
==============

Averaged kernels keep what they weigh each color with, shuffled ones keep their numbers; both lose the arrangement, and
nothing else. How much of the answer goes with it? The head is trained again on the outputs of the changed kernels: the
old one would only meet values that it does not know.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(2000)
test_images, test_labels = sp.examples.draw_patterns(1000, seed=1)


def with_new_head(changed: nn.Module) -> float:
    """Test accuracy with these convolutions, frozen, and a head trained on their outputs."""
    torch.manual_seed(1)
    fresh = sp.examples.PatternNetwork()
    for name, parameter in changed.named_parameters():
        if name.startswith("conv"):
            fresh.get_parameter(name).requires_grad_(False).copy_(parameter.detach())
    sp.examples.train_network(fresh, images, labels, epochs=2)
    with torch.no_grad():
        return float((fresh(test_images).argmax(1) == test_labels).float().mean())


# %%
# The trained kernels, two operations on them, and kernels that training never touched.

versions = {
    "trained": model,
    "taps shuffled": sp.evidence.kernel_surgery(model, nn.Conv2d, how="shuffle"),
    "taps averaged": sp.evidence.kernel_surgery(model, nn.Conv2d, how="mean"),
    "random": sp.evidence.frozen_copy(model, seed=1),
}

# %%
# conv1's kernels, and what a new head makes of the four convolutions.

figure = Figure(figsize=(11, 2.8), layout="constrained")
for axes, (name, changed) in zip(
    figure.subplots(1, len(versions)), versions.items(), strict=True
):
    axes.imshow(sp.kernels(changed.get_submodule("conv1")).array)
    axes.set_title(
        f"{name}: a new head reaches {with_new_head(changed):.0%}", fontsize=9
    )
    axes.set_axis_off()
figure.suptitle(
    f"conv1's kernels, on drawn patterns; chance is {1 / len(sp.examples.CLASSES):.0%}"
)
figure.savefig("kernel_surgery.png")
