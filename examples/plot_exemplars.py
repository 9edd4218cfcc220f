"""
Top-activating patches
===========================

One sweep over the test images finds, for each channel, the units with the largest values; their receptive fields cut
out exactly the pixels that they saw. What the patches of a row have in common is what the channel detects.
"""

from __future__ import annotations

import torch
from ready import patterns, trained
from training import as_input

import spatialprobe as sp

# %%
# The sweep also counts, in the same pass, how often each channel fires.

data, model = patterns(), trained()
images = as_input(data.test_images, torch.device("cpu"))
result = sp.sweep(
    model, images, {"top": sp.Exemplars, "dead": sp.Dead, "values": sp.Histogram}, at="post_activation", progress=False
)
print("conv2 channels that never fire:", result["conv2"]["dead"].dead.nonzero().flatten().tolist())

# %%
# A row for each channel of the second layer, units whose field lies within the image first.

field = sp.receptive_fields(model, (1, 3, 32, 32), layers="conv2", at="post_activation")["conv2"]
patches = sp.exemplar_patches(result["conv2"]["top"], images, field, channels=range(6), interior=True)
patches.figure(title=f"Top-activating patches of conv2 in {data.name}").savefig("exemplars.png")

# %%
# And how its values are distributed, over all places of all images.

histogram = sp.activation_histogram(result["conv2"]["values"])
