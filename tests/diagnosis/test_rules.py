"""Each rule finds the fault that was planted in a model, and nothing in the same model mended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(128, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


def check(model, rule, data=IMAGES, **options):
    """Return the findings of one rule; without findings it must have passed."""
    found = sp.checkup(model, data, rules=[rule], progress=False, **options)
    assert found.findings or rule in found.passed, dict(found.skipped)
    for one in found.findings:
        assert one.rule == rule
        assert one.evidence.endswith(".")
        assert one.advice.endswith(".")
        if one.picture is not None:
            assert one.plot().axes or one.plot().get_children()
    return found.findings


def chain(*between, seed=0, channels=8):
    """Two convolutions with what stands between them, in evaluation mode."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, channels, 3, padding=1), *between, nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nonfinite(value):
    """The layer is named in which the first NaN or infinity arises, with the sample that shows it."""
    model = chain(nn.ReLU())
    assert not check(model, "nonfinite")
    images = IMAGES.clone()
    images[70, 0, 5, 5] = value
    (found,) = check(model, "nonfinite", images)
    assert found.severity == "error"
    assert found.layer == "0"
    assert "sample 70" in found.evidence
    assert "what it takes is not finite either" in found.evidence
    model[2].bias.data[3] = value
    (found,) = check(model, "nonfinite")
    assert found.layer == "2"
    assert "though what it takes is finite" in found.evidence


def test_nonfinite_that_the_output_does_not_show():
    """An infinity that a later layer hides is found in the layer's statistics."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Hardtanh()).eval()
    model[0].weight.data[1] = 3e38
    model[2].weight.data[:, 1] = 0.01
    (found,) = check(model, "nonfinite", IMAGES.abs() + 1)
    assert found.layer == "0"
    assert found.channels == (1,)
    assert "the output of the model is finite" in found.evidence


def test_training_mode():
    """Each outermost module in training mode is found, if anything in it computes something else then."""
    model = chain(nn.BatchNorm2d(8), nn.Sequential(nn.Dropout(), nn.ReLU()))
    assert not check(model, "training_mode")
    model[2].train()
    (found,) = check(model, "training_mode")
    assert (found.layer, found.severity, found.measured) == ("2", "error", 1)
    model.train()
    (found,) = check(model, "training_mode")
    assert (found.layer, found.measured) == ("", 2)
    assert "The model is in training mode" in found.evidence
    assert not check(chain(nn.ReLU(), nn.Dropout(0.0)).train(), "training_mode")


def test_dead_channels():
    """Dead channels are named; where a leaky nonlinearity passes on what is below zero, there are none."""
    model = chain(nn.ReLU())
    model[0].bias.data[:] = 1.0
    assert not check(model, "dead_channels", layers="0")
    model[0].bias.data[[1, 4]] = -9.0
    (found,) = check(model, "dead_channels", layers="0")
    assert (found.severity, found.layer, found.channels, found.measured) == ("warning", "0", (1, 4), 2)
    assert "2 of 8 channels are never above zero after relu, in 128 samples of 144 units." in found.evidence
    assert check(model, "dead_channels", IMAGES[:50], layers="0")[0].severity == "note"
    leaky = chain(nn.LeakyReLU(0.2))
    leaky[0].bias.data[[1, 4]] = -9.0
    assert not check(leaky, "dead_channels", layers="0")
