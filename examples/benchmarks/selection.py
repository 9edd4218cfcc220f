"""The time to select all layers of a deep network, by each kind of selector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import torchvision
from benchmarks.method import Figure, Table
from torch import nn

import spatialprobe as sp


def measure(quick: bool) -> Iterator[Table]:
    """Yield the times to make a probe with each selector in turn; the first is not counted."""
    model = torchvision.models.densenet121()
    modules = dict(model.named_modules())
    del modules[""]
    ways: dict[str, Any] = {
        "by type": nn.Module,
        "by glob": "*",
        "by regex": re.compile(".+"),
        "by name": list(modules),
        "by name, half of them globs": [name if number % 2 else f"{name}*" for number, name in enumerate(modules)],
        "by module": list(modules.values()),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(4 if quick else 21):
        for way, layers in ways.items():
            start = perf_counter()
            sp.Probe(model, layers)
            if number:
                taken[way].append(1000 * (perf_counter() - start))
    figures = tuple(Figure(way, *np.percentile(times, [25, 50, 75])) for way, times in taken.items())
    yield Table(f"Choosing {len(modules)} layers of DenseNet-121", "milliseconds", figures)
