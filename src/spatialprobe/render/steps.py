"""The maps of one step of an evolution, and how those of all steps make one sheet, or a frame each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.render.letters import LINE_HEIGHT, width_of
from spatialprobe.render.maps import flat_tiles
from spatialprobe.render.marks import Marks
from spatialprobe.render.palette import LEVELS, Codes
from spatialprobe.render.rows import Rows, head_width, lay_out_rows
from spatialprobe.render.scale import Extremes, Scale, Values, quantize
from spatialprobe.render.sheet import Grid, Sheet, lay_out

_PANEL = 480  # pixels a side that enlarging the maps of one step does not exceed
_LINE = 1600  # pixels: panels side by side, before the next line begins
_GAP = 12  # pixels between panels
_EDGE = 4  # pixels of paper beside words
_NARROWEST = 36  # pixels: a tile in a column
_BAR_HEIGHT = 10  # pixels


@dataclass(frozen=True, eq=False)
class Step:
    """The maps of one step, as they are drawn."""

    name: str
    tiles: Codes  # (channels, h, w)
    marks: Marks
    channels: npt.NDArray[np.int64]  # (channels,) their numbers
    total: int  # channels that the layer has
    scale: Scale  # of these channels

    @staticmethod
    def of(name: str, maps: Values, scale: Scale, extremes: Extremes, channels: npt.NDArray[np.int64]) -> Step:
        """The step of these channels of maps (C, *spatial), whose scale and extremes are those of all maps."""
        marks = Marks.of(extremes.of_maps(channels))
        tiles = flat_tiles(quantize(maps[channels], scale.of(channels)), signed=scale.signed)
        return Step(name, tiles, marks, channels, len(maps), scale.of(channels))

    def panel(self, after: str = "") -> Sheet:
        """Its maps on a sheet of their own, under the step's name and the number of channels shown."""
        grid = Grid.of(len(self.tiles), self.tiles.shape[1], self.tiles.shape[2], largest=_PANEL)
        maps = lay_out(self.tiles, self.marks.labels(self.channels.tolist(), grid), grid, self.marks.dead)
        head = f"{self.name}{after}   {len(self.channels)} of {self.total} channels"
        panel = Sheet.blank(maps.height + LINE_HEIGHT + _EDGE, max(maps.width, width_of(head) + 2 * _EDGE))
        panel.paste(maps, LINE_HEIGHT + _EDGE, 0)
        panel.write(head, _EDGE, _EDGE)
        return panel

    def panel_with_legend(self) -> Sheet:
        """The panel, and its colors below it."""
        panel, legend = self.panel(), self.legend()
        both = Sheet.blank(panel.height + legend.height, max(panel.width, legend.width))
        both.paste(panel, 0, 0)
        both.paste(legend, panel.height, 0)
        return both

    def legend(self) -> Sheet:
        """The colors between the numbers at their ends, or the words that say that there are no such numbers."""
        if not self.scale.shared:
            words = "each map on a scale of its own"
            line = Sheet.blank(LINE_HEIGHT + _EDGE, width_of(words) + 2 * _EDGE)
            line.write(words, 0, _EDGE)
            return line
        low, high = self.scale.ends()
        left = 2 * _EDGE + width_of(low)
        line = Sheet.blank(LINE_HEIGHT + _EDGE, left + LEVELS // 2 + 2 * _EDGE + width_of(high))
        line.write(low, 0, _EDGE)
        line.pixels[3 : 3 + _BAR_HEIGHT, left : left + LEVELS // 2] = np.arange(LEVELS // 2) * 2
        line.write(high, 0, left + LEVELS // 2 + _EDGE)
        return line


def in_columns(steps: Sequence[Step]) -> Sheet:
    """A row for each channel, a column for each step; all steps have the same channels and sizes."""
    heads = [step.name for step in steps]
    channels = steps[0].channels.tolist()
    height, width = steps[0].tiles.shape[1:]
    rows = Rows.of(len(channels), len(steps), height, width, max(_NARROWEST, head_width(heads)))
    marks = [step.marks.labels([""] * len(channels), rows.grid(1)) for step in steps]
    labels = [mark[row].strip() for row in range(len(channels)) for mark in marks]
    tiles = np.stack([step.tiles for step in steps], axis=1)
    dead = np.stack([step.marks.dead for step in steps], axis=1).ravel()
    return lay_out_rows(tiles.reshape(-1, height, width), labels, list(map(str, channels)), rows, heads, dead)


def in_panels(steps: Sequence[Step], *, legends: bool) -> Sheet:
    """A panel for each step, from left to right in lines below each other."""
    lines: list[list[Sheet]] = [[]]
    for panel in (step.panel_with_legend() if legends else step.panel() for step in steps):
        if lines[-1] and _width(lines[-1]) + _GAP + panel.width > _LINE:
            lines.append([])
        lines[-1].append(panel)
    heights = [max(panel.height for panel in line) for line in lines]
    sheet = Sheet.blank(sum(heights) + _GAP * (len(lines) - 1), max(map(_width, lines)))
    top = 0
    for line, height in zip(lines, heights, strict=True):
        left = 0
        for panel in line:
            sheet.paste(panel, top, left)
            left += panel.width + _GAP
        top += height + _GAP
    return sheet


def in_frames(steps: Sequence[Step]) -> list[Sheet]:
    """For each step its panel over the legend of its scale, all on paper of one size."""
    panels = [step.panel(f" ({number} of {len(steps)})") for number, step in enumerate(steps, start=1)]
    legends = [step.legend() for step in steps]
    height = max(panel.height for panel in panels)
    width = max(part.width for part in (*panels, *legends))
    frames = []
    for panel, legend in zip(panels, legends, strict=True):
        frame = Sheet.blank(height + legend.height, width)
        frame.paste(panel, 0, 0)
        frame.paste(legend, height, 0)
        frames.append(frame)
    return frames


def _width(line: Sequence[Sheet]) -> int:
    return sum(panel.width for panel in line) + _GAP * (len(line) - 1)
