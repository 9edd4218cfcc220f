"""A photo that is there wherever matplotlib is: its sample picture, which is in the public domain."""

from __future__ import annotations

import numpy as np
import torch

from spatialprobe.arguments import as_int

SIDE = 512  # pixels, of the square that is cut out of the photo of 600 x 512 pixels, from its upper edge


def load_photo(size: int = 256) -> torch.Tensor:
    """Return a photo (3, size, size) float32 in [0, 1], in RGB: a portrait of Grace Hopper before a flag.

    It is the sample picture that comes with matplotlib, a photo of the United States Navy of 1984 in the public
    domain, cut to a square and resized. Raises ArgumentError for a size below 8 or above 512 pixels.

    >>> photo = load_photo()
    >>> photo.shape, photo.dtype
    (torch.Size([3, 256, 256]), torch.float32)
    """
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    size = as_int(size, "size", least=8, most=SIDE)
    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as photo:
        square = photo.convert("RGB").crop((0, 0, SIDE, SIDE)).resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(square))
    return pixels.permute(2, 0, 1).contiguous().float() / 255
