"""The pictures of several layers together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from spatialprobe.arguments import check_text
from spatialprobe.errors import AmbiguousCallError
from spatialprobe.mappings import CompletedMapping
from spatialprobe.model.names import find_name
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.picture import picture_path, show_page
from spatialprobe.render.sheet import best_columns
from spatialprobe.render.squeeze import squeeze
from spatialprobe.storage.files import folder_of, path_of, write_bytes
from spatialprobe.text import as_html, escape_surrogates, format_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Key: TypeAlias = str | tuple[str, int]  # a layer, or (layer, i) for the i-th run of one that ran several times
MOST_CHANNELS = 64  # of each layer, unless more are asked for
_MOST_LAYERS = 24  # that a page shows
_MOST_PIXELS = 6_000_000  # of all mosaics on a page: more are drawn at half their size, in columns
_NAME_LENGTH = 100  # characters of a layer's name in that of a file


class Gallery(CompletedMapping[Key, Mosaic]):
    """A mosaic for each layer, found by the layer's name, in the order in which the layers ran.

    Of more than 24 layers a notebook and `figure()` show 24 that are spread over the depth of the model, and say so;
    each layer has its mosaic in the gallery all the same. Mosaics of more than six million pixels together stand on
    the page at half their size.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 8 * 8, 2))
    >>> with sp.Probe(model, (nn.Conv2d, nn.Linear)) as probe:
    ...     output = model(torch.rand(1, 3, 10, 10))
    >>> sp.feature_maps(probe)
    Gallery of 1 mosaic
      0  Mosaic('0, output, sample 0', 400 x 296 pixels)
    left out
      3  Layer '3' returned (1, 2), which is not maps of (N, C, H, W), (N, C, L) or (N, C, D, H, W): draw another
         layer, or bring it into that shape.
    """

    def __init__(self, mosaics: Mapping[Key, Mosaic], left_out: Mapping[Key, str]) -> None:
        self._mosaics = dict(mosaics)
        self.left_out = dict(left_out)  # the layers that hold no maps, and why

    def __getitem__(self, key: Key) -> Mosaic:
        if isinstance(key, tuple) and _can_be_found(key) and key in self._mosaics:
            return self._mosaics[key]
        known = [one if isinstance(one, str) else one[0] for one in self._mosaics]
        layer = find_name(key, known, "The gallery has no layer")
        if layer not in self._mosaics:
            raise AmbiguousCallError(f"Layer {layer!r} ran several times: use gallery[{layer!r}, i] for one run.")
        return self._mosaics[layer]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._mosaics)

    def __len__(self) -> int:
        return len(self._mosaics)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write a PNG for each layer, numbered in their order (`01_conv1.png`), and return the paths.

        A name that ends in .png, .pdf or .svg and is no folder becomes the one page that `figure()` returns.

        Raises:
            ArgumentError: the folder does not exist.
            StorageError: a picture cannot be written there.
        """
        if path_of(folder).suffix.lower() in Mosaic.suffixes and not path_of(folder).is_dir():
            return [self._save_page(picture_path(folder, Mosaic.suffixes))]
        target = folder_of(folder, f"save {format_count(len(self), 'picture')}")
        digits = len(str(len(self)))
        return [
            mosaic.save(target / f"{number:0{digits}}_{_file_name(key)}.png")
            for number, (key, mosaic) in enumerate(self.items(), start=1)
        ]

    def _save_page(self, target: Path) -> Path:
        from spatialprobe.render.figures import encode_page

        suffix = target.suffix.lower()
        write_bytes(target, self.to_png() if suffix == ".png" else encode_page(self.figure(), suffix))
        return target

    def _on_page(self) -> tuple[list[Mosaic], str | None]:
        """The mosaics that a page shows, and what it says about others."""
        mosaics = list(self.values())
        if len(mosaics) <= _MOST_LAYERS:
            return mosaics, None
        chosen = np.linspace(0, len(mosaics) - 1, _MOST_LAYERS).round().astype(int)
        return [mosaics[index] for index in chosen], (
            f"{_MOST_LAYERS} of {len(mosaics)} layers shown, spread over the depth of the model: the others are found "
            "by name in the gallery."
        )

    def figure(self, title: str | None = None, *, width: float | None = None, dpi: float | None = None) -> Figure:
        """All mosaics on one page, each with its own title, caption and color bar.

        They stand below each other, or in columns where they are many, at half their size.

        Raises:
            ArgumentError: as `Mosaic.figure` does.
        """
        check_text(title, "title")
        from spatialprobe.render.figures import page

        mosaics, words = self._on_page()
        columns = _columns(mosaics)
        if columns > 1:
            mosaics = [squeeze(mosaic, 2) for mosaic in mosaics]
            words = " ".join(
                filter(None, [words, "Maps are drawn at half their size; one mosaic alone has all of it."])
            )
        heading = " ".join(filter(None, [title and f"{title}." if words else title, words])) or None
        return page([(mosaic, mosaic.title) for mosaic in mosaics], heading, width, dpi, columns)

    def _repr_html_(self) -> str:
        """All mosaics for a notebook."""
        mosaics, words = self._on_page()
        blocks = [f"<p>{words}</p>"] if words else []
        blocks += [mosaic._repr_html_() for mosaic in mosaics]
        blocks += [f"<p>Left out: {as_html(reason)}</p>" for reason in self.left_out.values()]
        return "".join(blocks)

    def to_png(self) -> bytes:
        """Return the page that `figure()` returns as a PNG."""
        from spatialprobe.render.figures import encode_raster

        mosaics, _ = self._on_page()
        first, *others = mosaics
        shared = first.colors if all(one.colors is first.colors for one in others) else None
        layers = {"Software": "spatialprobe", "Layers": ", ".join(one.title for one in mosaics)}
        return encode_raster(self.figure(), shared, layers)

    def show(self) -> None:
        """Show all mosaics as `Mosaic.show` does: in a notebook below the cell, else in the system's viewer."""
        show_page(self, "Gallery", lambda dpi: self.figure(dpi=dpi))

    def __repr__(self) -> str:
        lines = [f"Gallery of {len(self)} mosaic{'s' * (len(self) != 1)}"]
        lines += [f"  {_words(key)}  {mosaic!r}" for key, mosaic in self.items()]
        if self.left_out:
            lines += [
                "left out",
                *(f"  {_words(key)}  {escape_surrogates(reason)}" for key, reason in self.left_out.items()),
            ]
        return "\n".join(lines)


def _columns(mosaics: Sequence[Mosaic]) -> int:
    """Return how many mosaics stand beside each other on a page."""
    sizes = np.array([mosaic.pixels.shape[:2] for mosaic in mosaics])
    if sizes.prod(axis=1).sum() <= _MOST_PIXELS:
        return 1
    height, width = sizes.mean(axis=0)
    return best_columns(len(sizes), round(height), round(width))


def _can_be_found(key: object) -> bool:
    try:
        hash(key)
    except Exception:  # also what an object of the user's own raises
        return False
    return True


def _words(key: Key) -> str:
    return escape_surrogates(key if isinstance(key, str) else f"{key[0]}, {key[1]}")


def _file_name(key: Key) -> str:
    """Return a layer's name as part of a file's, whatever it holds and however long it is."""
    return re.sub(r"[^\w.-]+", "_", _words(key), flags=re.ASCII)[:_NAME_LENGTH] or "model"
