"""The report and its pictures for others: a photo takes the place of the data's images, none of which is shown."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from experiments import pictures, report
from matplotlib.figure import Figure


def write(run: report.Run, of_photo: Mapping[str, Figure], measured: Collection[str], folder: Path) -> list[Path]:
    """Write `results.md` and its pictures, those of the photo and copies of those that show no image at all."""
    text = report.text(run, {*of_photo, *measured})
    shown = {name: figure for name, figure in of_photo.items() if f"({name})" in text}
    written = pictures.write(shown, run.data.name, folder)
    written += [shutil.copyfile(run.options.out / name, folder / name) for name in measured if f"({name})" in text]
    page = folder / "results.md"
    page.write_text(text, encoding="utf-8")
    return [*written, page]
