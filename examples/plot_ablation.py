"""
Channel ablation
================

Each channel is switched off in turn, while the model itself stays as it is, and the test images are classified again. A
channel may look striking and be good for nothing; this is how one tells.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

import spatialprobe as sp

# %%
# Accuracy without each channel of conv4, set to the mean that it has over the test images, since zero is unusual.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(500, seed=1)


@torch.no_grad()
def accuracy() -> float:
    """Return the share of right answers."""
    return float((model(images).argmax(1) == labels).float().mean())


whole = accuracy()
swept = sp.sweep(model, images, {"moments": sp.Moments}, layers="conv4", progress=False)
accuracies = []
for channel, mean in enumerate(swept["conv4"]["moments"].mean.tolist()):
    with sp.edited(model, {"conv4": sp.ablate([channel], value=mean)}):
        accuracies.append(accuracy())

# %%
# The largest drop is the channel that is needed most.

figure = Figure(figsize=(7.5, 3.4), layout="constrained")
axes = figure.subplots()
axes.bar(range(len(accuracies)), [100 * share for share in accuracies], color="#8c8fb8")
axes.axhline(100 * whole, color="black", linewidth=0.8, linestyle=":")
axes.text(len(accuracies) - 0.5, 100 * whole, "all channels", ha="right", va="bottom", fontsize=8)
axes.set_ylim(0, 115 * whole)
axes.set_xticks(range(len(accuracies)))
axes.set_xlabel("channel of conv4 that is held at its mean")
axes.set_ylabel("accuracy in %")
axes.set_title(f"{len(images)} drawn patterns", fontsize=9)
figure.savefig("ablation.png")
