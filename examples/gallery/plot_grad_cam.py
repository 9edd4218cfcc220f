"""
Grad-CAM in ten lines
=====================

Where did the network look when it chose its answer? The activation and its gradient come from one record; the rest is
the formula of Selvaraju et al. 2017: each channel weighs as much as its mean gradient, and what is positive in the
weighted sum spoke for the answer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp


def grad_cam(model: nn.Module, images: torch.Tensor, layer: str) -> torch.Tensor:
    """How much each place of the image speaks for the model's answer, (N, H, W), at least 0."""
    with sp.Probe(model, layer, at="post_activation", gradients=True) as probe:
        logits = model(images)
    logits.max(dim=1).values.sum().backward()
    record = probe[layer]
    assert record.gradient is not None  # since gradients=True
    weights = record.gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * record.tensor).sum(dim=1, keepdim=True).relu()
    return F.interpolate(cam, images.shape[2:], mode="bilinear")[:, 0]


# %%
# The trained network that ships with the library.

model, classes = sp.examples.load_network(), sp.examples.CLASSES

# %%
# Eight patterns that it has not seen; below each, what spoke for the answer, each map on a scale of its own.

images, labels = sp.examples.draw_patterns(8, seed=1)
cams = grad_cam(model, images, "conv4").detach()
answers = model(images).argmax(1)

figure = Figure(figsize=(12, 3.6), layout="constrained")
for column, (above, below) in enumerate(figure.subplots(2, 8).T):
    above.imshow(images[column].permute(1, 2, 0).numpy())
    above.set_title(
        f"{classes[labels[column]]}\n-> {classes[answers[column]]}", fontsize=8
    )
    below.imshow(images[column].mean(0).numpy(), cmap="gray")
    below.imshow(cams[column].numpy(), cmap="viridis", alpha=0.6)
    above.set_axis_off()
    below.set_axis_off()
figure.suptitle("Grad-CAM of conv4 on drawn patterns: the class -> the answer")
figure.savefig("grad_cam.png")
