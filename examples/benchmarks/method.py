"""How everything here is measured: contestants take turns, and a figure is a ratio within one round.

Machines are shared and noisy, so no figure is a time. Every round runs each contestant once, in turn, on one thread; a
figure is the median over the rounds of the contestant's time over that of the yardstick in the same round, with its
quartiles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

# Most of what keeping tensors costs is page faults of new memory: with these variables of glibc's the allocator holds
# on to what it has, without them it gives memory back to the system.
MEMORY = {
    "as it comes": {},
    "mapped": {"MALLOC_TOP_PAD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0"},
}


@dataclass(frozen=True)
class Figure:
    """One row of a table."""

    name: str
    low: float  # lower quartile
    median: float
    high: float  # upper quartile
    remark: str = ""  # beside the figure: "8 of 8 records right"


@dataclass(frozen=True)
class Table:
    """Some contestants side by side."""

    title: str
    unit: str  # what the figures count: "times the bare forward"
    figures: tuple[Figure, ...]
    missing: tuple[str, ...] = ()  # peers that are not installed


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """The seconds (rounds,) of each contestant; the warm-up rounds before them are not counted."""
    torch.set_num_threads(1)
    times = {name: np.empty(rounds) for name in contestants}
    for number in range(-warm_up, rounds):
        for name, run in contestants.items():
            start = clock()
            run()
            spent = clock() - start
            if number >= 0:
                times[name][number] = spent
    return times


def ratios(times: Mapping[str, np.ndarray], against: str, remarks: Mapping[str, str] | None = None) -> list[Figure]:
    """Each contestant's time over the yardstick's in the same round."""
    rows = []
    for name, seconds in times.items():
        if name != against:
            low, median, high = np.percentile(seconds / times[against], [25, 50, 75]).tolist()
            rows.append(Figure(name, low, median, high, (remarks or {}).get(name, "")))
    return rows


def in_child(function: str, argument: object, environment: Mapping[str, str]) -> list[Table]:
    """What `module.function(argument)` returns, run in a process of its own with those variables set."""
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


def table_from(entry: dict) -> Table:
    """A table from its JSON form."""
    figures = tuple(Figure(**figure) for figure in entry["figures"])
    return Table(entry["title"], entry["unit"], figures, tuple(entry["missing"]))


def as_json(tables: list[Table]) -> list[dict]:
    """Tables as plain values."""
    return [asdict(table) for table in tables]


def as_text(table: Table) -> str:
    """A table to read in a terminal."""
    width = max((len(figure.name) for figure in table.figures), default=0)
    rows = [
        f"  {figure.name:{width}}  {figure.median:7.2f}  [{figure.low:.2f}, {figure.high:.2f}]  {figure.remark}"
        for figure in table.figures
    ]
    rows += [f"  {peer:{width}}  missing" for peer in table.missing]
    return "\n".join([f"{table.title} ({table.unit})", *(row.rstrip() for row in rows)])


def as_markdown(table: Table) -> str:
    """A table for a page."""
    rows = [
        f"| {figure.name} | {figure.median:.2f} | {figure.low:.2f} to {figure.high:.2f} | {figure.remark} |"
        for figure in table.figures
    ]
    rows += [f"| {peer} | missing | | |" for peer in table.missing]
    head = [f"**{table.title}** ({table.unit})", "", "| | median | quartiles | |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])
