"""
Patch coherence
===============

A channel's top-activating patches, and how much they have in common: the mean correlation between them, beside that
of random patches of the same size.
"""

from __future__ import annotations

from functools import partial

import spatialprobe as sp

# %%
# One pass over 600 patterns finds the top nine of each channel of conv4, and where.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(600, seed=1, size=64)
sweep = sp.sweep(
    model, images, {"top": partial(sp.Exemplars, k=9)}, layers="conv4", progress=False
)
top, field = sweep["conv4"]["top"], sp.receptive_fields(model, images[:1])["conv4"]

# %%
# How alike they are, channel by channel.

found = sp.evidence.patch_coherence(top, images, field)
print(found)

# %%
# The six most coherent channels, a row each.

shown = sorted(found.values.argsort()[::-1][:6].tolist())
words = ", ".join(f"{channel}: {found.values[channel]:.2f}" for channel in shown)
figure = sp.exemplar_patches(top, images, field, channels=shown).figure(
    title=f"conv4's most coherent channels, on drawn patterns. {words}; random patches: {found.random:.2f}"
)
figure.savefig("patch_coherence.png")
