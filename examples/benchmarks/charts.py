"""The pictures of the page of benchmarks: what each way to capture costs and who is right, and curves of growth."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from benchmarks.method import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

INK, SOFT, OTHERS = "#2a2a6a", "#8c8fb8", "#9a9a9a"
AS_IT_COMES = "memory as it comes"
WAYS = {  # rows of the tables of capture, from the top, and what they are called in the picture
    "Probe": "spatialprobe, the same probe again",
    "Probe, made for each pass": "spatialprobe, a new probe each time",
    "hook: detach().clone()": "a hook by hand: detach().clone()",
    "captum LayerActivation": "captum LayerActivation",
    "TorchLens record": "TorchLens record",
    "torchvision feature_extraction": "torchvision feature_extraction",
    "baukit-style trace": "baukit-style trace",
    "hook: detach()": "a hook by hand: detach()",
}


def costs_and_shares(tables: Sequence[Table]) -> Page:
    """Return the cost of each way to capture, a dot for each model, beside the share of its records that are right."""
    chosen = [table for table in tables if table.title.endswith(AS_IT_COMES)]
    page = Page(figsize=(8.4, 3.4), dpi=110, layout="constrained")
    left, right = page.subplots(1, 2, width_ratios=[3, 1], sharey=True)
    for row, way in enumerate(WAYS):
        figures = [figure for table in chosen for figure in table.figures if figure.name == way]
        color = INK if way.startswith("Probe") else OTHERS
        medians = [figure.median for figure in figures]
        left.scatter(medians, [row] * len(medians), s=22, color=color, alpha=0.55, linewidth=0)
        left.scatter([float(np.median(medians))], [row], marker="|", s=170, color=color, linewidth=2)
        hits, all_of_them = np.sum([count_right(figure.remark) for figure in figures], axis=0)
        right.barh(row, hits / all_of_them, height=0.55, color=color)
        right.text(1.04, row, f"{hits} of {all_of_them}", va="center", fontsize=8)
    left.set_yticks(range(len(WAYS)), list(WAYS.values()), fontsize=8.5)
    left.invert_yaxis()
    left.axvline(1, color="#555555", linewidth=0.8)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(ScalarFormatter())
    left.xaxis.set_minor_locator(NullLocator())
    left.set_xticks([0.75, 1, 1.5, 2, 5, 10, 20], ["0.75", "1", "1.5", "2", "5", "10", "20"], fontsize=8)
    left.set_xlabel("time, times the bare forward (bar: median)", fontsize=8.5)
    right.set_xlim(0, 1.45)
    right.set_xticks([0, 0.5, 1])
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.tick_params(labelsize=8, left=False)
    right.set_xlabel("right records", fontsize=8.5)
    for axes in (left, right):
        quiet(axes, "x")
    return page


def count_right(remark: str) -> tuple[int, int]:
    """Return how many records are right, and of how many, from a remark such as "13 of 13 right"."""
    found = re.fullmatch(r"(\d+) of (\d+) right", remark)
    if found is None:
        raise ValueError(f"No count of right records: {remark!r}.")
    return int(found[1]), int(found[2])


def curve(table: Table) -> Page:
    """Return a table whose rows count something, as a line with its quartiles."""
    steps = np.array([float(figure.name) for figure in table.figures])
    low, median, high = np.array([(f.low, f.median, f.high) for f in table.figures]).T
    page = Page(figsize=(5.6, 3), dpi=110, layout="constrained")
    axes = page.add_subplot()
    axes.fill_between(steps, low, high, color=SOFT, alpha=0.5, linewidth=0)
    axes.plot(steps, median, "o-", color=INK, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [figure.name for figure in table.figures], minor=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(table.axis)
    axes.set_ylabel(table.unit, fontsize=8)
    axes.set_title(table.title, fontsize=9, loc="left")
    quiet(axes, "y")
    return page


def quiet(axes: Axes, grid: str) -> None:
    """Leave of an axes' frame what is needed, with a grid along one axis behind the data."""
    axes.grid(axis="x" if grid == "x" else "y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
