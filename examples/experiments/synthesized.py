"""What drives each channel: synthesized images, with the motif that each channel's active units coincide with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

COLUMNS = 6
SHAPE = (3, 32, 32)
Motifs: TypeAlias = Mapping[str, Sequence[str | None]]  # layer -> the motif of each channel, if it has one


def figure(cnn: nn.Module, motifs: Motifs, source: str) -> Figure:
    """Return for each channel an image that drives the mean of its map up; below, number and motif."""
    made = {
        layer: sp.maximize_activation(cnn, layer, shape=SHAPE, unit="all", seed=0, progress=False) for layer in motifs
    }
    rows = {layer: -(-len(found.channels) // COLUMNS) for layer, found in made.items()}
    panels = Figure(figsize=(8.2, 1.55 * sum(rows.values()) + 0.9), layout="constrained", facecolor="white")
    parts = panels.subfigures(len(made), 1, squeeze=False, height_ratios=[count + 0.2 for count in rows.values()])
    for part, (layer, found) in zip(parts[:, 0], made.items(), strict=True):
        part.suptitle(layer, fontsize=9.5)
        places = part.subplots(rows[layer], COLUMNS, squeeze=False).flatten()
        for channel, axes in enumerate(places):
            axes.set_axis_off()
            if channel < len(found.channels):
                motif = "nothing moves it" if found.unmoved[channel] else motifs[layer][channel] or "no motif"
                axes.imshow(found.patches[channel].permute(1, 2, 0).numpy(), interpolation="nearest")
                axes.set_title(f"{channel}: {motif}", fontsize=7.5, y=-0.2)
    title = f"Images synthesized to drive each channel's map up, trained on {source}"
    panels.suptitle(title, fontsize=11, weight="bold")
    return panels


def best_motifs(alignment: Mapping[str, Mapping[str, Sequence[str | None]]]) -> Motifs:
    """Return the motifs that `measures.alignments` found."""
    return {layer: found["best"] for layer, found in alignment.items()}
