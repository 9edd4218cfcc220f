"""Drawings for pages: when these are built, `draw()` of each module in docs/_drawings is saved by the module's name."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

OUT = "gallery/drawings"  # below docs


def write(app: Sphinx) -> None:
    """Save each drawing, unless an earlier build left one of the same module."""
    out = Path(app.srcdir) / OUT
    out.mkdir(parents=True, exist_ok=True)
    for module in sorted((Path(app.srcdir) / "_drawings").glob("*.py")):
        picture, mark = out / f"{module.stem}.png", out / f"{module.stem}.sha256"
        digest = hashlib.sha256(module.read_bytes()).hexdigest()
        if picture.exists() and mark.exists() and mark.read_text(encoding="utf-8") == digest:
            continue
        runpy.run_path(str(module))["draw"]().savefig(picture, dpi=160, bbox_inches="tight", pad_inches=0.08)
        mark.write_text(digest, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Before any page is read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
