"""
Effective receptive field
=========================

The receptive field says which pixels can move a unit; the effective field says how much each of them does: the
gradient of the unit with respect to the input, its absolute value summed over channels and averaged over images
[Luo et al. 2016].
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import spatialprobe as sp

# %%
# The unit in the middle of conv4, in a trained network and in one as it was initialized.

images, _ = sp.examples.draw_patterns(64, seed=1)
torch.manual_seed(0)
networks = {
    "as initialized": sp.examples.PatternNetwork().eval(),
    "trained": sp.examples.load_network(),
}
found = {
    name: sp.effective_receptive_field(model, images, "conv4")
    for name, model in networks.items()
}
for name, effective in found.items():
    print(name, effective)

# %%
# Shares of the whole, on one scale; the frame is the receptive field.

top = max(effective.map.max() for effective in found.values())
figure = Figure(figsize=(8, 4), layout="constrained")
for axes, (name, effective) in zip(figure.subplots(1, 2), found.items(), strict=True):
    shown = axes.imshow(effective.map, vmin=0, vmax=top)
    (y, x), (height, width) = effective.box.start, effective.box.shape
    axes.add_patch(
        Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor="white")
    )
    axes.set_title(
        f"{name}: half its mass within {effective.sides[0.5]} pixels", fontsize=9
    )
figure.colorbar(shown, ax=figure.axes, label="share of the whole", shrink=0.8)
figure.savefig("effective_field.png")

# %%
# One field by itself: its box, the squares that hold half and 99 % of its mass, its numbers, and an input beside it.

alone = sp.effective_field_map(found["trained"], images[0])
alone.figure().savefig("effective_field_alone.png")
print(alone.caption)
