"""Layers that see the batch folded (windows, frames, patches) are refused by one rule, which names the ratio."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PARTS = "first axis holds (8 rows for 2 samples|4 rows for 1 sample)"  # the page runs them alone


class Windows(nn.Module):
    """Windows of 4 x 4 that are folded into the batch: in `inner`, and in the second run of the shared `act`."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        x = self.act(self.stem(x))
        n, c = x.shape[:2]
        y = x.view(n, c, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 4, 4)
        y = self.act(self.inner(y)).view(n, 2, 2, c, 4, 4)
        return self.head(y.permute(0, 3, 1, 4, 2, 5).reshape(n, c, 8, 8)).mean((2, 3))


def report(model, layers, folder):
    return sp.write_report(folder / "page.html", model, IMAGES, layers=layers)


FUNCTIONS = {
    "sweep": lambda model, layers, folder: sp.sweep(model, IMAGES, [sp.Moments], layers=layers, progress=False),
    "attribute": lambda model, layers, folder: sp.attribute(model, IMAGES, 0, layers=layers, at="output"),
    "report": report,
    "fields": lambda model, layers, folder: sp.receptive_fields(model, IMAGES, layers=layers),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_rule(name, tmp_path):
    """By pattern the layer is left out with the ratio; by name it is an error; the others have results."""
    model = Windows().eval()
    found = FUNCTIONS[name](model, ["stem", nn.Conv2d, nn.ReLU], tmp_path)
    reasons = found.missing if name == "fields" else found.left_out
    assert {layer for layer, why in reasons.items() if re.search(PARTS, why)} == {"inner", "act"}
    assert list(found.layers if name == "report" else found) == ["stem", "head"]
    for layers in ("inner", ["stem", "inner"]):
        with pytest.raises(sp.SpatialProbeError, match=PARTS):
            FUNCTIONS[name](model, layers, tmp_path)


@pytest.mark.parametrize(
    "measure",
    [
        lambda model: sp.effective_receptive_field(model, IMAGES, "inner"),
        lambda model: evidence.footprint(model, IMAGES, "inner", (2, 2)),
        lambda model: evidence.equivariance_error(model, IMAGES, "inner", (1, 1)),
        lambda model: evidence.linear_probe(
            model, IMAGES, torch.arange(2), "inner", test_images=IMAGES, test_labels=torch.arange(2)
        ),
    ],
)
def test_measures(measure):
    """So do the measures of one layer."""
    with pytest.raises(sp.UnsupportedOutputError, match=PARTS):
        measure(Windows().eval())


def test_what_the_message_says_to_do():
    """A capture records what the layer returned, and unflattened as the message says it has the samples first."""
    model = Windows().eval()
    record = sp.capture(model, IMAGES, layers="inner")["inner"]
    each = [sp.capture(model, image[None], layers="inner")["inner"].tensor for image in IMAGES]
    torch.testing.assert_close(record.tensor.unflatten(0, (-1, 4)), torch.stack(each))
    field = sp.receptive_fields(model, IMAGES, layers="inner", unit_axes=(0, 2, 3))["inner"]
    assert field.output_size == (8, 4, 4)


@pytest.mark.parametrize(("rows", "why"), [(3, "is not the batch"), (2, None)])
def test_other_first_axes(rows, why):
    """A first axis that is no multiple of the batch is refused in other words; one that is the batch is taken."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity())
    model[1].forward = lambda maps: maps[:1].expand(rows, -1, -1, -1)
    found = sp.sweep(model, IMAGES, [sp.Moments], layers=nn.Module, progress=False)
    assert ("1" in found) is (why is None)
    assert why is None or why in found.left_out["1"]
