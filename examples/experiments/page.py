"""The interactive page of the first trained network's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data import ImageData
from experiments.measures import CPU
from torch import nn
from training import as_input

import spatialprobe as sp

SHOWN = 4  # test images on the page
SWEPT = 1000  # test images, at most, among which the page's exemplars are found


def write(model: nn.Module, data: ImageData, index: int, out: Path) -> list[Path]:
    """Write `report.html`: every unit of some test images, with its channel's top-activating patches."""
    count = len(data.test_images)
    chosen = list(dict.fromkeys(number % count for number in range(index, index + SHOWN)))
    swept = as_input(data.test_images[:SWEPT], CPU)
    reducers: dict[str, Callable[[], sp.Reducer]] = {"moments": sp.Moments, "dead": sp.Dead, "exemplars": sp.Exemplars}
    report = sp.write_report(
        out / "report.html",
        model,
        as_input(data.test_images[chosen], CPU),
        sweep=sp.sweep(model, swept, reducers, at="post_activation", batch_size=100, progress=False),
        dataset=swept,
        labels=[data.classes[int(data.test_labels[number])] for number in chosen],
        classes=data.classes,
        title=f"SimpleCNN, trained on {data.name}",
    )
    return [report.path]
