"""The frame of a page: its title above and its caption below whatever is drawn between them."""

from __future__ import annotations

from dataclasses import dataclass

from spatialprobe.render.figures import (
    CAPTION_FONT,
    CAPTION_LINE,
    MARGIN,
    QUIET,
    TITLE_FONT,
    TITLE_LINE,
    Page,
    blank_page,
    wrapped,
    write_lines,
)


@dataclass(frozen=True)
class FramedPage:
    """A page with title and caption, and the room between them, in pixels from its lower edge."""

    figure: Page
    bottom: float  # of the room
    top: float


def framed_page(title: str, caption: str, across: float, room: float, dpi: float | None) -> FramedPage:
    """Return a page that is `across` pixels wide, with `room` pixels of height between title and caption."""
    head = wrapped(title, across - 2 * MARGIN, TITLE_FONT)
    foot = wrapped(caption, across - 2 * MARGIN, CAPTION_FONT)
    bottom = MARGIN + CAPTION_LINE * len(foot)
    top = bottom + room
    height = top + MARGIN + TITLE_LINE * len(head) + MARGIN
    figure = blank_page(across, height, dpi)
    write_lines(figure, head, height - MARGIN, TITLE_FONT)
    write_lines(figure, foot, bottom, CAPTION_FONT, QUIET)
    return FramedPage(figure, bottom, top)
