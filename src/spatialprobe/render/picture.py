"""The base of all pictures: shown as an array, a figure or a PNG, saved by the suffix of a name."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import check_text, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.notebook import display, is_notebook
from spatialprobe.storage.files import path_of, target_of, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialprobe.render.palette import Colors

_SCREEN_DPI = 150  # of a page in a viewer of its own


class Picture:
    """A picture with a title and a caption, which explains itself wherever it is shown.

    A kind of picture has the fields below, of which `colors` may be left out, `array`, `to_png` and `_draw`.
    """

    title: str  # what is shown
    caption: str  # how to read it
    metadata: Mapping[str, str]  # the text chunks of the PNG
    colors: Colors | None = None  # (256, 3) where a PNG has a palette

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".pdf", ".svg")  # of the files that it is saved as

    @property
    @abstractmethod
    def array(self) -> npt.NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8, as `SummaryWriter.add_image(..., dataformats="HWC")` takes it."""

    @abstractmethod
    def to_png(self) -> bytes:
        """Return the picture as a PNG whose text chunks say what it shows."""

    @abstractmethod
    def _draw(self, title: str, width: float | None, dpi: float | None) -> Figure:
        """Return the picture on a page, under this title."""

    def figure(self, title: str | None = None, *, width: float | None = None, dpi: float | None = None) -> Figure:
        """Return the picture with title and caption as a `matplotlib.figure.Figure`; pyplot is not used.

        A notebook shows it at the end of a cell. Numbers and words are text, and stay so in a PDF or SVG.

        Args:
            title: in place of the picture's own.
            width: of the page in inches; the picture is drawn larger or smaller to fill it. By default it is as large
                as it is, at 100 pixels per inch.
            dpi: the dots per inch of a raster that is made from the figure; 100 by default.

        Raises:
            ArgumentError: `title` is not a text, `width` not between 1 and 100, or `dpi` not between 10 and 1200.
        """
        check_text(title, "title")
        return self._draw(self.title if title is None else title, width, dpi)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture, whole or not at all, and return its path; the suffix of the name says how.

        The file is the page that `figure()` returns, with title and caption. In a `.pdf` or `.svg` words are text. In a
        `.png` the picture is on the page pixel for pixel, and text chunks say what it shows; one of 65,536 pixels or
        more on a side is written without the page. `to_png()` returns the picture without the page.

        Raises:
            ArgumentError: the name has another suffix, or no file can be written there.
            StorageError: writing failed, since the disk is full, say.
        """
        target = picture_path(path, self.suffixes)
        write_bytes(target, self._encode(target.suffix.lower()))
        return target

    def show(self) -> None:
        """Show the page that `figure()` returns: in a notebook below the cell, else in the system's viewer."""
        show_page(self, self.title, lambda dpi: self.figure(dpi=dpi))

    def _encode(self, suffix: str) -> bytes:
        """Return the content of a file with this suffix."""
        from spatialprobe.render.figures import encode_page, encode_raster, fits_raster

        figure = self.figure()
        if suffix != ".png":
            return encode_page(figure, suffix)
        return encode_raster(figure, self.colors, self._text_chunks()) if fits_raster(figure) else self.to_png()

    def _text_chunks(self) -> dict[str, str]:
        """Return the text chunks of a PNG by their names."""
        return {"Title": self.title, "Description": self.caption, **self.metadata}

    def _repr_png_(self) -> bytes:
        return self.to_png()


def show_page(shown: object, title: str, page: Callable[[float], Figure]) -> None:
    """Show an object below the cell of a notebook, or its page, drawn at so many dpi, in the system's viewer."""
    if is_notebook():
        display(shown)
        return
    from PIL import Image

    from spatialprobe.render.figures import rasterize

    Image.fromarray(rasterize(page(_SCREEN_DPI))).show(title=title)


def picture_path(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Return the path of a picture to be, whose folder exists and whose name ends in one of these suffixes.

    Raises:
        ArgumentError: it does not.
    """
    target = path_of(path)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(f"This picture is saved as {' or '.join(suffixes)}, not as {short_repr(target.name)}.")
    return target_of(target)
