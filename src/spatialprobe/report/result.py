"""The result of writing a report."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spatialprobe.text import as_html, format_bytes

_FRAME_HEIGHT = 940  # pixels


@dataclass(frozen=True)
class Report:
    """One self-contained page on disk; a notebook shows it inline.

    `reduced` says what the page does not hold, and `doubts` what of the sweep does not fit, sentence by sentence, as
    the page itself does.

    >>> import tempfile, torch, spatialprobe as sp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = sp.write_report(f"{folder}/page.html", torch.nn.Conv2d(3, 6, 3), torch.rand(2, 3, 32, 32))
    ...     print(report)
    Report of 1 layer and 2 images, ... KiB, in .../page.html
    """

    path: Path
    nbytes: int  # of the file
    layers: tuple[str, ...]  # as the page names them
    images: int  # input images on the page
    reduced: tuple[str, ...]  # what was left out, and why; empty if the page holds everything
    doubts: tuple[str, ...] = ()  # what of the sweep does not fit this model and data set
    missing: str = ""  # `reduced` in one line
    left_out: Mapping[str, str] = field(default_factory=dict)  # chosen layers that are not on the page, and why

    def _repr_html_(self) -> str:
        """The page in a frame that may run its own script and nothing else."""
        try:
            page = self.path.read_text(encoding="utf-8")
        except OSError as error:
            return f"<p>{as_html(str(self))}: cannot be read ({as_html(type(error).__name__)}).</p>"
        return (
            f'<iframe title="Report: {as_html(self.path.name)}" sandbox="allow-scripts" '
            f'style="width:100%;height:{_FRAME_HEIGHT}px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        )

    def __str__(self) -> str:
        layers = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        images = f"{self.images} image{'s' * (self.images != 1)}"
        missing = f"; not on the page: {self.missing}" if self.missing else ""
        return f"Report of {layers} and {images}, {format_bytes(self.nbytes)}, in {self.path}{missing}"
