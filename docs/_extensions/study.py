"""The study, run when the pages are built: its report, its pictures and its interactive page are pages of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

OUT = "gallery/study"  # below docs; to measure anew what an earlier build left there, delete it


def run(app: Sphinx) -> None:
    """Train, measure and draw on patterns that need no download; an earlier build's results are taken as they are.

    The environment variable STUDY_OPTIONS may ask for less, as continuous integration does.
    """
    script, out = Path(app.srcdir).parent / "examples/cifar10_study.py", Path(app.srcdir) / OUT
    command = [sys.executable, str(script), "--out", str(out), "--resume"]
    command += shlex.split(os.environ.get("STUDY_OPTIONS", ""))
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise ExtensionError(f"{' '.join(command)} ended with status {ran.returncode}:\n{ran.stderr}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Before any page is read."""
    app.connect("builder-inited", run)
    return {"parallel_read_safe": True}
