"""The method of all measurements: contestant and yardstick in turn; a figure is a ratio within one such pair.

Machines are shared and noisy, so no figure is a time. A contestant runs right after its yardstick, on one thread, in
bursts of a few pairs; the bursts of all contestants take turns, in a new random order each time. A figure is the
median over the pairs, with its quartiles.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Most of what keeping tensors costs is page faults of new memory: with these variables of glibc's the allocator holds
# on to what it has, without them it gives memory back to the system.
MEMORY = {
    "as it comes": {},
    "mapped": {"MALLOC_TOP_PAD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0"},
}


BURST = 5  # pairs in a row


@dataclass(frozen=True)
class Figure:
    """A row of a table."""

    name: str
    low: float  # lower quartile
    median: float
    high: float  # upper quartile
    remark: str = ""  # beside the figure: "8 of 8 records right"

    @staticmethod
    def of(name: str, values: Sequence[float], remark: str = "") -> Figure:
        """Return the quartiles of some values."""
        low, median, high = np.percentile(values, [25, 50, 75]).tolist()
        return Figure(name, low, median, high, remark)


@dataclass(frozen=True)
class Table:
    """A table of contestants side by side."""

    title: str
    unit: str  # what the figures count: "times the bare forward"
    figures: tuple[Figure, ...]
    missing: tuple[str, ...] = ()  # peers that are not installed, or cannot
    axis: str = ""  # what the figures' names count, where the table is a curve
    bound: str = ""  # what bounds it, in a sentence
    last: str = "remark"  # what stands in the last column
    subject: str = ""  # of a curve: the section beside whose tables it is shown


def paired(
    yardstick: Callable[[], object],
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    remarks: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Figure]:
    """Return each contestant's time over that of the yardstick right before it."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {name: [] for name in contestants}
    order, shuffle = list(contestants), random.Random(0).shuffle
    for _ in range(-(-rounds // BURST)):
        shuffle(order)
        for name in order:
            found[name] += _burst(yardstick, contestants[name], clock)
    return [Figure.of(name, ratios, (remarks or {}).get(name, "")) for name, ratios in found.items()]


def _burst(
    yardstick: Callable[[], object], contestant: Callable[[], object], clock: Callable[[], float]
) -> list[float]:
    """Return the ratios of some pairs in a row, after one that is not counted because caches are cold."""
    ratios = []
    for _ in range(BURST + 1):
        start = clock()
        yardstick()
        between = clock()
        contestant()
        ratios.append((clock() - between) / (between - start))
    return ratios[1:]


def in_child(function: str, argument: object, environment: Mapping[str, str]) -> list[Table]:
    """Return what `module.function(argument)` returns, run in a process of its own with those variables set."""
    module, name = function.split(":")
    code = (
        f"import json, importlib; from dataclasses import asdict; "
        f"run = importlib.import_module({module!r}).{name}; "
        f"print(json.dumps([asdict(table) for table in run({argument!r})]))"
    )
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | dict(environment) | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
    )
    return [table_from(entry) for entry in json.loads(child.stdout)]


def table_from(entry: dict[str, Any]) -> Table:
    """Return a table from its JSON form."""
    figures = tuple(Figure(**figure) for figure in entry["figures"])
    return Table(**(entry | {"figures": figures, "missing": tuple(entry["missing"])}))


def as_text(table: Table) -> str:
    """Return a table to read in a terminal."""
    width = max((len(figure.name) for figure in table.figures), default=0)
    rows = [
        f"  {figure.name:{width}}  {figure.median:7.2f}  [{figure.low:.2f}, {figure.high:.2f}]  {figure.remark}"
        for figure in table.figures
    ]
    rows += [f"  {peer:{width}}  missing" for peer in table.missing]
    by = f", by {table.axis}" if table.axis else ""
    said = [f"  {table.bound}"] if table.bound else []
    return "\n".join([f"{table.title}{by} ({table.unit})", *(row.rstrip() for row in rows), *said])


def as_markdown(table: Table) -> str:
    """Return a table for a page; its last column is left out where it is empty."""
    last = [figure.remark for figure in table.figures] if any(figure.remark for figure in table.figures) else None
    rows = [[f.name, f"{f.median:.2f}", f"{f.low:.2f} to {f.high:.2f}"] for f in table.figures]
    rows += [[peer, "missing", ""] for peer in table.missing]
    head = [table.axis, "median", "quartiles"]
    if last is not None:
        head.append(table.last)
        rows = [[*row, remark] for row, remark in zip(rows, [*last, *[""] * len(table.missing)], strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"**{table.title}** ({table.unit})", "", *lines, *(["", table.bound] if table.bound else [])])
