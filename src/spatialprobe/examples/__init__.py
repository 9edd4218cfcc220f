"""Something to look at: a photo, drawn patterns, and a small network that is trained on them; all of it works offline.

>>> import spatialprobe as sp
>>> model, photo = sp.examples.load_network(), sp.examples.load_photo()
>>> sp.capture(model, photo[None])["conv1"].shape
(1, 12, 256, 256)
"""

from __future__ import annotations

from spatialprobe.examples.network import PatternNetwork, load_network
from spatialprobe.examples.patterns import CLASSES, draw_masked_patterns, draw_patterns
from spatialprobe.examples.photo import load_photo
from spatialprobe.examples.training import train_network

__all__ = [
    "CLASSES",
    "PatternNetwork",
    "draw_masked_patterns",
    "draw_patterns",
    "load_network",
    "load_photo",
    "train_network",
]
