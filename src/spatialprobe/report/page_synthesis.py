"""The sheets of synthesized inputs as far as a page has room for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from spatialprobe.report.html import Page
from spatialprobe.report.patch_sheets import Patches

_WORDS = 200  # bytes beside the picture of a sheet


@dataclass(frozen=True, eq=False)
class SynthesisSheets:
    """Sheets of the layers of one page, each encoded once."""

    _made: dict[int, Patches | None] = field(default_factory=dict)

    def add(self, page: Page, room: float) -> Page:
        """Return the page with the sheets that fit into so many bytes, small ones first."""
        layers = list(page.layers)
        for index, packed in enumerate(layers):
            if packed.layer.synthesized is not None and index not in self._made:
                self._made[index] = packed.layer.synthesized.draw_sheet()
        sheets = {index: sheet for index, sheet in self._made.items() if sheet is not None}
        for index, sheet in sorted(sheets.items(), key=lambda one: len(one[1].sheet)):
            room -= len(sheet.sheet) + _WORDS
            layers[index] = layers[index].with_synthesized(sheet if room >= 0 else None)
        return replace(page, layers=tuple(layers))
