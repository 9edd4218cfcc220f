"""The benchmarks as a page of the documentation: results as JSON, curves as pictures, tables in Markdown.

A run adds its sections to what is there, each with the machine, the versions, the date and the command that made it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from benchmarks.method import Table, as_markdown, table_from
from matplotlib.figure import Figure as Page

PACKAGES = ("spatialprobe", "torch", "torchvision", "numpy", "captum", "torchlens", "zarr")
TITLES = {
    "capture": "Capture",
    "fields": "Receptive fields",
    "attribution": "Attribution",
    "pictures": "Pictures",
    "sweep": "Sweeps",
    "monitor": "Training",
    "storage": "Records on disk",
    "report": "The interactive page",
    "imports": "Import time",
    "growth": "Growth",
    "on_cuda": "On CUDA",
}
HEAD = """# Benchmarks

Every figure is a ratio to something that one would do otherwise, measured in the same run, one right after the other,
on one thread: the median over many such pairs, and its quartiles. Machines are noisy, so read a difference of a few
hundredths as none. Where a peer returns values, the share of right ones stands beside its cost: equal, but for
rounding, to a clone taken in an independent hook. `examples/benchmark.py` makes all of it again; how it measures stands
in `examples/benchmarks/method.py`.

{about}
"""


def surroundings() -> str:
    """Return the machine and the versions, in a line."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{processor()}; {', '.join(found)}"


def processor() -> str:
    """Return the processor's name, if the system provides it, and its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{names[0] if names else platform.machine()}, {len(names) or '?'} cores{card}"


def add(folder: Path, section: str, tables: Iterable[Table], command: str) -> None:
    """Put a section's tables into the folder's results, and write the page again."""
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[section] = {
        "command": command,
        "date": date.today().isoformat(),
        "surroundings": surroundings(),
        "tables": [asdict(table) for table in tables],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: results[key] for key in TITLES if key in results}, indent=1) + "\n")
    write(folder)


def write(folder: Path) -> None:
    """Write the page and its pictures, from the results alone."""
    results = json.loads((folder / "results.json").read_text())
    alike = {entry["surroundings"] for entry in results.values()}
    about = f"Measured on {alike.pop()}." if len(alike) == 1 else "Machines differ: see each section."
    parts = [HEAD.format(about=about)]
    for section, entry in results.items():
        made = f"`{entry['command']}`, {entry['date']}"
        parts.append(
            f"## {TITLES[section]}\n\n{made}{'' if about.startswith('Measured') else '; ' + entry['surroundings']}\n"
        )
        for number, table in enumerate(map(table_from, entry["tables"])):
            parts.append(as_markdown(table) + "\n")
            if table.axis:
                name = f"{section}_{number}.png"
                curve(table).savefig(folder / name, metadata={"Software": None})
                parts.append(f"![{table.title}: {table.unit}, by {table.axis}]({name})\n")
    (folder / "index.md").write_text("\n".join(parts), encoding="utf-8")


def curve(table: Table) -> Page:
    """Return a table whose rows count something, as a line with its quartiles."""
    steps = np.array([float(figure.name) for figure in table.figures])
    low, median, high = np.array([(f.low, f.median, f.high) for f in table.figures]).T
    page = Page(figsize=(5.6, 3), dpi=110, layout="constrained")
    axes = page.add_subplot()
    axes.fill_between(steps, low, high, color="#8c8fb8", alpha=0.5, linewidth=0)
    axes.plot(steps, median, "o-", color="#2a2a6a", markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [figure.name for figure in table.figures], minor=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(table.axis)
    axes.set_ylabel(table.unit, fontsize=8)
    axes.set_title(table.title, fontsize=9, loc="left")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return page
