"""The report and its pictures for others: a photo takes the place of the data's images, none of which is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments import pictures, report
from matplotlib.figure import Figure


def write(run: report.Run, figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write `results.md` and its pictures: `figures` are drawn from the photo, or hold no image at all."""
    text = report.text(run, figures.keys())
    shown = {name: figure for name, figure in figures.items() if f"({name})" in text}
    written = pictures.write(shown, run.data.name, folder)
    page = folder / "results.md"
    page.write_text(text, encoding="utf-8")
    return [*written, page]
