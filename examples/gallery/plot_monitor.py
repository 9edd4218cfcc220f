"""
Monitor of a training
=====================

A monitor around a training loop, which is not changed: with the same seed the weights end the same, bit for bit. At
every tenth step it takes the statistics of each layer and of its gradients, and the maps of one fixed image.
"""

from __future__ import annotations

import torch

import spatialprobe as sp

# %%
# One pass over 4,000 drawn patterns, in batches of 50. `train_network` is an ordinary loop.

images, labels = sp.examples.draw_patterns(4000)
torch.manual_seed(0)
model = sp.examples.PatternNetwork()
with sp.Monitor(
    model,
    {"moments": sp.Moments, "dead": sp.Dead},
    at="post_activation",
    every=10,
    gradients=True,
    images=sp.examples.load_photo(128)[None],
) as monitor:
    sp.examples.train_network(model, images, labels)
history = monitor.history
print(history)

# %%
# The spread of each layer's activations, and of the gradients that reach them: a line for each layer, and the same as
# colors.

spread = history.figure("moments.std", title="Spread of the activations")
spread.savefig("monitor.png")
gradients = history.figure("moments.gradient.std", title="Spread of the gradients")

# %%
# The share of channels that were zero for all images of the step.

dead = history.figure("dead.dead", title="Share of dead channels")

# %%
# What the second layer makes of a photo, from the first step on. All steps are on one scale, so that what grows is
# seen to grow.

maps = history.to_gif("monitor.gif", "conv2", seconds=0.25)
