"""
What a channel looks for
========================

A channel's top-activating patches, and how much they have in common: the mean correlation between them, beside that
of random patches of the same size.
"""

from __future__ import annotations

from functools import partial

import torch
from ready import patterns, trained
from training import as_input

import spatialprobe as sp

# %%
# One pass over the test images finds the top nine of each channel of conv2, and where.

data, model = patterns(), trained()
images = as_input(data.test_images, torch.device("cpu"))
sweep = sp.sweep(model, images, {"top": partial(sp.Exemplars, k=9)}, layers="conv2", progress=False)
top, field = sweep["conv2"]["top"], sp.receptive_fields(model, images[:1])["conv2"]

# %%
# How alike they are, channel by channel.

found = sp.evidence.patch_coherence(top, images, field)
print(found)

# %%
# The six most coherent channels, a row each.

shown = sorted(found.values.argsort()[::-1][:6].tolist())
words = ", ".join(f"{channel}: {found.values[channel]:.2f}" for channel in shown)
figure = sp.exemplar_patches(top, images, field, channels=shown).figure(
    title=f"conv2's most coherent channels, on {data.name}. {words}; random patches: {found.random:.2f}"
)
figure.savefig("patch_coherence.png")
