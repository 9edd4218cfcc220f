"""
Two checkpoints compared by CKA
===============================

Two checkpoints of one training, side by side: how alike their layers are, and which channels changed most. Untrained
kernels are the control: part of the likeness is in the pixels themselves.
"""

from __future__ import annotations

import copy

import torch

import spatialprobe as sp

# %%
# A network before training, and after one epoch and ten, of a thousand images each.

patterns, labels = sp.examples.draw_patterns(1000)
images, _ = sp.examples.draw_patterns(512, seed=1)
torch.manual_seed(0)
model = sp.examples.PatternNetwork()
checkpoints = [copy.deepcopy(model)]
for first in (0, 1):
    sp.examples.train_network(
        model, patterns, labels, epochs=9 if first else 1, seed=first
    )
    checkpoints.append(copy.deepcopy(model))
untrained, early, late = checkpoints

# %%
# The last checkpoint beside the others: how similar each layer is to its namesake, with the standard error.

for found in sp.compare(late, [untrained, early], images, progress=False):
    print(found)

# %%
# The similarities of all layers, and the channels that ten epochs changed most, on one image.

comparison = sp.compare(untrained, late, images, progress=False)
figure = comparison.figure(title="A network before and after ten epochs")
figure.savefig("compare.png")

# %%
# A network that began with other kernels has its channels in another order; `match` pairs them by correlation.

torch.manual_seed(1)
stranger = sp.examples.train_network(
    sp.examples.PatternNetwork(), patterns, labels, epochs=10, seed=1
)
paired = sp.compare(late, stranger, images, progress=False)["conv1"]
print("namesakes correlate by", paired.correlation.numpy().round(2))
print("matched channels by   ", paired.match_correlation.numpy().round(2))
