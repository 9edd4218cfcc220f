"""Sweeps of other weights or other images are noticed on the page."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spatialprobe as sp


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()).eval()


def images(seed, count=30):
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def report(path, model, swept, dataset, at="output"):
    result = sp.sweep(swept, images(0), {"top": sp.Exemplars, "all": sp.Moments}, at=at, progress=False)
    return sp.write_report(path / "page.html", model, images(0, 2), sweep=result, dataset=dataset)


@pytest.mark.parametrize("at", ["output", "post_activation"])
@pytest.mark.parametrize("dataset", [images(0), [(image, 0) for image in images(0)], images(0).double().half().float()])
def test_what_fits_is_not_doubted(tmp_path, at, dataset):
    """The model and the data that were swept, also where rounding is another."""
    model = net(0)
    assert report(tmp_path, model, model, dataset, at).doubts == ()


def test_layers_that_run_twice(tmp_path):
    """A sweep takes the strongest of all runs of a layer, and so does the comparison."""
    model = net(0)
    model[1] = nn.Sequential(nn.ReLU(), turn := nn.Conv2d(8, 8, 1), turn)
    assert report(tmp_path, model, model, images(0)).doubts == ()


@pytest.mark.parametrize(
    ("model", "dataset"),
    [(net(1), images(0)), (net(0), images(1)), (net(0), images(0) * 2), (net(0), images(0).flip(0))],
)
def test_other_weights_and_other_images(tmp_path, model, dataset):
    """The page and the report say where, and what the values are, which are the model's own."""
    found = report(tmp_path, model, net(0), dataset)
    assert len(found.doubts) == 1
    words = found.doubts[0].replace(",", "").split()
    assert words[:4] == ["The", "sweep", "does", "not"]
    channel, sample = (int(words[words.index(word) + 1]) for word in ("channel", "sample"))
    swept, reached = (float(words[words.index(word) + 1]) for word in ("found", "reaches"))
    with torch.no_grad():
        assert net(0)[:3](images(0))[sample, channel].max() == pytest.approx(swept, rel=0.01)
        assert model[:3](dataset)[sample, channel].max() == pytest.approx(reached, rel=0.01)
    assert found.doubts[0].split(":")[0] in found.path.read_text()


def test_one_layer_trained_further(tmp_path):
    """The last layer is tried, so that a change anywhere before it shows."""
    model = net(0)
    nn.init.normal_(model[0].weight[0])
    assert report(tmp_path, model, net(0), images(0)).doubts


def test_data_sets_for_the_eye(tmp_path):
    """Bytes make pictures, but nothing that the model takes: then nobody knows, and the page says so."""
    model = net(0)
    found = report(tmp_path, model, model, (255 * images(0)).to(torch.uint8))
    assert found.doubts[0].startswith("Whether the sweep fits is not known: on sample")
    assert "RuntimeError" in found.doubts[0]


def test_dead_layers(tmp_path):
    """Where all exemplars are zero there is nothing to compare."""
    model = net(0)
    nn.init.constant_(model[2].bias, -1000)
    assert report(tmp_path, model, model, images(1), at="post_activation").doubts == ()
    assert report(tmp_path, model, model, images(0)).doubts == ()
