"""
Channel ablation
================

Each channel is held at its mean in turn, while the model itself stays as it is, and the same patterns are classified
again. A channel may look striking and be good for nothing; this is how one tells what it is good for.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

import spatialprobe as sp

# %%
# The mean of each channel of conv4 over 500 patterns. It is a milder value to hold a channel at than zero, which may be
# unusual for it.

model, classes = sp.examples.load_network(), sp.examples.CLASSES
images, labels = sp.examples.draw_patterns(500, seed=1)
swept = sp.sweep(model, images, {"moments": sp.Moments}, layers="conv4", progress=False)
means = swept["conv4"]["moments"].mean.tolist()

# %%
# How far the score of the right class falls without each channel, on average over the patterns of each class.


@torch.no_grad()
def mean_scores() -> torch.Tensor:
    """Return the mean score of the right class, for each class."""
    scores = model(images).gather(1, labels[:, None])[:, 0]
    return torch.stack(
        [scores[labels == label].mean() for label in range(len(classes))]
    )


whole, falls = mean_scores(), []
for channel, mean in enumerate(means):
    with sp.edited(model, {"conv4": sp.ablate([channel], value=mean)}):
        falls.append(whole - mean_scores())

# %%
# Each row is what one class needs.

fall = torch.stack(falls, dim=1).numpy()
limit = float(abs(fall).max())
figure = Figure(figsize=(8.5, 3.8), layout="constrained")
axes = figure.subplots()
shown = axes.imshow(fall, cmap="PuOr_r", vmin=-limit, vmax=limit)
axes.set_yticks(range(len(classes)), classes, fontsize=8)
axes.set_xticks(
    range(len(falls)), [str(channel) for channel in range(len(falls))], fontsize=8
)
axes.set_xlabel("channel of conv4 that is held at its mean")
axes.set_title("How far the score of the right class falls", fontsize=10)
figure.colorbar(shown, label="logits", shrink=0.8)
figure.savefig("ablation.png")
