"""Pixels as pictures that are part of the page: without loss where they are few, as JPEG where they are many."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spatialprobe.render.palette import PAPER

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

_LOSSLESS = 2**16  # pixels: a larger picture in color becomes a JPEG
_QUALITY = 88  # of a JPEG
_WEBP_QUALITY = 75  # of a WebP with loss, which comes out about the same
_EFFORT, _METHOD = 80, 2  # of a WebP: with all of it one takes ten times as long and is 1 % smaller


def is_lossless(height: int, width: int) -> bool:
    """Return whether a picture of this size is stored pixel by pixel."""
    return height * width <= _LOSSLESS


def data_uri(pixels: Pixels, colors: Pixels | None = None, *, lossless: bool = True) -> str:
    """Return a picture (H, W, 3), or codes (H, W) and their palette (256, 3), as a data URI.

    The palette's paper is clear. A large picture in color is a JPEG, another a WebP, without loss unless that is not
    asked for; where Pillow writes no WebP, a PNG or a JPEG.
    """
    from PIL import Image, features

    if colors is not None:
        image = Image.frombytes("P", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
        image.putpalette(colors.tobytes())
        return _encoded(image, "PNG", optimize=True, transparency=PAPER)
    image = Image.fromarray(pixels)
    small = is_lossless(*pixels.shape[:2])
    if small and features.check("webp"):
        return _encoded(
            image, "WEBP", lossless=lossless, quality=_EFFORT if lossless else _WEBP_QUALITY, method=_METHOD
        )
    if small and lossless:
        return _encoded(image, "PNG", optimize=True)
    return _encoded(image, "JPEG", quality=_QUALITY, subsampling=0)


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shrink(pixels: Pixels, longest: int) -> Pixels:
    """Return a picture (H, W, 3) whose longer side is at most so many pixels, smaller where it has to be."""
    height, width = pixels.shape[:2]
    share = longest / max(height, width)
    return pixels if share >= 1 else scaled(pixels, max(1, round(height * share)), max(1, round(width * share)))


def scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """A picture (H, W, 3) made smaller, each new pixel from all that it covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.HAMMING))
