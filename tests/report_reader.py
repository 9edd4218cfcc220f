"""A reader of a report's page, independent of the code that writes it."""

from __future__ import annotations

import base64
import json
import zlib
from copy import copy
from html.parser import HTMLParser

import numpy as np


class Page(HTMLParser):
    """The texts, data and pictures of a page, parsed from its HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self.attributes = [], [], [], []
        self._inside = ""
        self.feed(text)
        self.close()
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.texts.append(data)

    @property
    def text(self):
        """The text of the page before its script runs."""
        return " ".join(" ".join(self.texts).split())

    @property
    def policy(self):
        """The content security policy, directive by directive."""
        (meta,) = [one for tag, one in self.attributes if one.get("http-equiv") == "Content-Security-Policy"]
        return dict(one.strip().split(" ", 1) for one in meta["content"].split(";"))

    def pictures(self):
        """Return the attributes of all `img` elements."""
        return [one for tag, one in self.attributes if tag == "img"]

    def of_image(self, number):
        """Return the page as it is for an image of any size."""
        size = self.data["images"][number]["size"]
        if not size:
            return self
        other, found = self.data["sizes"][size - 1], copy(self)
        layers = [mine | grid for mine, grid in zip(self.data["layers"], other["layers"], strict=True)]
        found.data = self.data | {"input": other["input"], "layers": layers}
        return found

    def layer(self, name):
        """Return the data of the layer with this name."""
        (found,) = [layer for layer in self.data["layers"] if layer["name"] == name]
        return found

    def values(self, name, image):
        """Return the decoded values of a layer's maps, (C, h, w), (C, L) or (C, d, h, w), NaN where not finite."""
        layer = self.layer(name)
        maps = layer["maps"][image]
        low, high = unpacked(maps["numbers"], "<f8").reshape(5, -1)[:2, :, None, None, None]
        pieces = []
        for (count, step), text in zip(layer["pieces"], maps["differences"], strict=True):
            height, width = (-(-side * layer["every"] // step) for side in (layer["height"], layer["width"]))
            found = np.cumsum(unpacked(text, "u1"), dtype=np.uint8).reshape(count, layer["depth"], height, width)
            coarse = step // layer["every"]
            pieces.append(found.repeat(coarse, 2).repeat(coarse, 3)[..., : layer["height"], : layer["width"]])
        codes = np.concatenate(pieces).astype(float)
        if layer["order"]:
            codes = codes[np.argsort(unpacked(layer["order"], "<i4"))]
        values = np.where(codes == 255, np.nan, low + (high - low) * codes / 254)
        return values if layer["axes"] == 3 else values[:, 0] if layer["axes"] == 2 else values[:, 0, 0]

    def numbers(self, name, image):
        """Return for each channel the low, high, mean and fraction of units at or below zero, (4, C)."""
        return unpacked(self.layer(name)["maps"][image]["numbers"], "<f8").reshape(5, -1)[:4]

    def boxes(self, name, channel):
        """Return y0, x0, y1, x1 of each unit, then those without clipping, (h, w, 8); zeros for empty fields."""
        layer = self.layer(name)
        which = layer["boxes"]["of"][channel] if layer["boxes"]["of"] else 0
        table = unpacked(layer["boxes"]["tables"][which], "<i4")
        if not layer["boxes"]["byAxis"][which]:
            return table.reshape(*layer["units"], 8)
        rows, columns = np.split(table.reshape(-1, 4), [layer["units"][0]])
        found = np.zeros((len(rows), len(columns), 8), int)
        for y, (y0, y1, whole_y0, whole_y1) in enumerate(rows.tolist()):
            for x, (x0, x1, whole_x0, whole_x1) in enumerate(columns.tolist()):
                if y0 < y1 and x0 < x1:
                    found[y, x] = y0, x0, y1, x1, whole_y0, whole_x0, whole_y1, whole_x1
        return found

    def box(self, name, channel, z, y, x):
        """Return what a unit sees along slices, rows and columns: each (start, stop, and both without clipping)."""
        layer = self.layer(name)
        which = layer["boxes"]["of"][channel] if layer["boxes"]["of"] else 0
        table = unpacked(layer["boxes"]["tables"][which], "<i4")
        height, width = layer["units"]
        if layer["boxes"]["byAxis"][which]:
            lines = table.reshape(-1, 4).tolist()
            deep = lines[height + width + z] if len(lines) > height + width else [0, 1, 0, 1]
            return deep, lines[y], lines[height + x]
        unit = table.reshape(layer["depth"], height, width, -1)[z, y, x].tolist()
        return unit[8:] or [0, 1, 0, 1], unit[0:8:2], unit[1:8:2]


def read(path):
    """Return the page in a file."""
    return Page(path.read_text(encoding="utf-8"))


def unpacked(text, dtype):
    """Return the array in compressed base64."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def over_of(data, image):
    """Return a map over the input, of its shape, as the page holds it, and the difference between two codes."""
    low, high = unpacked(data["maps"][image]["numbers"], "<f8").reshape(5, -1)[:2, 0]
    codes = np.cumsum(unpacked(data["maps"][image]["differences"][0], "u1"), dtype=np.uint8)
    spread = data["spreads"][data["of"][image]]
    found = (
        low + (high - low) * codes.reshape([spread[side] for side in ("depth", "height", "width")]).astype(float) / 254
    )
    lines = [unpacked(spread[axis], "<i4") if spread[axis] else [0] for axis in ("slices", "rows", "columns")]
    return found[np.ix_(*lines)].squeeze(), (high - low) / 254
