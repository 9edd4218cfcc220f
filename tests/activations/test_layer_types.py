"""Every kind of layer that returns a tensor can be probed, and attention through `pick=`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spatialprobe as sp

LAYERS = [
    (nn.Conv1d(2, 3, 3), (1, 2, 8)),
    (nn.Conv2d(2, 3, 3), (1, 2, 8, 8)),
    (nn.Conv3d(2, 3, 3), (1, 2, 5, 5, 5)),
    (nn.ConvTranspose1d(2, 3, 2), (1, 2, 8)),
    (nn.ConvTranspose2d(2, 3, 2), (1, 2, 8, 8)),
    (nn.ConvTranspose3d(2, 3, 2), (1, 2, 4, 4, 4)),
    (nn.LazyConv2d(3, 3), (1, 2, 8, 8)),
    (nn.Linear(4, 3), (2, 4)),
    (nn.BatchNorm2d(2), (2, 2, 4, 4)),
    (nn.GroupNorm(1, 2), (2, 2, 4, 4)),
    (nn.LayerNorm(4), (2, 3, 4)),
    (nn.PixelShuffle(2), (1, 4, 3, 3)),
    (nn.Upsample(scale_factor=2), (1, 2, 3, 3)),
    (nn.Flatten(), (2, 3, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_tensor_returning_layers(layer, shape):
    """The record equals what the layer returned."""
    images = torch.rand(shape)
    model = nn.Sequential(layer, nn.Identity()).eval()
    with torch.no_grad(), sp.Probe(model, "0") as probe:
        expected = model(images)
    assert torch.equal(probe["0"].tensor, expected)
    assert (probe["0"].conv is not None) == isinstance(layer, nn.modules.conv._ConvNd)


def test_attention():
    """Of attention's pair the error names both leaves, and `pick=` picks either."""
    attention, tokens = nn.MultiheadAttention(4, 2, batch_first=True), torch.rand(2, 5, 4)
    with pytest.raises(sp.UnsupportedOutputError, match=r"\[0\] a tensor \(2, 5, 4\), \[1\] a tensor \(2, 5, 5\)"):
        sp.capture(attention, tokens, tokens, tokens, layers="")
    weights = sp.capture(attention, tokens, tokens, tokens, layers="", pick=lambda out: out[1])
    assert torch.equal(weights[""].tensor, weights.output[1])


def test_frozen_attention_has_gradients():
    """Where all is frozen, the graph starts at the picked tensor inside the layer's tuple."""
    attention, tokens = nn.MultiheadAttention(4, 2, batch_first=True).requires_grad_(False), torch.rand(2, 5, 4)
    captured = sp.capture(attention, tokens, tokens, tokens, layers="", pick=lambda out: out[0], gradients=True)
    captured.output[0].square().sum().backward()
    assert torch.allclose(captured[""].gradient, 2 * captured[""].tensor)
