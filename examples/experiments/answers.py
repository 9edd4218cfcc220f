"""Which channels a network's answers rest on: the score without the top, random and lowest channels, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from experiments.verdicts import Findings, number, percent
from matplotlib.figure import Figure
from torch import nn

import spatialprobe as sp

LAYERS = ("conv1", "conv2")
CURVES = {"top": "the top", "random": "random", "lowest": "the lowest"}
COLORS = {"top": "#2b2f5e", "random": "#808088", "lowest": "#c9862b"}


def deletions(cnn: nn.Module, images: torch.Tensor, seed: int) -> dict[str, Any]:
    """Return for each convolution how the score of the predicted class falls as its channels go, mean over images.

    Channels are ordered for each image by gradient times activation, after the ReLU; removed ones are set to zero.
    """
    found = sp.attribute(cnn, images, layers=LAYERS)
    return {layer: _of_layer(cnn, images, found[layer], seed) for layer in LAYERS}


def _of_layer(cnn: nn.Module, images: torch.Tensor, found: sp.Attribution, seed: int) -> dict[str, Any]:
    channels = found.channels.shape[1]
    curves: dict[str, list[float]] = {name: [0.0] for name in CURVES}
    better = []
    for k in range(1, channels):
        deletion = sp.evidence.channel_deletion(cnn, images, found, k=k, seed=seed)
        for name, falls in (("top", deletion.values), ("random", deletion.random), ("lowest", deletion.lowest)):
            curves[name].append(float(falls.mean()))
        better.append(deletion.better)
    with sp.edited(cnn, {found.layer: sp.ablate(range(channels))}), torch.no_grad():  # zero is the ReLU's zero, too
        left = cnn(images)[range(len(images)), found.target.tolist()]
    for curve in curves.values():
        curve.append(float((found.score - left).mean()))
    shares = found.channels.clamp(min=0)
    largest = (shares.max(dim=1).values / shares.sum(dim=1).clamp(min=1e-12)).mean()
    return {
        "score": float(found.score.mean()),
        **curves,
        "better": sum(better),
        "largest": float(largest),
        "images": len(images),
        "leaders": len(set(found.top(1)[:, 0].tolist())),
    }


def of_layer(findings: Findings, layer: str) -> Sequence[Mapping[str, Any]]:
    """Return what was measured of a layer, seed by seed."""
    return [found["answers"][layer] for found in findings.of_seed]


def section(findings: Findings, picture: Sequence[str] = ()) -> list[str]:
    """Return the lines of the report about it, the last ones its picture; none where it was not measured."""
    if not all("answers" in found for found in findings.of_seed):
        return []
    rows = [("layer", "channels", "score", *(f"without {words} half" for words in CURVES.values()), "without any")]
    rows += [_row(of_layer(findings, layer), layer) for layer in LAYERS]
    images = of_layer(findings, LAYERS[0])[0]["images"]
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [
        "",
        "## Which channels the answers rest on",
        "",
        "The channels of a convolution are set to zero one after the other, and the score of the predicted class (its "
        f"logit) is measured: in each of {images} test images, first without the channels that contribute most to this "
        "score by their attribution (gradient times activation), then without random ones, then without those that "
        "contribute least. Random channels are the control: an attribution that does no better says nothing.",
        "",
        head,
        f"|{'---|' * len(rows[0])}",
        *body,
        "",
        " ".join(_sentence(of_layer(findings, layer), layer) for layer in LAYERS),
        *picture,
    ]


def _row(found: Sequence[Mapping[str, Any]], layer: str) -> tuple[str, ...]:
    half = (len(found[0]["top"]) - 1) // 2
    left = [number([one["score"] - one[name][half] for one in found]) for name in CURVES]
    none = number([one["score"] - one["top"][-1] for one in found])
    return (layer, str(len(found[0]["top"]) - 1), number([one["score"] for one in found]), *left, none)


def _sentence(found: Sequence[Mapping[str, Any]], layer: str) -> str:
    counts = len(found[0]["top"]) - 2
    better = min(one["better"] for one in found)
    doubt = (
        ""
        if better == counts
        else f" For {counts - better} of {counts} numbers of removed channels, top ones do no better in some seed."
    )
    gap = [one["top"][1] - one["random"][1] for one in found]
    top, random = ([one[name][1] for one in found] for name in ("top", "random"))
    return (
        f"{layer}: without its top channel the score falls by {number(top)}, without a random one by {number(random)}; "
        f"the difference is {number(gap)}. The top channel makes {percent([one['largest'] for one in found])} of all "
        f"positive contributions, and {fmean(one['leaders'] for one in found):.1f} of the {counts + 1} channels are "
        f"the top one of some image.{doubt}"
    )


def curves(findings: Findings, source: str) -> Figure:
    """Return the score over the number of removed channels: a line for the mean over seeds, a band for their spread."""
    figure = Figure(figsize=(8.2, 3.7), layout="constrained", facecolor="white")
    for axes, layer in zip(figure.subplots(1, 2, sharey=True), LAYERS, strict=True):
        found = of_layer(findings, layer)
        for name, words in CURVES.items():
            scores = torch.tensor([[one["score"] - fall for fall in one[name]] for one in found])
            mean, spread = scores.mean(0), scores.std(0) if len(scores) > 1 else torch.zeros(scores.shape[1])
            places = range(scores.shape[1])
            axes.fill_between(places, mean - spread, mean + spread, color=COLORS[name], alpha=0.2, linewidth=0)
            axes.plot(
                places, mean, color=COLORS[name], linewidth=2, label=f"{words} first" if name != "random" else words
            )
        axes.axhline(0, color="#d0d0d4", linewidth=1, zorder=0)
        axes.set_title(layer, fontsize=10)
        axes.set_xlabel("channels removed", fontsize=9)
        axes.set_xticks(range(0, scores.shape[1], 1 if scores.shape[1] < 9 else 2))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("score of the predicted class", fontsize=9)
    figure.axes[0].legend(fontsize=8, frameon=False)
    of = f"seeds {', '.join(map(str, findings.seeds))}"
    figure.suptitle(f"What the answers rest on: mean and spread of {of}, on {source}", fontsize=11, weight="bold")
    return figure
