"""What it costs to record all convolutions, in four libraries, from the results of the benchmarks."""

import json
from pathlib import Path

from look import CRIMSON, DARK, GRAY, ORANGE, TEAL, make_figure, strip
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "benchmarks/results.json"
MODELS = ("VGG-16", "ResNet-18", "ResNet-50", "DenseNet-121", "ConvNeXt_Tiny")
LIBRARIES = {
    "Probe": ("spatialprobe", DARK, "o"),
    "captum LayerActivation": ("captum", ORANGE, "s"),
    "TorchLens record": ("TorchLens", TEAL, "^"),
    "torchvision feature_extraction": ("torchvision", CRIMSON, "D"),
}


def draw() -> Figure:
    """Return a row of marks for each model; a mark is hollow where not all values are right."""
    tables = json.loads(RESULTS.read_text(encoding="utf-8"))["capture"]["tables"]
    figure = make_figure(8, 3.2)
    axes = figure.subplots()
    axes.axvline(1, color=GRAY, linestyle=":", linewidth=1)
    for row, model in enumerate(MODELS):
        (table,) = (one for one in tables if one["title"].startswith(model) and "as it comes" in one["title"])
        for measured in table["figures"]:
            if measured["name"] in LIBRARIES:
                _, color, marker = LIBRARIES[measured["name"]]
                right, of = measured["remark"].split()[0:3:2]
                fill = color if right == of else "white"
                axes.plot(measured["median"], row, marker, color=color, markerfacecolor=fill, markersize=8)
                axes.plot([measured["low"], measured["high"]], [row, row], color=color, linewidth=1.2, zorder=0)
    for name, color, marker in LIBRARIES.values():
        axes.plot([], [], marker, color=color, label=name)
    axes.plot([], [], "D", color=CRIMSON, markerfacecolor="white", label="some values are wrong")
    axes.set_yticks(range(len(MODELS)), [model.replace("_", " ") for model in MODELS])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([0.75, 1, 1.5, 2, 3, 5], ["0.75", "1", "1.5", "2", "3", "5"])
    axes.minorticks_off()
    axes.set_xlabel("time of a forward pass with all convolutions recorded; 1 is the bare forward", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="center right")
    strip(axes)
    return figure
