"""Contributions on the page: the numbers are those of `attribute`, of plain loops, and of maps passed by the user."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from report_reader import over_of, read, unpacked
from torch import nn

import spatialprobe as sp
from spatialprobe.report import contributions


class Small(nn.Module):
    """Two convolutions, and a third on which no score depends."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 5, 3, stride=2), nn.Conv2d(5, 8, 3), nn.Linear(8, 4)
        self.idle = nn.Conv2d(8, 2, 1)

    def forward(self, images):
        x = torch.relu(self.two(torch.relu(self.one(images))))
        self.idle(x.detach())
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Small().eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 15, 13, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "page.html"


def test_numbers_are_those_of_attribute_and_of_loops(model, images, path):
    """Contributions, scores and scale are those of `attribute`; each fall is measured with that channel zero."""
    target = [3, 0, 1]
    sp.write_report(path, model, images, at="post_activation", targets=target, layers=["one", "two"], progress=False)
    page, found = read(path), sp.attribute(model, images, target)
    score = page.data["score"]
    assert score["words"] == [f"the score of class {one}" for one in target]
    assert np.allclose(score["values"], found["one"].score)
    for name, channels in (("one", 5), ("two", 8)):
        data = page.layer(name)["contributions"]
        assert np.allclose(unpacked(data["channels"], "<f4").reshape(3, channels), found[name].channels)
        ablated = unpacked(data["ablated"], "<f4").reshape(3, channels)
        for channel in range(channels):
            with sp.edited(model, {name: lambda value, c=channel: silenced(value, c)}), torch.no_grad():
                left = model(images)[range(3), target]
            assert np.allclose(ablated[:, channel], found[name].score - left, atol=1e-5)
        deletion = sp.evidence.channel_deletion(model, images, found[name])
        assert data["checks"] == [deletion.words(image) for image in range(3)]
        for image in range(3):
            over, step = over_of(data["over"], image)
            (spread,) = data["over"]["spreads"]
            rows, columns = unpacked(spread["rows"], "<i4"), unpacked(spread["columns"], "<i4")
            density = found[name].map[image].numpy() * found[name].map[image].numel() / (15 * 13)
            assert np.abs(over - density[rows][:, columns]).max() <= step


def silenced(value, channel):
    """Return values of which the ReLU behind them leaves nothing in one channel."""
    changed = value.clone()
    changed[:, channel] = -1
    return changed


def test_layers_without_contributions_and_few_ablations(model, images, path, monkeypatch):
    """Idle layers have none; beyond the budget only the channels that contribute most are ablated one by one."""
    monkeypatch.setattr(contributions, "_BUDGET", 1)
    monkeypatch.setattr(contributions, "_LEAST", 2)
    sp.write_report(path, model, images, targets=lambda output: output.sum(1), progress=False)
    page = read(path)
    assert page.data["score"]["words"] == ["the score"] * 3
    assert page.layer("idle")["contributions"] is None
    data = page.layer("two")["contributions"]
    values, ablated = (unpacked(data[name], "<f4").reshape(3, 8) for name in ("channels", "ablated"))
    assert (np.isfinite(ablated).sum(axis=1) == 2).all()
    for one, fall in zip(values, ablated, strict=True):
        assert set(np.flatnonzero(np.isfinite(fall))) == set(np.argsort(-np.abs(one))[:2])


def test_pages_that_are_cut_keep_what_belongs_together(path):
    """Where channels and images are left out, the others keep their own contributions."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, 3, 48, 48)
    report = sp.write_report(path, model, images, at="post_activation", targets=5, max_bytes=87_000, progress=False)
    page, found = read(path), sp.attribute(model, images, 5)["0"]
    kept = page.layer("0")["channels"]
    assert kept is not None
    assert (len(kept) < 64, report.images) == (True, 1)
    data = page.layer("0")["contributions"]
    values = unpacked(data["channels"], "<f4").reshape(1, len(kept))
    assert np.allclose(values, found.channels[:1, kept])
    assert len(data["checks"]) == len(data["over"]["maps"]) == len(page.data["score"]["values"]) == 1


def test_overlays(model, images, path):
    """Maps of any size and origin are stretched over the input, each on one scale for all images."""
    ramp = torch.linspace(-1, 2, 3 * 5 * 13).reshape(3, 5, 13)
    report = sp.write_report(path, model, images, overlays={"captum": ramp, "numpy": np.ones((3, 15, 13))})
    first, second = read(path).data["overlays"]
    assert (first["name"], second["name"], second["reach"]) == ("captum", "numpy", 1.0)
    over, step = over_of(first["over"], 1)
    assert np.abs(over - ramp[1].repeat_interleave(3, dim=0).numpy()).max() <= step
    assert (report.layers, read(path).data["score"]) == (("one", "two", "idle"), None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "overlays is a list: pass a mapping"),
        ({"a": "b"}, r"overlays\['a'\] is a str: pass a tensor \(N, h, w\)"),
        ({"a": torch.ones(2, 4, 4)}, r"overlays\['a'\] holds 2 of \(4, 4\) for 3 images"),
        ({"a": torch.full((3, 4, 4), torch.nan)}, "infinite or NaN"),
        ({1: torch.ones(3, 4, 4)}, "overlays has the name 1: pass a text"),
    ],
)
def test_wrong_overlays(model, images, path, given, message):
    """What is no map for each image is an error that says so, before any page is written."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.write_report(path, model, images, overlays=given)
    assert not path.exists()
