"""
A network watched while it learns
=================================

A monitor around a training loop, which is not changed: with the same seed the weights end the same, bit for bit. At
every hundredth step it takes the statistics of each layer and of its gradients, and the maps of one fixed image.
"""

from __future__ import annotations

import torch
from ready import patterns
from simple_cnn import SimpleCNN
from training import as_input, train

import spatialprobe as sp

# %%
# The loop is the study's own, one pass over the drawn patterns in batches of four.

data = patterns()
image = as_input(data.test_images[49:50], torch.device("cpu"))
torch.manual_seed(0)
model = SimpleCNN()
with sp.Monitor(
    model,
    {"moments": sp.Moments, "dead": sp.Dead},
    at="post_activation",
    every=100,
    gradients=True,
    images=image,
) as monitor:
    train(model, data.train_images, data.train_labels, epochs=1, seed=0)
history = monitor.history
print(history)

# %%
# The spread of each layer's activations, and of the gradients that reach them: a line for each layer, and the same as
# colors.

spread = history.figure("moments.std", title="Spread of the activations")
spread.savefig("monitor.png")
gradients = history.figure("moments.gradient.std", title="Spread of the gradients")

# %%
# The share of channels that were zero for all four images of the step.

dead = history.figure("dead.dead", title="Share of dead channels")

# %%
# What the second layer makes of one image, from the first step on. All steps are on one scale, so that what grows is
# seen to grow.

maps = history.to_gif("monitor.gif", "conv2", seconds=0.25)
