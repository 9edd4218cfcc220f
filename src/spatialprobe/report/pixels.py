"""Pixels as pictures that are part of the page: PNG where they are few, JPEG where they are many."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

from spatialprobe.render.palette import PAPER

Pixels = npt.NDArray[np.uint8]

_LOSSLESS = 2**16  # pixels: a larger picture in color becomes a JPEG
_QUALITY = 88  # of a JPEG


def is_lossless(height: int, width: int) -> bool:
    """Whether a picture of this size is stored pixel by pixel."""
    return height * width <= _LOSSLESS


def data_uri(pixels: Pixels, colors: Pixels | None = None, *, lossless: bool = True) -> str:
    """Return a picture (H, W, 3), or codes (H, W) and their palette (256, 3), as a data URI.

    The palette's paper is clear. A picture that is large, or need not be lossless, is a JPEG.
    """
    from PIL import Image

    if colors is not None:
        image = Image.frombytes("P", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
        image.putpalette(colors.tobytes())
    else:
        image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if colors is not None or (lossless and is_lossless(*pixels.shape[:2])):
        image.save(buffer, "PNG", optimize=True, **({"transparency": PAPER} if colors is not None else {}))
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=not lossless)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """A picture (H, W, 3) made smaller, each new pixel from all that it covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
