"""The page's data as JSON: numbers as they are, arrays compressed [RFC 1950] and in base64."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.coded_kernels import CodedKernels
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.contributions import Contributions, OverInput
from spatialprobe.report.layers import PageLayer
from spatialprobe.report.patch_sheets import Patches
from spatialprobe.report.swept import Swept
from spatialprobe.text import escape_surrogates, map_texts

_LEVEL = 6  # of zlib
_SURROGATE = re.compile(r"\\ud[89a-f]")


def packed(array: npt.NDArray[Any], dtype: str) -> str:
    """The bytes of an array of a dtype such as "<f8", compressed, in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array, dtype).data, _LEVEL)).decode()


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
    maps: tuple[dict[str, str], ...]  # one an image
    parts: dict[str, Any]  # what is the same for all images

    @staticmethod
    def of(layer: PageLayer) -> PackedLayer:
        """Everything of a layer, packed."""
        return PackedLayer(layer, tuple(_maps(maps) for maps in layer.maps), _parts(layer))

    @property
    def map_bytes(self) -> int:
        """The length of all maps in the page."""
        return sum(len(text) for maps in self.maps for text in maps.values())

    @property
    def sheet_bytes(self) -> int:
        """The length of the sheet of patches."""
        return len(self.layer.swept.patches.sheet) if self.layer.swept and self.layer.swept.patches else 0

    def without_maps(self) -> PackedLayer:
        """The same with nothing in place of each map, to learn what all else takes."""
        return replace(self, maps=tuple(dict.fromkeys(maps, "") for maps in self.maps))

    def with_images(self, count: int) -> PackedLayer:
        """The same for the first images only."""
        return replace(self, layer=replace(self.layer, maps=self.layer.maps[:count]), maps=self.maps[:count])

    def with_maps(self, layer: PageLayer) -> PackedLayer:
        """The same with the maps of this layer, in which only they differ."""
        return replace(self, layer=layer, maps=tuple(_maps(maps) for maps in layer.maps))

    def with_patches(self, patches: Patches | None, ranks: int) -> PackedLayer:
        """The same with a sheet of the patches of so many ranks, or with none where there is no room for it."""
        if self.layer.swept is None:
            return self
        swept = replace(self.layer.swept, patches=patches, sheet_ranks=ranks, wants_sheet=True)
        return replace(self, layer=replace(self.layer, swept=swept), parts=self.parts | {"sweep": _swept(swept)})

    def without_kernels(self) -> PackedLayer:
        """The same without kernels."""
        return replace(
            self,
            layer=replace(self.layer, kernels=None, kernels_left_out=self.layer.kernels is not None),
            parts=self.parts | {"kernels": None},
        )

    def data(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        layer = self.layer
        whole = len(layer.channels) == layer.of
        return {
            "name": layer.name,
            "kind": layer.kind,
            "of": layer.of,
            "channels": None if whole else layer.channels.tolist(),
            "height": layer.maps[0].codes.shape[1],
            "width": layer.maps[0].codes.shape[2],
            "every": layer.every,
            "units": layer.field.output_size,
            "signed": layer.signed,
            "reach": layer.reach,
            "robust": layer.robust,
            "maps": self.maps,
            "contributions": layer.contributions and _contributions(layer.contributions, len(self.maps)),
            **self.parts,
        }


def _parts(layer: PageLayer) -> dict[str, Any]:
    return {
        "boxes": _boxes(layer.boxes),
        "field": {"size": layer.field.size, "stride": layer.field.stride},
        "kernels": layer.kernels and _kernels(layer.kernels, layer.source),
        "sweep": layer.swept and _swept(layer.swept),
    }


def _maps(maps: CodedMaps) -> dict[str, str]:
    flat = maps.codes.ravel()
    differences = np.diff(flat, prepend=flat[:1] * 0)  # modulo 256: neighbors are alike, which compresses better
    return {"differences": packed(differences, "u1"), "numbers": packed(maps.numbers, "<f8")}


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
    """Return maps over the input, of the first images, and which of their rows and columns each pixel shows."""
    height, width = over.maps[0].codes.shape[1:]
    return {
        "height": height,
        "width": width,
        "rows": packed(over.rows, "<i4"),
        "columns": packed(over.columns, "<i4"),
        "maps": [_maps(one) for one in over.maps[:images]],
    }


def _swept(swept: Swept) -> dict[str, Any]:
    names = list(swept.statistics)
    numbers = np.stack([swept.statistics[name] for name in names]) if names else np.zeros((0, 0))
    data: dict[str, Any] = {"samples": swept.samples, "names": names, "numbers": packed(numbers, "<f4")}
    if swept.values is not None and swept.places is not None:
        data["values"] = packed(swept.values, "<f4")
        data["places"] = packed(swept.places, "<i4")
        data["columns"] = swept.values.shape[1]
    if swept.patches is not None:
        patches = swept.patches
        data["patches"] = {
            "sheet": patches.sheet,
            "cell": patches.cell,
            "columns": patches.columns,
            "ranks": swept.sheet_ranks,
            "remarks": patches.remarks(),
        }
    return data
