"""`max_bytes`: no file is larger, and what it cost is told."""

from __future__ import annotations

import pytest
import torch
from report_reader import read
from torch import nn

import spatialprobe as sp


@pytest.fixture(scope="module")
def setting():
    """A model of two layers, some images, and a sweep over them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1))
    images = torch.rand(12, 3, 32, 32)
    sweep = sp.sweep(model, images, {"top": sp.Exemplars, "m": sp.Moments}, progress=False)
    return model, images, sweep


@pytest.mark.parametrize("max_bytes", [2_000_000, 900_000, 400_000, 250_000, 150_000, 100_000, 80_000])
def test_file_is_never_larger(setting, max_bytes, tmp_path):
    """The file keeps within its bytes, the report counts them, and says on the page what it says to the caller."""
    model, images, sweep = setting
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=max_bytes)
    page = read(path)
    assert path.stat().st_size == report.nbytes <= max_bytes
    assert report.images == len(page.data["images"])
    for sentence in report.reduced:
        assert sentence in page.text
    assert bool(report.reduced) == (max_bytes < 2_000_000)
    assert ("Not on this page" in page.text) == bool(report.reduced)
    assert not report.reduced or f"{max_bytes:,} bytes" in page.text


def test_what_is_told_is_true(setting, tmp_path):
    """The channels, images and exemplars that the sentences count are those that the page holds."""
    model, images, sweep = setting
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=130_000)
    page, told = read(path), " ".join(report.reduced)
    assert "1 of 12 images kept, the first." in told
    for name in ("0", "3"):
        layer = page.layer(name)
        kept = layer["channels"]
        assert f"{name}: {len(kept)} of {layer['of']} channels, the ones with the largest values" in told
        strength = sp.capture(model, images[:1])[name].tensor[0].abs().amax(dim=(1, 2))
        assert kept == sorted(strength.argsort(descending=True)[: len(kept)].tolist())
        assert page.values(name, 0).shape[0] == len(kept)


def test_large_layers_give_way_first(tmp_path):
    """A small layer beside a large one keeps all of its channels."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(8), nn.Conv2d(64, 8, 3, padding=1))
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, torch.rand(1, 3, 64, 64), max_bytes=150_000)
    assert read(path).layer("2")["channels"] is None
    assert len(report.reduced) == 1
    assert report.nbytes > 100_000
