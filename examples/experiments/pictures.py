"""The figures of the study."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import torch
from data import ImageData
from experiments import answers, measures, similarity, synthesized
from experiments.pictured import Shown
from experiments.synthesized import Motifs
from experiments.trials import CNN, HEADS, MLP_PERMUTED, MLP_PLAIN, PERMUTED, RANDOM
from experiments.verdicts import Findings
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from simple_cnn import SimpleCNN
from torch import nn
from training import as_input

import spatialprobe as sp

CLAIMED, CONTROL = "#2b2f5e", "#c9862b"  # blue and orange, apart for color-blind readers too


def of_image(shown: Shown, source: str) -> dict[str, Figure]:
    """Return the shown image, its maps after each convolution's ReLU, and the first kernels."""
    with torch.no_grad(), sp.Probe(shown.network, at="post_activation") as probe:
        shown.network(as_input(shown.image[None], measures.CPU))
    return {
        "overview.png": overview(shown.image, probe, shown.about),
        "input.png": enlarged(shown.image, f"The input: {shown.about}"),
        "conv1_maps.png": probe["conv1"].plot(scale="robust", title=f"conv1 after its ReLU: {shown.about}"),
        "conv2_maps.png": probe["conv2"].plot(scale="robust", title=f"conv2 after its ReLU: {shown.about}"),
        "conv1_kernels.png": sp.kernels(shown.network.conv1).figure(title=f"conv1's kernels, trained on {source}"),
    }


def of_measures(cnn: SimpleCNN, data: ImageData, findings: Findings, motifs: Motifs) -> dict[str, Figure]:
    """Return the evidence for the claims, without any image of the data."""
    images = as_input(data.test_images[: measures.FEW], measures.CPU)
    return {
        "accuracies.png": accuracies(findings, data.name),
        "deletion.png": answers.curves(findings, data.name),
        "footprint.png": footprints(cnn, images, data.name),
        "orientation.png": orientation(cnn, data.name),
        "similarity.png": similarity.figure(findings, data.name),
        "synthesized.png": synthesized.figure(cnn, motifs, data.name),
    }


def exemplars(cnn: SimpleCNN, data: ImageData, layer: str) -> dict[str, Figure]:
    """Return the top-activating patches of a layer's channels."""
    images = as_input(data.test_images[: measures.MOST], measures.CPU)
    top = measures.exemplars(cnn, images)[layer]["top"]
    field = sp.receptive_fields(cnn, images[:1], layers=layer, at="post_activation")[layer]
    title = f"The top-activating patches of {layer}'s channels, of {len(images)} test images of {data.name}"
    return {f"{layer}_exemplars.png": sp.exemplar_patches(top, images, field).figure(title=title)}


def overview(image: torch.Tensor, probe: sp.Probe, about: str) -> Figure:
    """Return the image and the maps of every layer side by side, each layer on a robust scale of its own."""
    mosaics = {name: sp.feature_maps(record, scale="robust") for name, record in probe.items()}
    panels = {"input": image.permute(1, 2, 0).numpy(), **{name: mosaic.array for name, mosaic in mosaics.items()}}
    shapes = [panel.shape[1] / panel.shape[0] for panel in panels.values()]
    figure = Figure(figsize=(2.4 * sum(shapes), 3.3), layout="constrained", facecolor="white")
    for axes, (name, panel) in zip(figure.subplots(1, len(panels), width_ratios=shapes), panels.items(), strict=True):
        axes.imshow(panel, interpolation="nearest" if name == "input" else None)
        axes.set_title(
            fontsize=10,
            label=name if name == "input" else f"{name} after its ReLU",
        )
        axes.set_axis_off()
    figure.suptitle(f"What each layer makes of {about}", fontsize=11, weight="bold", parse_math=False)
    words = " ".join(f"{name}: {mosaic.caption}" for name, mosaic in mosaics.items())
    figure.supxlabel("\n".join(textwrap.wrap(words, 125)), fontsize=7, parse_math=False)
    return figure


def enlarged(image: torch.Tensor, title: str) -> Figure:
    """Return one uint8 image (3, H, W), enlarged without smoothing."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_title(title, fontsize=9, wrap=True)
    axes.set_axis_off()
    return figure


def accuracies(findings: Findings, source: str) -> Figure:
    """Return the test accuracy of every kind of network: a dot for each seed, a line for the mean."""
    rows = {
        CNN: ("CNN", CLAIMED),
        PERMUTED: ("CNN, pixels permuted", CONTROL),
        MLP_PLAIN: ("MLP", CLAIMED),
        MLP_PERMUTED: ("MLP, pixels permuted", CONTROL),
        HEADS[0]: ("new head on trained kernels", CLAIMED),
        HEADS[2]: ("new head on shuffled kernels", CONTROL),
        HEADS[1]: ("new head on averaged kernels", CONTROL),
        RANDOM: ("new head on random kernels", CONTROL),
    }
    figure = Figure(figsize=(8.2, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.15), facecolor="white")
    axes = figure.add_subplot()
    for height, (kind, (_, color)) in enumerate(rows.items()):
        values = [100 * value for value in findings.accuracy(kind)]
        mean = sum(values) / len(values)
        axes.plot(values, [height] * len(values), "o", color=color, alpha=0.6, markersize=6, markeredgewidth=0)
        axes.vlines(mean, height - 0.3, height + 0.3, color=color, linewidth=2)
        axes.annotate(
            f"{mean:.1f} %", (max(values), height), (8, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.axvline(100 / findings.classes, color="#808088", linewidth=1, linestyle=":")
    axes.annotate(
        "chance", (100 / findings.classes, -0.75), (3, 0), textcoords="offset points", fontsize=8, va="center"
    )
    axes.set_yticks(range(len(rows)), [words for words, _ in rows.values()], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -1.1)
    axes.set_xlim(0, min(100, axes.get_xlim()[1] + 12))
    axes.set_xlabel(
        f"test accuracy (%): a dot for each of {len(findings.seeds)} seeds, a line for their mean", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"What the arrangement of pixels and of weights is worth, on {source}", fontsize=11, weight="bold")
    return figure


def footprints(cnn: nn.Module, images: torch.Tensor, source: str) -> Figure:
    """Return the units of both convolutions that one pixel changes, and the edge of what its field predicts."""
    figure = Figure(figsize=(8.2, 4.9), layout="constrained", facecolor="white")
    for axes, layer in zip(figure.subplots(1, 2), ("conv1", "conv2"), strict=True):
        found = sp.evidence.footprint(cnn, images, layer, measures.PIXEL)
        axes.imshow(found.changed, cmap="Blues", vmin=0, vmax=1.3, interpolation="nearest")
        rows, columns = found.predicted.nonzero()
        low, high = (rows.min() - 0.5, columns.min() - 0.5), (rows.max() + 0.5, columns.max() + 0.5)
        edge = [low[1], high[1], high[1], low[1], low[1]], [low[0], low[0], high[0], high[0], low[0]]
        axes.plot(*edge, color=CONTROL, linewidth=2)
        axes.set_title(f"{layer}: {int(found.changed.sum())} of {found.changed.size} units changed", fontsize=10)
        axes.set_xlabel("unit, x", fontsize=8)
        axes.set_ylabel("unit, y", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.suptitle(
        f"Units that change (blue) with pixel {measures.PIXEL}, and those whose field holds it (orange)\n"
        f"in {len(images)} test images of {source}",
        fontsize=10.5,
        weight="bold",
    )
    return figure


def orientation(cnn: SimpleCNN, source: str) -> Figure:
    """Return how strongly each channel of conv1 responds to stripes of each direction, at its best frequency."""
    tuning = sp.evidence.orientation_tuning(cnn, "conv1")
    channels = len(tuning.angle)
    figure = Figure(figsize=(1.9 * channels, 2.9), layout="constrained", facecolor="white")
    panels = figure.subplots(1, channels, subplot_kw={"projection": "polar"})
    for channel, axes in enumerate(panels):
        best = list(tuning.frequencies).index(tuning.frequency[channel]) if tuning.selectivity[channel] else 0
        answers = tuning.response[channel, :, best] / max(1e-12, tuning.response[channel, :, best].max())
        around = [*tuning.angles, *(tuning.angles + 180), 360]
        radians = [angle * torch.pi / 180 for angle in around]
        axes.plot(radians, [*answers, *answers, answers[0]], color=CLAIMED, linewidth=1.5)
        axes.fill(radians, [*answers, *answers, answers[0]], color=CLAIMED, alpha=0.25)
        axes.set_theta_direction(-1)  # y points down, as in the image
        axes.set_ylim(0, 1.05)
        axes.set_yticks([])
        axes.set_xticks([0, torch.pi / 2], ["0°", "90°"], fontsize=7)
        preferred = f"{tuning.angle[channel]:.0f}°" if tuning.selectivity[channel] > 0.05 else "no direction"
        axes.set_title(f"channel {channel}: {preferred}\nselectivity {tuning.selectivity[channel]:.2f}", fontsize=8)
    figure.suptitle(
        f"conv1's answers to gratings, trained on {source}; each channel's largest is 1", fontsize=10.5, weight="bold"
    )
    return figure


def write(figures: Mapping[str, Figure], source: str, out: Path) -> list[Path]:
    """Write figures under their names, each with the name of its data."""
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(out / name, metadata={"Source": source})
    return [out / name for name in figures]
