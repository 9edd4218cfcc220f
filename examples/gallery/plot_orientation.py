"""
Orientation tuning
==================

Orientation tuning, as physiologists measure it: gratings of many directions, frequencies and phases are shown; around
each circle runs how strongly a channel of conv1 answers to each direction. A long thin shape is a detector of one
orientation, a circle prefers none. Kernels drawn at random are selective to some degree as well, so the rows have to be
compared.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

import spatialprobe as sp


def draw(axes: PolarAxes, tuning: sp.evidence.OrientationTuning, channel: int) -> None:
    """One channel's answers at its best frequency, the strongest as 1."""
    best = tuning.response[channel].max(axis=0).argmax()
    answers = (
        tuning.response[channel, :, best] / tuning.response[channel, :, best].max()
    )
    around = np.radians([*tuning.angles, *(tuning.angles + 180), 360])
    axes.fill(around, [*answers, *answers, answers[0]], color="#2b2f5e", alpha=0.3)
    axes.plot(around, [*answers, *answers, answers[0]], color="#2b2f5e")
    axes.set_theta_direction(-1)  # y points down, as in the image
    axes.set_yticks([])
    axes.set_xticks([0, np.pi / 2], ["0°", "90°"], fontsize=7)
    preferred = (
        f"{tuning.angle[channel]:.0f}°"
        if tuning.selectivity[channel] > 0.05
        else "no direction"
    )
    axes.set_title(
        f"{preferred}, selectivity {tuning.selectivity[channel]:.2f}", fontsize=8
    )


# %%
# The same network before and after training on ten drawn patterns.

torch.manual_seed(0)
tunings = {
    "before training": sp.evidence.orientation_tuning(
        sp.examples.PatternNetwork(), "conv1"
    ),
    "after training": sp.evidence.orientation_tuning(
        sp.examples.load_network(), "conv1"
    ),
}

# %%
# 0° is brightness that changes to the right, so upright stripes; 90° lying ones.

figure = Figure(figsize=(9.6, 8.4), layout="constrained")
figure.suptitle("conv1's answers to gratings of each direction", weight="bold")
rows = figure.add_gridspec(2, 1)
for row, (when, tuning) in enumerate(tunings.items()):
    part = figure.add_subfigure(rows[row])
    part.suptitle(
        f"{when}: mean selectivity {tuning.selectivity.mean():.2f}", fontsize=10
    )
    circles = part.subplots(
        2, len(tuning.angle) // 2, subplot_kw={"projection": "polar"}
    )
    for channel, axes in enumerate(circles.flat):
        draw(axes, tuning, channel)
figure.savefig("orientation.png")
