"""The benchmarks as a page of the documentation: results as JSON, pictures, and tables in Markdown.

A run adds its sections to what is there, each with the machine, the versions, the date and the command that made it.
The page begins with one figure a subject; then each subject has its curves, and its tables folded.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from benchmarks.charts import costs_and_shares, curve
from benchmarks.headlines import list_rows
from benchmarks.method import Table, as_markdown, table_from

PACKAGES = ("spatialprobe", "torch", "torchvision", "numpy", "captum", "torchlens", "zarr")
TITLES = {
    "capture": "Capture",
    "selection": "Choosing layers",
    "fields": "Receptive fields",
    "attribution": "Attribution",
    "synthesis": "Activation maximization",
    "concepts": "Concepts",
    "comparison": "Comparison of models",
    "checkup": "Checkup",
    "limits": "Limits of the checkup's rules",
    "monitor": "Training",
    "pictures": "Pictures",
    "report": "The interactive page",
    "sweep": "Sweeps",
    "scale": "A million images",
    "storage": "Files",
    "imports": "Import time",
    "on_cuda": "On CUDA",
}
GROWTH = "growth"  # the section whose tables are curves, each shown with its subject
HEAD = """# Benchmarks

Every figure is a ratio to something that one would do otherwise, measured in the same run, one right after the other,
on one thread: the median over many such pairs, and its quartiles. Machines are noisy, so read a difference of a few
hundredths as none. `examples/benchmark.py` makes all of it again; how it measures stands in
`examples/benchmarks/method.py`.

{about}

## What it costs, and who is right
"""
OVERVIEW = """\
![The time of each way to keep the outputs of all convolutions, and the share of right records](overview.png)

Each dot is a model: the time of a forward pass that keeps the outputs of all convolutions, over that of the bare
forward. A record is right if it equals, but for rounding, a clone taken in an independent hook. Where a model modifies
its maps in place, as the ReLUs of a VGG do, a way that keeps references ends with the values after the ReLU.
"""
FIRST = "| | relative to | median (quartiles) | beside it |\n|---|---|---|---|\n"


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
    order = [*TITLES, GROWTH]
    path.write_text(json.dumps({key: results[key] for key in order if key in results}, indent=1) + "\n")
    write(folder)


def write(folder: Path) -> None:
    """Write the page and its pictures, from the results alone."""
    results = json.loads((folder / "results.json").read_text())
    for old in folder.glob("*.png"):
        old.unlink()
    tables = read_tables(results)
    if "capture" in tables:
        costs_and_shares(tables["capture"]).savefig(folder / "overview.png", metadata={"Software": None})
    for name, table in name_curves(tables.get(GROWTH, ())).items():
        curve(table).savefig(folder / name, metadata={"Software": None})
    (folder / "index.md").write_text(compose(results), encoding="utf-8")


def read_tables(results: Mapping[str, Any]) -> dict[str, list[Table]]:
    """Return the tables of each section."""
    return {section: list(map(table_from, entry["tables"])) for section, entry in results.items()}


def name_curves(curves: Iterable[Table]) -> dict[str, Table]:
    """Return the curves by the names of their pictures, counted for each subject."""
    named: dict[str, Table] = {}
    for table in curves:
        count = sum(other.subject == table.subject for other in named.values())
        named[f"{table.subject}_{count}.png"] = table
    return named


def compose(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    tables = read_tables(results)
    curves = name_curves(tables.get(GROWTH, ()))
    parts = [HEAD.format(about=list_machines(results)), *([OVERVIEW] if "capture" in tables else [])]
    parts.append(FIRST + "\n".join([*list_rows(tables), ""]))
    for section, title in TITLES.items():
        own = {name: table for name, table in curves.items() if table.subject == section}
        if section in results or own:
            parts += [f"## {title}\n", *(show_curve(name, table) for name, table in own.items())]
        if section in results:
            parts.append(fold(results[section], tables[section]))
    if curves:
        parts.append(f"The curves: {describe_run(results[GROWTH])}.\n")
    return "\n".join(parts)


def list_machines(results: Mapping[str, Any]) -> str:
    """Return on which machines the sections were measured, in a sentence."""
    machines = list(dict.fromkeys(entry["surroundings"].partition(";")[0] for entry in results.values()))
    return f"Measured on {', or '.join(machines)}; the versions stand with the figures."


def show_curve(name: str, table: Table) -> str:
    """Return a curve's picture in Markdown, and what bounds it."""
    picture = f"![{table.title}: {table.unit}, by {table.axis}]({name})\n"
    return f"{picture}\n{table.bound}\n" if table.bound else picture


def fold(entry: Mapping[str, Any], tables: list[Table]) -> str:
    """Return a section's tables in Markdown, folded, with how they were made."""
    shown = "all figures" if len(tables) == 1 else f"all figures, in {len(tables)} tables"
    inside = "\n\n".join([f"{describe_run(entry)}.", *map(as_markdown, tables)])
    return f"<details><summary>{shown.capitalize()}</summary>\n\n{inside}\n\n</details>\n"


def describe_run(entry: Mapping[str, Any]) -> str:
    """Return the command of a section, its date, the machine and the versions."""
    return f"`{entry['command']}`, {entry['date']}; {entry['surroundings']}"
