"""
What ten epochs change
======================

Two checkpoints of one training, side by side: how alike their layers are, and which channels changed most. Untrained
kernels are the control: part of the likeness is in the pixels themselves.
"""

from __future__ import annotations

import copy

import torch
from ready import patterns
from simple_cnn import SimpleCNN
from training import as_input, train

import spatialprobe as sp

# %%
# A network before training, and after one epoch and ten, of a thousand images each.

data = patterns()
images = as_input(data.test_images[:512], torch.device("cpu"))
torch.manual_seed(0)
model = SimpleCNN()
checkpoints = [copy.deepcopy(model)]
for first in (0, 1):
    train(model, data.train_images[:1000], data.train_labels[:1000], epochs=9 if first else 1, seed=first)
    checkpoints.append(copy.deepcopy(model))
untrained, early, late = checkpoints

# %%
# The last checkpoint beside the others: how similar each layer is to its namesake, with the standard error.

for found in sp.compare(late, [untrained, early], images, progress=False):
    print(found)

# %%
# The similarities of all layers, and the channels that ten epochs changed most, on one image.

comparison = sp.compare(untrained, late, images, progress=False)
comparison.figure(title="SimpleCNN before and after ten epochs").savefig("compare.png")

# %%
# A network that began with other kernels has its channels in another order; `match` pairs them by correlation.

torch.manual_seed(1)
stranger = SimpleCNN()
train(stranger, data.train_images[:1000], data.train_labels[:1000], epochs=10, seed=1)
paired = sp.compare(late, stranger, images, progress=False)["conv1"]
print("namesakes correlate by", paired.correlation.numpy().round(2))
print("matched channels by   ", paired.match_correlation.numpy().round(2))
