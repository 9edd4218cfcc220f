"""How the networks learned: loss and accuracy of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from experiments.trials import CNN, Trained, Trial
from matplotlib.figure import Figure

COLORS = ("#2b2f5e", "#c9862b", "#4f9a94", "#a05a8c", "#808088")


def figure(have: Mapping[Trial, Trained], depths: Sequence[int], seeds: Sequence[int], source: str) -> Figure:
    """Return the training loss and accuracy over epochs, a line a depth, and the test accuracy after the last one."""
    panels = Figure(figsize=(8.2, 3.6), layout="constrained", facecolor="white")
    left, right = panels.subplots(1, 2)
    for number, depth in enumerate(depths):
        color = COLORS[number % len(COLORS)]
        runs = [have[Trial(CNN, seed, depth)] for seed in seeds]
        epochs = range(1, len(runs[0].train) + 1)
        for axes, values in (
            (left, [[score.loss for score in run.train] for run in runs]),
            (right, [[100 * score.accuracy for score in run.train] for run in runs]),
        ):
            lines = torch.tensor(values)
            mean, spread = lines.mean(0), lines.std(0) if len(lines) > 1 else torch.zeros(lines.shape[1])
            axes.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
            axes.plot(epochs, mean, "-o", color=color, linewidth=2, markersize=3.5, label=f"{depth} convolutions")
        tests = [100 * run.test.accuracy for run in runs]
        place = epochs[-1] + 0.8 + 0.12 * number
        right.plot([place] * len(tests), tests, "_", color=color, markersize=9, markeredgewidth=2)
    for axes, words in ((left, "training loss"), (right, "accuracy (%) in training, and on the test images")):
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_title(words, fontsize=10)
        axes.set_xticks(epochs)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    middle = epochs[-1] + 0.8 + 0.06 * (len(depths) - 1)
    right.set_xticks([*epochs, middle], [*map(str, epochs), "test"])
    left.legend(fontsize=8, frameon=False)
    of = f"seeds {', '.join(map(str, seeds))}"
    panels.suptitle(f"How the networks learned: mean and spread of {of}, on {source}", fontsize=11, weight="bold")
    return panels
