"""The page's data as JSON: numbers as they are, arrays packed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.coded_kernels import CodedKernels
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.contributions import Contributions
from spatialprobe.report.layers import Grid, PageLayer
from spatialprobe.report.map_pieces import MapPieces
from spatialprobe.report.over_input import OverInput, Spread
from spatialprobe.report.packing import differences, packed
from spatialprobe.report.patch_sheets import Patches
from spatialprobe.report.swept import Swept
from spatialprobe.text import escape_surrogates, map_texts

_SURROGATE = re.compile(r"\\ud[89a-f]")


def script_safe(data: object) -> str:
    """JSON that no HTML parser can take for the end of a script, and that holds no lone surrogates."""
    text = _json(data)  # ASCII only: all else is escaped
    if _SURROGATE.search(text):
        text = _json(map_texts(escape_surrogates, data))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, eq=False)
class PackedLayer:
    """A layer and its arrays in the form in which the page holds them."""

    layer: PageLayer
    pieces: tuple[tuple[int, int], ...]  # of the maps: channels, and that one of so many rows and columns is there
    order: npt.NDArray[np.int64]  # (C,) places among the layer's channels, in the order of the pieces
    maps: tuple[tuple[str, ...], ...]  # for each image one text a piece
    parts: dict[str, Any]  # what is the same for all images
    grids: tuple[dict[str, Any], ...]  # for each size of the images the fields of the layer's units

    @property
    def sheet_bytes(self) -> int:
        """The length of the sheet of patches."""
        return len(self.layer.swept.patches.sheet) if self.layer.swept and self.layer.swept.patches else 0

    @property
    def map_bytes(self) -> int:
        """The length of all maps in the page."""
        return sum(len(text) for texts in self.maps for text in texts)

    def without_maps(self) -> PackedLayer:
        """The same with nothing in place of each map, to learn what all else takes."""
        return replace(self, maps=tuple(("",) * len(texts) for texts in self.maps))

    def with_patches(self, patches: Patches | None, ranks: int) -> PackedLayer:
        """The same with a sheet of the patches of so many ranks, or with none where there is no room for it."""
        if self.layer.swept is None:
            return self
        swept = replace(self.layer.swept, patches=patches, sheet_ranks=ranks, wants_sheet=True)
        return replace(self, layer=replace(self.layer, swept=swept), parts=self.parts | {"sweep": _swept(swept)})

    def with_synthesized(self, sheet: Patches | None) -> PackedLayer:
        """The same with the sheet of its synthesized inputs, or with none where there is no room for it."""
        if self.layer.synthesized is None:
            return self
        found = replace(self.layer.synthesized, sheet=sheet, wants_sheet=True)
        return replace(
            self, layer=replace(self.layer, synthesized=found), parts={**self.parts, "synthesized": found.data()}
        )

    def grid(self, size: int) -> dict[str, Any]:
        """Return the units of the layer for images of one size, and their fields."""
        units = self.layer.grids[size].boxes.tables[0].size
        return {
            "height": -(-units[-2] // self.layer.every),
            "width": -(-units[-1] // self.layer.every),
            "depth": units[0] if len(units) == 3 else 1,
            "units": units[-2:],
            **self.grids[size],
        }

    def data(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        layer = self.layer
        whole = len(layer.channels) == layer.of
        in_order = np.array_equal(self.order, np.arange(len(self.order)))
        return {
            "name": layer.name,
            "kind": layer.kind,
            "of": layer.of,
            "channels": None if whole else layer.channels.tolist(),
            "axes": len(layer.field.output_size),
            "every": layer.every,
            "signed": layer.signed,
            "reach": layer.reach,
            "robust": layer.robust,
            "pieces": self.pieces,
            "order": None if in_order else packed(self.order, "<i4"),
            "maps": [
                {"differences": texts, "numbers": packed(maps.numbers, "<f8")}
                for texts, maps in zip(self.maps, layer.maps, strict=True)
            ],
            "contributions": layer.contributions and _contributions(layer.contributions, len(self.maps)),
            **self.grid(0),
            **self.parts,
        }


@dataclass(frozen=True, eq=False)
class PackedParts:
    """Layers as the page holds them; what is the same for several sets of maps is packed once."""

    _known: dict[tuple[str, bool, int], tuple[dict[str, Any], tuple[dict[str, Any], ...]]] = field(default_factory=dict)

    def packed(
        self, layer: PageLayer, pieces: MapPieces, steps: Sequence[int], images: int, blank: bool = False
    ) -> PackedLayer:
        """Return a layer with its first pieces, each with one of so many rows and columns, for the first images.

        A blank one has nothing in place of each map.
        """
        counts = [len(pieces.channels(piece)) for piece in range(len(steps))]
        kept = pieces.order[: sum(counts)]
        if len(kept) < len(layer.channels):
            layer = layer.of_channels(np.sort(kept))
        coarse = sum(count for count, step in zip(counts, steps, strict=True) if step > 1)
        layer = replace(layer, maps=layer.maps[:images], every=min(steps), coarse=coarse)
        texts = tuple(
            tuple("" if blank else pieces.text(image, piece, step) for piece, step in enumerate(steps))
            for image in range(images)
        )
        key = layer.name, layer.kernels_left_out, len(kept)
        if key not in self._known:
            self._known[key] = _parts(layer), tuple(_grid(grid) for grid in layer.grids)
        packs = tuple(zip(counts, steps, strict=True))
        return PackedLayer(layer, packs, np.searchsorted(np.sort(kept), kept), texts, *self._known[key])


def _parts(layer: PageLayer) -> dict[str, Any]:
    return {
        "kernels": layer.kernels and _kernels(layer.kernels, layer.source),
        "sweep": layer.swept and _swept(layer.swept),
        "synthesized": layer.synthesized and layer.synthesized.data(),
        "concepts": layer.concepts and layer.concepts.data(),
    }


def _grid(grid: Grid) -> dict[str, Any]:
    field = {name: getattr(grid.field, name) for name in ("size", "stride", "ignored")}
    return {"boxes": _boxes(grid.boxes), "field": field}


def _boxes(boxes: LayerBoxes) -> dict[str, Any]:
    return {
        "tables": [packed(table.numbers, "<i4") for table in boxes.tables],
        "byAxis": [table.by_axis for table in boxes.tables],
        "of": boxes.of_channel.tolist() if len(boxes.tables) > 1 else None,
        "exact": boxes.exact,
        "unknown": boxes.unknown,
    }


def _kernels(kernels: CodedKernels, source: str | None) -> dict[str, Any]:
    return {
        "shape": kernels.codes.shape[1:],
        "codes": packed(kernels.codes, "u1"),
        "reach": packed(kernels.reach, "<f4"),
        "inputs": packed(kernels.inputs, "<i4"),
        "of": kernels.of,
        "inColor": kernels.in_color,
        "depth": kernels.depth,
        **({} if source is None else {"source": source, "bias": packed(kernels.bias, "<f4"), "steps": kernels.steps}),
    }


def _contributions(found: Contributions, images: int) -> dict[str, Any]:
    return {
        "channels": packed(found.channels[:images], "<f4"),
        "ablated": packed(found.ablated[:images], "<f4"),
        "over": found.over and over_data(found.over, images),
        "checks": found.checks[:images],
    }


def over_data(over: OverInput, images: int) -> dict[str, Any]:
    """Return maps over the input, of the first images, and which of their units each line of pixels shows."""
    spreads = list(dict.fromkeys(over.spreads[:images]))
    return {
        "spreads": [_spread(spread) for spread in spreads],
        "of": [spreads.index(spread) for spread in over.spreads[:images]],
        "maps": [
            {"differences": [differences(one.codes)], "numbers": packed(one.numbers, "<f8")}
            for one in over.maps[:images]
        ],
    }


def _spread(spread: Spread) -> dict[str, Any]:
    """Return the size of a map as rows, columns and slices, and its lines, none along an axis that the input lacks."""
    depth, height, width = (1,) * (3 - len(spread.size)) + spread.size
    lines = (None,) * (3 - len(spread.lines)) + tuple(packed(line, "<i4") for line in spread.lines)
    slices, rows, columns = lines
    return {"depth": depth, "height": height, "width": width, "slices": slices, "rows": rows, "columns": columns}


def signal_data(signal: CodedMaps) -> dict[str, Any]:
    """Return the lines of a signal, as the page holds maps."""
    return {"differences": [differences(signal.codes)], "numbers": packed(signal.numbers, "<f8")}


def signal_ranges(signals: Sequence[CodedMaps]) -> dict[str, Any] | None:
    """Return the least and the greatest value of each channel over all signals; None where there is none."""
    if not signals:
        return None
    low = np.fmin.reduce([one.low for one in signals])
    high = np.fmax.reduce([one.high for one in signals])
    return {"low": np.nan_to_num(low).tolist(), "high": np.nan_to_num(high).tolist()}


def _swept(swept: Swept) -> dict[str, Any]:
    names = list(swept.statistics)
    numbers = np.stack([swept.statistics[name] for name in names]) if names else np.zeros((0, 0))
    data: dict[str, Any] = {"samples": swept.samples, "names": names, "numbers": packed(numbers, "<f4")}
    if swept.values is not None and swept.places is not None:
        data["values"] = packed(swept.values, "<f4")
        data["places"] = packed(swept.places, "<i4")
        data["columns"] = swept.values.shape[1]
        data["hasBoxes"] = swept.has_boxes
    if swept.patches is not None:
        patches = swept.patches
        data["patches"] = {
            "sheet": patches.sheet,
            "cell": patches.cell,
            "tall": patches.tall,
            "axes": patches.axes,
            "every": patches.every,
            "columns": patches.columns,
            "ranks": swept.sheet_ranks,
            "remarks": patches.remarks(),
        }
    return data
