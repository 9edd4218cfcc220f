"""
Maps that change while a network learns
=======================================

The same image through checkpoints of one training. All steps are on one scale, so that what grows is seen to grow.
"""

from __future__ import annotations

from pathlib import Path

import torch
from ready import patterns
from simple_cnn import SimpleCNN
from training import as_input, train

import spatialprobe as sp

# %%
# Records are taken before training and after each of three short pieces of it.

data = patterns()
image = as_input(data.test_images[49:50], torch.device("cpu"))
torch.manual_seed(0)
model, steps = SimpleCNN(), {}
for before, images_seen in ((0, 0), (0, 2000), (2000, 4000), (4000, 8000)):
    if images_seen:
        piece = slice(before, images_seen)
        train(model, data.train_images[piece], data.train_labels[piece], epochs=1, seed=0)
    record = sp.capture(model, image, layers="conv2", at="post_activation")["conv2"]
    steps[f"{images_seen} images"] = record

# %%
# As one sheet, and as an animation.

evolution = sp.evolution(steps, scale="all")
evolution.figure(title="conv2 while it learns").savefig("evolution.png")
Path("evolution.gif").write_bytes(evolution.to_gif())
