"""The notebooks, run when the pages are built, each alone in an empty folder: a page of each, with its outputs."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

OUT = "gallery/notebooks"  # below docs
QUIET = ["--IPKernelApp.log_level=40"]  # no warning that the cells come over a local socket
WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar, which has gone when the cell ends


def write(app: Sphinx) -> None:
    """Write the page of each notebook, unless an earlier build left one of the same notebook."""
    out = Path(app.srcdir) / OUT
    out.mkdir(parents=True, exist_ok=True)
    for notebook in sorted((Path(app.srcdir).parent / "examples/notebooks").glob("*.ipynb")):
        mark = f"% {hashlib.sha256(notebook.read_bytes()).hexdigest()}\n"
        page = out / f"{notebook.stem}.md"
        if page.exists() and page.read_text(encoding="utf-8").startswith(mark):
            continue
        shutil.copyfile(notebook, out / notebook.name)  # what the page offers
        cells = run(out / notebook.name)
        page.write_text(mark + "".join(page_of(cells, out, notebook.stem)), encoding="utf-8")


def run(notebook: Path) -> list[Any]:
    """Return the cells of a notebook after it has run in an empty folder; an error in a cell is one of the build."""
    logging.getLogger("traitlets").setLevel(logging.WARNING)
    found = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(found, timeout=300, startup_timeout=300, resources=place, extra_arguments=QUIET).execute()
    cells: list[Any] = found.cells
    return cells


def page_of(cells: list[Any], out: Path, name: str) -> list[str]:
    """Return the blocks of a page in Markdown; pictures are written beside it."""
    title, _, text = cells[0].source.partition("\n")
    offer = f"{{download}}`Download the notebook <{name}.ipynb>`: it needs `pip install spatialprobe[examples]` alone."
    blocks = [title, offer, text]
    for number, cell in enumerate(cells[1:], 1):
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        for place, output in enumerate(cell.outputs):
            picture = out / f"{name}_{number}_{place}.png"
            blocks += shown(output, picture, cell.metadata.get("alt"))
    return [f"{block}\n\n" for block in blocks]


def shown(output: Any, picture: Path, alternative: str | None) -> list[str]:
    """Return an output in Markdown: a picture, else its HTML, else its text."""
    if output.output_type == "stream":
        return [text_block(output.text)] if output.name == "stdout" else []
    data = output.data
    if WIDGET in data:
        return []
    if "image/png" in data:
        if alternative is None:
            raise ExtensionError(f"The cell that draws {picture.name} has no alternative text, `alt` in its metadata.")
        picture.write_bytes(base64.b64decode(data["image/png"]))
        return [f"![{alternative}]({picture.name})"]
    if "text/html" in data:
        return ["`````{raw} html\n" + re.sub(r"\n\s*\n", "\n", data["text/html"]) + "\n`````"]
    return [text_block(data["text/plain"])]


def text_block(text: str) -> str:
    """Return printed text in Markdown."""
    return f"```{{code-block}} text\n:class: output\n\n{text.rstrip()}\n```"


def setup(app: Sphinx) -> dict[str, Any]:
    """Before any page is read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
