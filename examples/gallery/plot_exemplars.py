"""
Top-activating patches
======================

One sweep over a data set finds, for each channel, the units with the largest values; their receptive fields cut
out exactly the pixels that they saw. What the patches of a row have in common is what the channel detects.
"""

from __future__ import annotations

import spatialprobe as sp

# %%
# The sweep also counts, in the same pass, how often each channel fires.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(600, seed=1, size=64)
result = sp.sweep(
    model,
    images,
    {"top": sp.Exemplars, "dead": sp.Dead, "values": sp.Histogram},
    at="post_activation",
    progress=False,
)
print(
    "conv4 channels that never fire:",
    result["conv4"]["dead"].dead.nonzero().flatten().tolist(),
)

# %%
# A row for each of six channels of the fourth layer, units whose field lies within the image first.

field = sp.receptive_fields(model, images[:1], layers="conv4", at="post_activation")[
    "conv4"
]
patches = sp.exemplar_patches(
    result["conv4"]["top"], images, field, channels=[0, 3, 4, 13, 14, 18], interior=True
)
patches.figure(title="Top-activating patches of conv4 in drawn patterns").savefig(
    "exemplars.png"
)

# %%
# And how its values are distributed, over all places of all images.

histogram = sp.activation_histogram(result["conv4"]["values"])
