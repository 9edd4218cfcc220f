"""
Feature maps of every layer
===========================

What each convolution makes of one image, after its nonlinearity, on a scale of the layer's own. Dead channels, which
are zero everywhere, are hatched: black alone could mean anything.
"""

from __future__ import annotations

import torch

import spatialprobe as sp

# %%
# The trained network and the photo that ship with the library. `at="post_activation"` takes the value after the
# ReLU, which is a function call inside the model's `forward`.

model, photo = sp.examples.load_network(), sp.examples.load_photo()
with torch.no_grad(), sp.Probe(model, at="post_activation") as probe:
    model(photo[None])
print(probe)

# %%
# One picture for all layers. Channel numbers are those of the layer; the color bar holds for all maps above it.

maps = sp.feature_maps(probe)
maps.figure(
    title="A photo, seen by a network that was trained on drawn patterns"
).savefig("feature_maps.png")

# %%
# Many channels: the strongest ones, and how many are hidden. The scale is robust: a single bright pixel does not
# darken all the rest. The end of the bar is marked with "≥", and the caption says how many values lie beyond it.

strongest = sp.feature_maps(probe["conv2"], order="max", limit=4)
