"""How similar the layers of networks are: linear CKA, as matrices of a row for each layer of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from experiments.verdicts import Findings
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

LAYERS = ("conv1", "conv2", "fc1")
OTHERS = {
    "random": "the same network before training",
    "permuted": "trained on permuted pixels",
    "seed": "trained from another seed",
}


def matrices(
    one: nn.Module, others: Mapping[str, nn.Module], images: torch.Tensor, layers: Sequence[str] = LAYERS
) -> dict[str, dict[str, dict[str, float]]]:
    """Return for each other network the similarity of every layer of the one with every layer of the other."""
    compared = sp.compare(one, list(others.values()), images, layers=list(layers), at="post_activation", progress=False)
    return {
        name: {
            row: dict(zip(found.other_layers, map(float, values), strict=True))
            for row, values in zip(found.layers, found.cka, strict=True)
        }
        for name, found in zip(others, compared, strict=True)
    }


def figure(findings: Findings, source: str) -> Figure:
    """Return the matrices of the trained SimpleCNN with each other network, mean over seeds."""
    names = list(findings.of_seed[0]["similarity"])
    panels = Figure(figsize=(2.7 * len(names) + 0.6, 3.5), layout="constrained", facecolor="white")
    for axes, name in zip(panels.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw(axes, [found["similarity"][name] for found in findings.of_seed])
        axes.set_title(OTHERS[name], fontsize=9)
    panels.axes[0].set_ylabel("trained network", fontsize=9)
    _bar(panels)
    panels.suptitle(f"Similarity of layers (linear CKA)\non {source}", fontsize=11, weight="bold")
    return panels


def depth_figures(along: Mapping[int, Sequence[Mapping[str, Any]]], source: str) -> dict[str, Figure]:
    """Return the matrix of the convolutions of each network with more than two, each with itself, mean over seeds."""
    deep = {depth: found for depth, found in along.items() if depth > 2}
    if not deep:
        return {}
    panels = Figure(figsize=(max(4.6, 2.7 * len(deep) + 0.6), 3.5), layout="constrained", facecolor="white")
    for axes, (depth, found) in zip(panels.subplots(1, len(deep), squeeze=False)[0], deep.items(), strict=True):
        _draw(axes, [one["similarity"] for one in found])
        axes.set_title(f"{depth} convolutions", fontsize=9)
    _bar(panels)
    panels.suptitle(f"Similarity of a network's own layers (linear CKA)\non {source}", fontsize=11, weight="bold")
    return {"depth_similarity.png": panels}


def _draw(axes: Axes, seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> None:
    rows, columns = list(seeds[0]), list(next(iter(seeds[0].values())))
    values = torch.tensor([[[one[row][column] for column in columns] for row in rows] for one in seeds]).mean(0)
    axes.imshow(values.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    for y, row in enumerate(values.tolist()):
        for x, value in enumerate(row):
            color = "black" if value > 0.45 else "white"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _bar(panels: Figure) -> None:
    bar = panels.colorbar(panels.axes[0].images[0], ax=panels.axes, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
