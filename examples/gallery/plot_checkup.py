"""
Checkup of a faulty model
=========================

Five faults are planted in a healthy network, none of which raises an error: it still takes images and returns logits.
A checkup names each, with the measurement that shows it and what to do about it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp

# %%
# A network of two convolutions with batch norms, trained on the drawn patterns.


class Network(nn.Module):
    """Two convolutions with batch norms, and a classifier of the mean over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 12, 5, padding=2), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 24, 5, padding=2), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 10)
        self.forgetful = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2)
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.dropout(x, 0.2) if self.forgetful else x
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


torch.manual_seed(0)
model = sp.examples.train_network(Network(), *sp.examples.draw_patterns(4000), epochs=2)
images, labels = sp.examples.draw_patterns(256, seed=1)
healthy = sp.checkup(model, images)
print(healthy)

# %%
# What passed says what was measured, and what was skipped why.

for rule, sentence in [*healthy.passed.items(), *healthy.skipped.items()]:
    print(f"{rule}: {sentence}")

# %%
# Now the faults: dropout that also drops in evaluation mode, three channels that are never above zero, a stride that is
# larger than the kernel, a layer that nothing calls, and images in 0 to 255 for a network that was trained on 0 to 1.

model.forgetful = True
with torch.no_grad():
    model.norm1.weight[[2, 5, 9]] = 0.0
    model.norm1.bias[[2, 5, 9]] = -1.0
model.conv1.stride = (6, 6)
model.auxiliary = nn.Conv2d(24, 10, 1)
found = sp.checkup(model, 255 * images)
print(found)

# %%
# Each finding says what was measured, and what to do.

for one in found.findings:
    print(
        f"{one.severity}, {one.rule} in {one.where}:\n  {one.evidence}\n  {one.advice}\n"
    )

# %%
# And each has a picture, but for a mode. The dead channels come first, hatched, beside those that answer.

dead = found.of("dead_channels")[0].plot()
dead.savefig("checkup.png")

# %%
# Where no unit looks, the image is crimson.

unseen = found.of("uncovered_pixels")[0].plot()

# %%
# Every channel of the first norm sees other statistics than it was trained on.

statistics = found.of("batch_norm_mismatch")[0].plot()
