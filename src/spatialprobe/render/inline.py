"""A mosaic as a piece of a web page: the picture, and its title, numbers, color bar and caption as text."""

from __future__ import annotations

import base64

from spatialprobe.render.letters import LINE_HEIGHT
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import INK, LEVELS, colors, palette
from spatialprobe.render.png import png
from spatialprobe.text import as_html

_STOPS = 16  # of the gradient of a bar
_BAR_ROOM = 80  # pixels right of the picture, or as many as the numbers take
_LETTER = 6.5  # pixels of a digit at most
_BAR_HEIGHT = 220  # pixels at most
_INSET = 9  # pixels: the numbers at both ends stick out
_FONT = "font-family:system-ui,sans-serif"


def mosaic_html(mosaic: Mosaic) -> str:
    """Return the picture with title and caption, for a notebook; whatever they hold, they are plain text."""
    height, width = mosaic.pixels.shape[:2]
    across = width + _bar_room(mosaic.color_bar)
    title, caption = as_html(mosaic.title), as_html(mosaic.caption)
    bar = _bar(mosaic.color_bar, width + 14, height) if mosaic.color_bar else ""
    return (
        f'<figure style="margin:0 0 1em;max-width:{across}px;{_FONT};font-size:12px;line-height:1.4">'
        f'<div style="font-weight:600;font-size:13px;margin-bottom:6px">{title}</div>'
        f'<svg role="img" aria-label="{caption}" viewBox="0 0 {across} {height}" width="{across}" '
        f'style="max-width:100%;height:auto;display:block;{_FONT}">{_image(mosaic)}{_letters(mosaic)}{bar}</svg>'
        f'<figcaption style="margin-top:6px;opacity:.8">{caption}</figcaption></figure>'
    )


def _bar_room(bar: ColorBar | None) -> int:
    return 0 if bar is None else max(_BAR_ROOM, round(14 + 18 + _LETTER * max(map(len, bar.ends))))


def _image(mosaic: Mosaic) -> str:
    """The picture without its letters, whose squares stay sharp."""
    height, width = mosaic.pixels.shape[:2]
    encoded = base64.b64encode(png(mosaic.unwritten(codes=True), mosaic.colors, {})).decode()
    return (
        f'<image width="{width}" height="{height}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{encoded}"/>'
    )


def _letters(mosaic: Mosaic) -> str:
    """The labels as text."""
    ink = _color(palette(False)[INK.stop - 1].tolist())
    lines = [
        f'<text x="{one.left}" y="{one.top + LINE_HEIGHT - 3}">{as_html(one.text)}</text>' for one in mosaic.labels
    ]
    return f'<g font-size="9.5" fill="{ink}" style="white-space:pre">{"".join(lines)}</g>'


def _bar(bar: ColorBar, left: int, height: int) -> str:
    """The colors of the values between the numbers at their ends, and zero in the middle of a signed one."""
    shades = colors(bar.signed)
    high = min(_BAR_HEIGHT, max(height, 40)) - 2 * _INSET
    stops = "".join(
        f'<stop offset="{stop / _STOPS:.4g}" stop-color="{_color(shades[stop * (LEVELS - 1) // _STOPS].tolist())}"/>'
        for stop in range(_STOPS + 1)
    )
    name = f"spatialprobe-{'signed' if bar.signed else 'plain'}"  # the same colors wherever the name is found
    numbers = {0.0: bar.ends[1], high: bar.ends[0], **({high / 2: "0"} if bar.signed else {})}
    texts = "".join(
        f'<text x="{left + 18}" y="{_INSET + 4 + y:g}">{as_html(text)}</text>' for y, text in numbers.items()
    )
    return (
        f'<defs><linearGradient id="{name}" x1="0" y1="1" x2="0" y2="0">{stops}</linearGradient></defs>'
        f'<rect x="{left}" y="{_INSET}" width="12" height="{high}" fill="url(#{name})"/>'
        f'<g font-size="10.5" fill="currentColor">{texts}</g>'
    )


def _color(rgb: list[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in rgb)
