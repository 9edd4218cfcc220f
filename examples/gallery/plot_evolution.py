"""
Feature maps during training
============================

The same image through checkpoints of one training. All steps are on one scale, so that what grows is seen to grow.
"""

from __future__ import annotations

from pathlib import Path

import torch

import spatialprobe as sp

# %%
# Records are taken before training and after each of three short pieces of it.

photo = sp.examples.load_photo(128)[None]
images, labels = sp.examples.draw_patterns(8000)
torch.manual_seed(0)
model, steps = sp.examples.PatternNetwork(), {}
for before, images_seen in ((0, 0), (0, 2000), (2000, 4000), (4000, 8000)):
    if images_seen:
        piece = slice(before, images_seen)
        sp.examples.train_network(model, images[piece], labels[piece])
    record = sp.capture(model, photo, layers="conv2", at="post_activation")["conv2"]
    steps[f"{images_seen} images"] = record

# %%
# The six strongest channels as one sheet, and as an animation.

evolution = sp.evolution(steps, order="mean", limit=6)
evolution.figure(title="conv2 while it learns").savefig("evolution.png")
Path("evolution.gif").write_bytes(evolution.to_gif())
