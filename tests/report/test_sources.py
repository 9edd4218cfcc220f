"""What a convolution took: the image, the values of a captured layer, or something that the page does not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from report_reader import read, unpacked
from torch import nn

import spatialprobe as sp


class Branches(nn.Module):
    """Two convolutions of the image, one of a convolution's output, one of a sum, and one that runs twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(2))
        self.third = nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.sum = nn.Conv2d(4, 4, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.again = nn.Conv2d(4, 4, 1)

    def forward(self, images):
        one, two = self.first(images), self.second(images)
        return self.again(self.again(self.sum(self.third(one) + two)))


def test_sources_are_what_was_taken(tmp_path):
    """Each convolution names the image or the layer run whose values it took; a sum is nobody's."""
    torch.manual_seed(0)
    sp.write_report(tmp_path / "page.html", Branches(), torch.rand(2, 3, 12, 12))
    kernels = {layer["name"]: layer["kernels"] for layer in read(tmp_path / "page.html").data["layers"]}
    assert {name: one.get("source") for name, one in kernels.items()} == {
        **{"first": "", "second": "", "third": "first", "sum": None},
        **{"again run 0": "sum", "again run 1": "again run 0"},
    }
    assert kernels["third"]["steps"] == [1, 1, 2, 2, 2, 2]
    assert "steps" not in kernels["sum"]


@pytest.mark.parametrize("name", ["third", "first"])
def test_bias_is_the_models(name, tmp_path):
    """The bias of each channel is there as it is."""
    model = Branches()
    sp.write_report(tmp_path / "page.html", model, torch.rand(1, 3, 12, 12))
    stored = unpacked(read(tmp_path / "page.html").layer(name)["kernels"]["bias"], "<f4")
    assert np.array_equal(stored, getattr(model, name).bias.detach().numpy())


def test_after_the_nonlinearity(tmp_path):
    """With `at="post_activation"` a convolution of the activated values has a source, one of pooled values has none."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1), nn.ReLU()
    )
    sp.write_report(tmp_path / "page.html", model, torch.rand(1, 3, 12, 12), at="post_activation")
    sources = [layer["kernels"].get("source") for layer in read(tmp_path / "page.html").data["layers"]]
    assert sources == ["", "0", None]
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "images",
    [torch.rand(1, 4, 12, 12), torch.full((1, 3, 12, 12), torch.nan), torch.rand(1, 3, 300, 300)],
    ids=["four channels", "not finite", "stored with loss"],
)
def test_images_that_cannot_be_read_off(images, tmp_path):
    """Where the picture on the page does not say the image's values, no product is made of them."""
    sp.write_report(tmp_path / "page.html", nn.Conv2d(images.shape[1], 2, 3), images)
    assert "source" not in read(tmp_path / "page.html").data["layers"][0]["kernels"]
