"""
Attribution, checked by deletion
================================

Which channels, at which places, does a network's answer rest on? The map is drawn from each value times its gradient
[Shrikumar et al. 2016], and checked: without the channels that it names the score must fall further than without as
many random ones.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

import spatialprobe as sp

# %%
# Test images of the drawn patterns, and what each channel contributes to the score of the answer.

model = sp.examples.load_network()
images, labels = sp.examples.draw_patterns(64, seed=1)
found = sp.attribute(model, images, layers=["conv2", "conv4"])
print(found)

# %%
# The check, for both layers: the score falls without each image's own top channels, hardly without random ones, and
# rises without those that speak against the answer.

checks = {
    layer: sp.evidence.channel_deletion(model, images, one, k=3)
    for layer, one in found.items()
}
for check in checks.values():
    print(check)

# %%
# One image of those whose score is highest: violet speaks for the answer, orange against it. The caption says what was
# removed, and what that did.

sample = int(found["conv4"].score.argmax())
why = found["conv4"].plot(sample, deletion=checks["conv4"])
why.savefig("attribution.png")

# %%
# The same over all images: how far scores fall, in logits.

figure = Figure(figsize=(8, 3.2), layout="constrained")
for axes, (layer, check) in zip(figure.subplots(1, 2), checks.items(), strict=True):
    falls = {"top": check.values, "random": check.random, "lowest": check.lowest}
    axes.boxplot(list(falls.values()), whis=(5, 95), showfliers=False)
    axes.set_xticks(np.arange(1, 4), list(falls))
    axes.axhline(0, color="gray", linewidth=0.5)
    axes.set_title(
        f"{layer}: without {check.k} of {check.channels} channels", fontsize=9
    )
    axes.set_ylabel("fall of the score")
