"""The strip of thumbnails of each layer in the table of a probe."""

from __future__ import annotations

import base64
import io
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import spatialprobe as sp
from spatialprobe.render.palette import LEVELS, palette


def record_of(maps):
    """A probe whose one layer returned these maps."""
    probe = sp.capture(nn.Conv2d(maps.shape[1], maps.shape[1], 1, bias=False), torch.zeros_like(maps))
    probe[""].tensor.copy_(maps)
    return probe


def strips(page):
    """The strips of a table as arrays (h, w, 3)."""
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in encoded]


def test_a_strip_for_each_layer_with_maps():
    """Linear layers have none; the table is that of the repr."""
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 5, 3), nn.Flatten(), nn.Linear(5 * 8 * 8, 2))
    probe = sp.capture(model, torch.rand(2, 3, 12, 12), layers=(nn.Conv2d, nn.Linear))
    page = probe._repr_html_()
    assert len(strips(page)) == 2
    for text in ("12 channels", "Probe of Sequential: 3 layers ran", "(2, 2)", "9.4 KiB", "Maps of sample 0"):
        assert text in page, text
    bare = sp.capture(nn.Linear(3, 2), torch.rand(4, 3), layers="")._repr_html_()
    assert "<img" not in bare
    assert "Maps of sample 0" not in bare


def test_what_a_strip_shows():
    """The channels that vary most, in their order, averaged over squares, on one robust scale from zero."""
    maps = torch.zeros(1, 20, 56, 56)
    for place, channel in enumerate((3, 7, 9, 11, 12, 15, 17, 19)):
        maps[0, channel, : 28 + place, 28:] = 4.0
    maps[0, 5] = 100.0  # large, and the same everywhere
    page = record_of(maps)._repr_html_()
    assert 'alt="8 of 20 channels: 3, 7, 9, 11, 12, 15, 17, 19"' in page
    (strip,) = strips(page)
    assert strip.shape == (28, 8 * 30 - 2, 3)
    colors = palette(False)
    assert (strip[2, 2] == colors[0]).all()
    assert (strip[2, 20] == colors[LEVELS - 1]).all()
    assert (strip[26, 20] == colors[0]).all()


def test_small_maps_are_enlarged_and_signed_ones_diverge():
    """A map of 7 units has squares of 4 pixels; values below zero have the colors of signed maps."""
    maps = torch.zeros(1, 1, 7, 7)
    maps[0, 0, 0, 0], maps[0, 0, 6, 6] = -1.0, 1.0
    (strip,) = strips(record_of(maps)._repr_html_())
    assert strip.shape == (28, 28, 3)
    assert (strip[:4, :4] == palette(True)[0]).all()
    assert (strip[24:, 24:] == palette(True)[LEVELS - 1]).all()


def test_channels_that_are_not_finite_are_seen():
    """They come first among those that are shown, and are marked."""
    maps = torch.rand(1, 20, 28, 28)
    maps[0, 13] = 0.0
    maps[0, 13, 4, 4] = float("nan")
    page = record_of(maps)._repr_html_()
    assert " 13" in re.search(r'alt="([^"]+)"', page)[1]


def test_a_record_that_lost_its_values_has_no_strip():
    """The table is shown all the same; reading the record says what happened."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    with torch.no_grad(), sp.Probe(model) as probe:
        for _ in range(2):
            output = model(torch.rand(1, 1, 6, 6))
    output.zero_()
    with pytest.raises(sp.MutatedActivationError):
        probe["0", 1].tensor  # noqa: B018
    assert "<img" not in sp.Activations([probe["0", 1]])._repr_html_()
    assert "1 layer ran" in sp.Activations([probe["0", 1]])._repr_html_()


def test_the_table_of_a_deep_model_is_small_and_quick():
    """Thumbnails of all layers together are bounded."""
    model = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(120)))
    probe = sp.capture(model, torch.rand(1, 16, 28, 28))
    start = time.perf_counter()
    page = probe._repr_html_()
    assert time.perf_counter() - start < 2
    assert len(page) < 500_000
    assert len(strips(page)) == 120


def test_names_are_text():
    """A layer's name is no HTML."""
    model = nn.ModuleDict({"<script>": nn.Conv2d(1, 2, 3)})
    model.forward = lambda x: model["<script>"](x)
    page = sp.capture(model, torch.rand(1, 1, 6, 6))._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
