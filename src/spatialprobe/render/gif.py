"""Animated GIFs, one frame a step."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spatialprobe.text import escape_surrogates

Frame = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]  # codes (H, W) with their colors (256, 3)


def gif(frames: Sequence[Frame], seconds: float, comment: str) -> bytes:
    """The animation: each frame for so long, the last for twice that, without end."""
    from PIL import Image

    images = []
    for pixels, colors in frames:
        image = Image.fromarray(pixels)
        if colors is not None:
            image.putpalette(colors.tobytes())
        images.append(image)
    buffer = io.BytesIO()
    milliseconds = round(1000 * seconds)
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=[*[milliseconds] * (len(images) - 1), 2 * milliseconds],
        loop=0,
        comment=escape_surrogates(comment).encode("ascii", "backslashreplace"),
        optimize=False,
        disposal=1,
    )
    return buffer.getvalue()
