"""
Which channels does the network need?
=====================================

Each channel is switched off in turn, while the model itself stays as it is, and the test images are classified again. A
channel may look striking and be good for nothing; this is how one tells.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from ready import patterns, trained
from training import evaluate

import spatialprobe as sp

# %%
# Accuracy without each channel of conv2, set to the mean that it has over the test images, since zero is unusual.

data, model = patterns(), trained()
images, labels = data.test_images[:1000], data.test_labels[:1000]
whole = evaluate(model, images, labels).accuracy
means = sp.sweep(model, images / 255, {"moments": sp.Moments}, layers="conv2", progress=False)["conv2"]["moments"].mean
accuracies = []
for channel, mean in enumerate(means.tolist()):
    with sp.edited(model, {"conv2": sp.ablate([channel], value=mean)}):
        accuracies.append(evaluate(model, images, labels).accuracy)

# %%
# The largest drop is the channel that is needed most.

figure = Figure(figsize=(7.5, 3.4), layout="constrained")
axes = figure.subplots()
axes.bar(range(len(accuracies)), [100 * accuracy for accuracy in accuracies], color="#8c8fb8")
axes.axhline(100 * whole, color="black", linewidth=0.8, linestyle=":")
axes.text(len(accuracies) - 0.5, 100 * whole, "all channels", ha="right", va="bottom", fontsize=8)
axes.set_ylim(0, 115 * whole)
axes.set_xticks(range(len(accuracies)))
axes.set_xlabel("channel of conv2 that is held at its mean")
axes.set_ylabel("accuracy in %")
axes.set_title(f"{len(images)} test images of {data.name}", fontsize=9)
figure.savefig("ablation.png")
