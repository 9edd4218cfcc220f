"""The interactive page of the pictured network's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data import ImageData
from experiments.measures import CPU
from experiments.pictured import Shown
from training import as_input

import spatialprobe as sp

SHOWN = 4  # test images on the page
SWEPT = 1000  # test images, at most, among which the page's exemplars are found


def write(shown: Shown, data: ImageData, out: Path) -> list[Path]:
    """Write `report.html`: every unit of some test images, with its channel's top-activating patches."""
    chosen = list(shown.ranking[:SHOWN])
    swept = as_input(data.test_images[:SWEPT], CPU)
    reducers: dict[str, Callable[[], sp.Reducer]] = {"moments": sp.Moments, "dead": sp.Dead, "exemplars": sp.Exemplars}
    report = sp.write_report(
        out / "report.html",
        shown.network,
        as_input(data.test_images[chosen], CPU),
        sweep=sp.sweep(shown.network, swept, reducers, at="post_activation", batch_size=100, progress=False),
        dataset=swept,
        labels=[data.classes[int(data.test_labels[number])] for number in chosen],
        classes=data.classes,
        title=f"SimpleCNN, trained on {data.name}",
    )
    return [report.path]
