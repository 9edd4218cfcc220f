"""Where a layer has its channels: read off what units see, equal to permuting by hand, or refused."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from turned import TURNED, Permuted, made, turn, vit
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.fields import layout as module
from spatialprobe.fields.layout import layouts_of

EACH = [(name, layer) for name in TURNED for layer in TURNED[name][2]]


@pytest.mark.parametrize(("name", "layer"), EACH)
def test_fields_equal_to_permuting_by_hand(name, layer):
    """A channels-last layer has the boxes of its permuted output: no channel is taken for a row."""
    model, images, _ = made(name)
    found = sp.receptive_fields(model, images, layers=layer)[layer]
    turned = Permuted(model, layer, partial(turn, name))
    by_hand = sp.receptive_fields(turned, images, layers="turned", layout="channels_first")["turned"]
    assert found.layout == (sp.Tokens(4, 6, leading=1) if name == "tokens" else "channels_last")
    assert found.output_size == by_hand.output_size
    assert np.array_equal(found.boxes(), by_hand.boxes())
    stride = (4, 4) if name == "tokens" else by_hand.stride  # one permuted by hand does not know that it is a grid
    assert (found.size, found.stride, found.start) == (by_hand.size, stride, by_hand.start)


@pytest.mark.parametrize(("name", "layer"), EACH)
def test_measures_equal_to_permuting_by_hand(name, layer):
    """Effective fields and footprints speak of the units of the layer's own layout."""
    model, images, _ = made(name)
    turned = Permuted(model, layer, partial(turn, name))
    arguments = {"unit": (1,) * (images.ndim - 2), "channels": [0, 2]}
    found = sp.effective_receptive_field(model, images, layer, **arguments)
    by_hand = sp.effective_receptive_field(turned, images, "turned", layout="channels_first", **arguments)
    assert np.allclose(found.map, by_hand.map, atol=1e-12)
    assert (found.unit, found.box) == (by_hand.unit, by_hand.box)
    pixel = (5, 6, 7)[: images.ndim - 2]
    one = sp.evidence.footprint(model, images, layer, pixel)
    other = sp.evidence.footprint(turned, images, "turned", pixel, layout="channels_first")
    assert np.array_equal(one.changed, other.changed)
    assert one.within
    assert one.changed.any()


@pytest.mark.parametrize("name", ["volume", "waves", "mixer"])
def test_equivariance_and_probing_equal_to_permuting_by_hand(name):
    """A shift moves rows and columns, never channels; pooling is over units, never over channels."""
    model, images, _ = made(name)
    turned = Permuted(model, "2")
    shift = (4, 8, 4)[: images.ndim - 2]
    error = sp.evidence.equivariance_error(model, images, "2", shift)
    by_hand = sp.evidence.equivariance_error(turned, images, "turned", shift, layout="channels_first")
    assert error.units == by_hand.units
    assert np.allclose(error.values, by_hand.values)
    assert error.mean < 1e-5
    images, labels = torch.rand(20, *images.shape[1:]), torch.arange(20) % 2
    halves = {"test_images": images, "test_labels": labels}
    found = sp.evidence.linear_probe(model, images, labels, "2", **halves)
    by_hand = sp.evidence.linear_probe(turned, images, labels, "turned", layout="channels_first", **halves)
    assert (found.features, found.accuracy) == (6, by_hand.accuracy) == (by_hand.features, found.accuracy)


def test_gratings_equal_to_permuting_by_hand():
    """Each channel of a channels-last layer has the tuning of the channel, not of a column."""
    model, _, _ = made("mixer")
    arguments = {"shape": (3, 64, 64), "angles": 4, "phases": 3, "frequencies": [0.1, 0.2]}
    found = sp.evidence.orientation_tuning(model, "2", **arguments)
    by_hand = sp.evidence.orientation_tuning(Permuted(model, "2"), "turned", layout="channels_first", **arguments)
    assert found.response.shape == (6, 4, 2)
    assert np.allclose(found.response, by_hand.response)


def test_attention_over_all_tokens():
    """Where all units see everything, the layout before it holds: every layer of a ViT is tokens with channels last."""
    model = vit().eval()
    names = [name for name, _ in model.named_modules()]
    found = layouts_of(model, torch.zeros(2, 3, 32, 32), names)
    last = {name for name, runs in found.items() if sp.Tokens(4, 4, leading=1) in runs}
    assert {name for name, _ in model.named_modules() if name.startswith("encoder") and "self_att" not in name} <= last
    assert found["conv_proj"] == found["heads"] == found[""] == ("channels_first",)
    assert sp.receptive_fields(model, (1, 3, 32, 32))["encoder.ln"].output_size == (4, 4)
    assert sp.receptive_fields(model, (1, 3, 32, 32), layout="channels_last")["encoder.ln"].output_size == (17,)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_false_doubt(name):
    """In every channels-first network of the zoo each layer that returns a tensor has its field, channels first."""
    case = ZOO[name]
    fields = sp.receptive_fields(case.model(), case.shape)
    assert {field.layout for layer in fields for field in fields.calls(layer)} <= {"channels_first"}
    assert not any("holds the channels" in why for why in fields.missing.values())


class Scrambled(nn.Module):
    """Tokens that a linear map has mixed, over all of them: whether these or the others are channels, nothing shows."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.mix = nn.Conv2d(3, 5, 4, stride=4), nn.LayerNorm(5), nn.Linear(6, 7)

    def forward(self, x):
        return self.mix(self.norm(self.conv(x).flatten(2).transpose(1, 2)).transpose(1, 2))


def test_doubt_is_refused():
    """By name it is an error that shows what to write; by a pattern the layer is left out, and `missing` says why."""
    model, shape = Scrambled(), (2, 3, 8, 12)
    said = re.escape("which axis of the output (2, 5, 7) of layer 'mix' holds the channels")
    for call in (
        lambda **how: sp.receptive_fields(model, shape, layers="mix", **how)["mix"],
        lambda **how: sp.receptive_fields(model, shape, layers=model.mix, **how)["mix"],
    ):
        with pytest.raises(sp.UnsupportedOutputError, match=said):
            call()
        assert call(layout="channels_first").output_size == (7,)
        assert call(layout="channels_last").output_size == (5,)
        assert call(unit_axes=(1,)).output_size == (5,)
    for layers in (None, "*", (nn.Conv2d, nn.LayerNorm, nn.Linear)):
        fields = sp.receptive_fields(model, shape, layers=layers)
        assert set(fields) == {"conv", "norm"}
        assert "Pass layout='channels_first', layout='channels_last' or layout=sp.Tokens(" in fields.missing["mix"]
    with pytest.raises(sp.UnsupportedOutputError, match="which axis of the output"):
        sp.receptive_fields(model, shape, layers=nn.Linear)
    images = torch.rand(shape)
    for measure in (
        lambda **how: sp.effective_receptive_field(model, images, "mix", **how).unit,
        lambda **how: sp.evidence.footprint(model, images, "mix", (1, 1), **how).changed.shape,
    ):
        with pytest.raises(sp.UnsupportedOutputError, match="holds the channels"):
            measure()
        assert measure(layout="channels_last") in ((2,), (5,))
        assert measure(layout="channels_first") in ((3,), (7,))


def test_source_with_channels_last():
    """Boxes in the grid of a channels-last layer are over its rows and columns."""
    model, images, _ = made("mixer")
    found = sp.receptive_fields(model, images, layers="4", source="2")["4"]
    assert (found.input_size, found.output_size, found.size) == ((8, 10), (8, 10), (3, 3))
    with pytest.raises(sp.UnsupportedOutputError, match="holds the channels"):
        sp.receptive_fields(Scrambled(), (2, 3, 8, 12), layers="", source="mix")


def test_merged_pixels_are_no_units():
    """Channels that see shifted pixels, where parts of an image are put beside each other, count no units."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.PixelUnshuffle(2), nn.Identity())
    field = sp.receptive_fields(model, (1, 3, 12, 12))["2"]
    assert (field.layout, field.output_size) == ("channels_first", (6, 6))


class Windows(nn.Module):
    """Maps as windows of 2 x 2, side by side: two axes count units together, in no layout."""

    def forward(self, x):
        n, channels, height, width = x.shape
        apart = x.reshape(n, channels, height // 2, 2, width // 2, 2)
        return apart.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 4, channels)


class Gate(nn.Module):
    """Each map times its mean, after which every unit sees the whole image."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


def test_no_pass_without_hope(monkeypatch):
    """After a pass that shows windows, no further one is made for more windows, however many layers they go through."""
    made = []
    follow_from = module._follow_from
    monkeypatch.setattr(module, "_follow_from", lambda *args: made.append(1) or follow_from(*args))
    maps = [nn.Conv2d(3, 4, 3, padding=1), Gate()]
    model = nn.Sequential(*maps, Windows(), *(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(6)))
    found = layouts_of(model, torch.zeros(1, 3, 8, 12), [name for name, _ in model.named_modules()])
    assert {found[name] for name in ("2", "3.0", "8.1")} == {(None,)}
    assert len(made) == 1
