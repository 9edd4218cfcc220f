"""The gallery: scripts are grouped by question and run apart from the repository, and thumbnails are cropped."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from gallery_table import SECTIONS, Part
from PIL import Image
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

THUMBNAIL = (400, 280)  # pixels
WHITE = 245  # of 255: a pixel that is lighter in all colors is margin


def stage(examples: Path, folder: Path) -> list[str]:
    """Copy the scripts, and nothing that lies beside them, into a folder for each section; return these in order.

    What runs there runs wherever it is downloaded to.
    """
    scripts = {path.stem: path for path in examples.glob("plot_*.py")}
    listed = {f"plot_{name}" for _, _, entries in SECTIONS.values() for name in entries}
    if scripts.keys() != listed:
        differing = ", ".join(sorted(scripts.keys() ^ listed))
        raise ExtensionError(f"gallery_table.py and examples/gallery differ by: {differing}.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(examples / "README.rst", folder / "README.rst")
    for section, (title, sentence, entries) in SECTIONS.items():
        target = folder / section
        target.mkdir()
        (target / "README.rst").write_text(f"{title}\n{'-' * len(title)}\n\n{sentence}\n", encoding="utf-8")
        for name in entries:
            shutil.copyfile(scripts[f"plot_{name}"], target / f"plot_{name}.py")
    return [f"{folder.parent.name}/{folder.name}/{section}" for section in SECTIONS]


class TableOrder:
    """The order of the scripts within a section, as sphinx-gallery asks for it."""

    def __init__(self, folder: str) -> None:
        self.names = list(SECTIONS.get(Path(folder).name, ("", "", {}))[2])

    def __call__(self, filename: str) -> int:
        """Return the place of a script."""
        return self.names.index(Path(filename).stem.removeprefix("plot_"))


def crop_thumbnails(app: Sphinx) -> None:
    """Fill each thumbnail with the part of a picture that the table names."""
    for section, (_, _, entries) in SECTIONS.items():
        images = Path(app.srcdir) / "gallery" / section / "images"
        for name, entry in entries.items():
            with Image.open(images / f"sphx_glr_plot_{name}_{entry.picture:03}.png") as picture:
                thumbnail = crop_thumbnail(picture.convert("RGB"), entry.part)
            thumbnail.save(images / f"thumb/sphx_glr_plot_{name}_thumb.png")


def describe_thumbnails(app: Sphinx) -> None:
    """Give each thumbnail the alternative text of the picture that it was cut from."""
    entries = {name: entry for _, _, found in SECTIONS.values() for name, entry in found.items()}

    def described(match: re.Match[str]) -> str:
        entry = entries[match[2]]
        return f"{match[1]} {entry.alternatives[entry.picture - 1]}"

    for page in (Path(app.srcdir) / "gallery").rglob("index.rst"):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"(/thumb/sphx_glr_plot_(\w+)_thumb\.png\n +:alt:)[^\n]*", described, text)
        page.write_text(text, encoding="utf-8")


def crop_thumbnail(picture: Image.Image, part_of_it: Part) -> Image.Image:
    """Return a part of the picture without white margins, cut to fill the thumbnail."""
    width, height = picture.size
    left, top, right, bottom = part_of_it
    part = picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
    inked = (np.asarray(part) < WHITE).any(2)
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    part = part.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    scale = max(THUMBNAIL[0] / part.width, THUMBNAIL[1] / part.height)
    part = part.resize((round(scale * part.width), round(scale * part.height)), Image.Resampling.LANCZOS)
    x, y = (part.width - THUMBNAIL[0]) // 2, (part.height - THUMBNAIL[1]) // 2
    return part.crop((x, y, x + THUMBNAIL[0], y + THUMBNAIL[1]))


def check_downloads(app: Sphinx, error: Exception | None) -> None:
    """Raise an error if a script or notebook that the gallery offers holds other code than what has just run."""
    for section, (_, _, entries) in SECTIONS.items():
        for name in entries if error is None else ():
            offered = Path(app.srcdir) / "gallery" / section / f"plot_{name}"
            cells = json.loads(offered.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
            notebook = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            if code_of(notebook) != code_of(offered.with_suffix(".py").read_text(encoding="utf-8")):
                raise ExtensionError(f"The notebook {offered}.ipynb holds other code than the script.")


def code_of(text: str) -> list[str]:
    """Return the statements of a script, without the docstring at its top."""
    body = ast.parse(text).body
    return [ast.dump(one) for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]


def setup(app: Sphinx) -> dict[str, Any]:
    """Thumbnails are cut when sphinx-gallery has run all scripts; Sphinx calls handlers by ascending priority."""
    app.connect("builder-inited", crop_thumbnails, priority=700)
    app.connect("builder-inited", describe_thumbnails, priority=700)
    app.connect("build-finished", check_downloads)
    return {"parallel_read_safe": True}
