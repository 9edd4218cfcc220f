"""
Concepts of channels
====================

Where a channel is most active, is the pixel part of a horizontal stripe, a ring, a corner? The drawn patterns know
which pixels belong to their motif, so that channels can be held against ten concepts [Bau et al. 2017], and against
the masks of other images as a control.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import spatialprobe as sp

# %%
# Images with masks: in each, the pixels of the motif have the number of its class.

model = sp.examples.load_network()
images, labels, masks = sp.examples.draw_masked_patterns(1000, seed=1)
data = list(zip(images, masks, strict=True))

# %%
# On one half of the images each channel's best concept is chosen, on the other half its margin is measured: the best of
# ten would look good by chance alone.

half = len(data) // 2
names, layers = sp.examples.CLASSES, ["conv1", "conv4"]
chosen = sp.evidence.concept_alignment(
    model, data[:half], layers, concepts=names, quantile=0.05, progress=False
)
measured = sp.evidence.concept_alignment(
    model, data[half:], layers, concepts=names, quantile=0.05, progress=False
)
for found in measured.values():
    print(found)

# %%
# Each channel's choice on the other half: bars are intersections over unions, ticks those with the masks of other
# images.

figure = Figure(figsize=(9, 5.8), layout="constrained")
for axes, (layer, found) in zip(
    figure.subplots(1, 2, sharex=True), measured.items(), strict=True
):
    best = chosen[layer].best
    rows = range(len(best))
    axes.barh(rows, found.iou[rows, best], color="#3b6ea5", label="own masks")
    axes.plot(
        found.control[rows, best],
        rows,
        "|",
        color="black",
        markersize=9,
        label="masks of other images",
    )
    axes.set_yticks(
        rows, [f"{row}: {names[one]}" for row, one in enumerate(best)], fontsize=8
    )
    axes.set_title(f"{layer}: intersection over union", fontsize=9)
    axes.invert_yaxis()
figure.legend(
    *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8
)
figure.savefig("concepts.png", dpi=150)
