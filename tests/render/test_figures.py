"""Figures: every kind of picture is drawn without pyplot, and leaves nothing behind in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EVERY_KIND = """
import sys
sys.path.insert(0, {tests!r})
import torch, spatialprobe as sp
from stand_ins import Field, exemplars_of
conv = torch.nn.Conv2d(3, 4, 3, padding=1)
images = torch.rand(5, 3, 8, 8)
records = sp.capture(conv, images)
pictures = [
    sp.feature_maps(records[""]), sp.feature_maps(records), sp.kernels(conv),
    sp.receptive_field_overlay(images[0], Field(), (2, 3)),
    sp.exemplar_patches(exemplars_of(records[""].tensor, 3), images, Field()),
    sp.evolution({{"a": records[""], "b": records[""]}}), sp.activation_histogram(records[""]),
]
for number, picture in enumerate(pictures):
    figure = picture.figure()
    assert type(figure).__module__ == "matplotlib.figure"
    figure.savefig({folder!r} + f"/{{number}}.png")
    figure.savefig({folder!r} + f"/{{number}}.pdf")
print(*sorted(name for name in sys.modules if "pyplot" in name), len(pictures))
"""


def test_pyplot_is_never_imported(tmp_path):
    """Every kind of picture becomes a plain figure, for screen and print, and pyplot stays out of memory."""
    code = EVERY_KIND.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["7"]
    assert len(list(tmp_path.iterdir())) == 14
