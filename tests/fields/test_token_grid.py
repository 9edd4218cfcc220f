"""Tokens as a grid of units: found from what they see, in networks of many kinds, and equal to the same by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import EncoderBlock
from turned import Tokens as ClassToken
from turned import vit

import spatialprobe as sp
from spatialprobe.fields.layout import layouts_of
from spatialprobe.fields.token_grid import find_grid, token_reach


class Embedded(nn.Module):
    """Patches of an image as tokens, with so many leading ones; then blocks of attention and a norm."""

    def __init__(self, leading, blocks=1, drop=False):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)
        self.token = nn.Parameter(torch.randn(1, leading, 8))
        self.blocks = nn.Sequential(*(EncoderBlock(2, 8, 16, 0.0, 0.0) for _ in range(blocks)))
        self.drop, self.head = drop, nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        mixed = self.blocks(self.norm(torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)))
        return self.head(mixed[:, self.token.shape[1] :] if self.drop else mixed)


class Reduced(nn.Module):
    """Attention of tokens over a coarser grid, and a feed-forward with a convolution over the grid, as in SegFormer."""

    def __init__(self, channels, reduce):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(channels), nn.MultiheadAttention(channels, 2, batch_first=True)
        self.reduce = nn.Conv2d(channels, channels, reduce, stride=reduce)
        self.wide, self.mix, self.narrow = nn.Linear(channels, 12), nn.Conv2d(12, 12, 3, 1, 1), nn.Linear(12, channels)

    def forward(self, x, size):
        keys = self.reduce(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm(x), keys, keys, need_weights=False)[0]
        wide = self.mix(self.wide(x).transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        return x + self.narrow(torch.relu(wide))


class Pyramid(nn.Module):
    """Stages of tokens on ever coarser grids, as in PVT and SegFormer; the maps between them are (N, C, H, W)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.ModuleList([nn.Conv2d(3, 8, 7, 4, 3), nn.Conv2d(8, 6, 3, 2, 1), nn.Conv2d(6, 4, 3, 2, 1)])
        self.norm = nn.ModuleList(nn.LayerNorm(size) for size in (8, 6, 4))
        self.block = nn.ModuleList(Reduced(size, reduce) for size, reduce in ((8, 4), (6, 2), (4, 1)))

    def forward(self, x):
        for embed, norm, block in zip(self.embed, self.norm, self.block, strict=True):
            maps = embed(x)
            tokens = norm(block(maps.flatten(2).transpose(1, 2), maps.shape[2:]))
            x = tokens.transpose(1, 2).unflatten(2, maps.shape[2:])
        return x


class Hybrid(nn.Module):
    """Convolutions, then a transformer over their maps, then a convolution over its tokens as maps."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
        self.block, self.last = EncoderBlock(2, 8, 16, 0.0, 0.0), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        maps = self.stem(x)
        tokens = self.block(maps.flatten(2).transpose(1, 2))
        return self.last(tokens.transpose(1, 2).unflatten(2, maps.shape[2:]))


class Windows(nn.Module):
    """Attention within windows of a grid of tokens, which stay (N, tokens, C), as early Swins have them."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)
        self.attention, self.after = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)

    def forward(self, x):
        maps = self.patches(x)
        n, c, h, w = maps.shape
        tokens = self.norm(maps.flatten(2).transpose(1, 2))
        windows = tokens.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 3).reshape(-1, 4, c)
        mixed = self.attention(windows, windows, windows, need_weights=False)[0]
        return self.after(mixed.reshape(n, h // 2, w // 2, 2, 2, c).transpose(2, 3).reshape(n, h * w, c))


def found(model, shape):
    """Return the layouts of all layers that return a tensor, by name; each ran once."""
    every = [name for name, _ in model.named_modules()]
    return {name: runs[0] for name, runs in layouts_of(model.eval(), torch.zeros(shape), every).items()}


@pytest.mark.parametrize("leading", [0, 1, 2, 5])
@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("shape", [(2, 3, 24, 16), (1, 3, 16, 24)])
def test_leading_tokens(leading, blocks, shape):
    """A class token, one more for distillation, registers: before attention and after it the grid is the same."""
    expected = sp.Tokens(shape[2] // 4, shape[3] // 4, leading)
    layouts = found(Embedded(leading, blocks), shape)
    assert layouts["norm"] == layouts["head"] == expected
    assert {layouts[f"blocks.{i}"] for i in range(blocks)} <= {expected}


def test_dropped_leading_tokens():
    """Behind attention to everything, tokens without the class token are found over the grid of those with it."""
    layouts = found(Embedded(3, 1, drop=True), (2, 3, 16, 24))
    assert (layouts["blocks.0"], layouts["head"]) == (sp.Tokens(4, 6, 3), sp.Tokens(4, 6))


def test_changing_grids():
    """In a pyramid each stage has its own grid."""
    layouts = found(Pyramid(), (1, 3, 64, 96))
    for stage, grid in enumerate([sp.Tokens(16, 24), sp.Tokens(8, 12), sp.Tokens(4, 6)]):
        names = [f"norm.{stage}", *(f"block.{stage}{part}" for part in ("", ".norm", ".wide", ".narrow"))]
        assert {layouts[name] for name in names} == {grid}
        assert layouts[f"embed.{stage}"] == layouts[f"block.{stage}.mix"] == "channels_first"


def test_hybrids_and_windows():
    """Tokens of a feature map, before attention to everything or behind it; and those that see their window alone."""
    layouts = found(Hybrid(), (1, 3, 16, 24))
    assert layouts["block"] == layouts["block.ln_1"] == layouts["block.mlp"] == sp.Tokens(4, 6)
    layouts = found(Windows(), (1, 3, 32, 48))
    assert layouts["norm"] == layouts["after"] == sp.Tokens(8, 12)


def test_no_grid():
    """Tokens along one axis, in columns, or in no order of the image, are no grid of rows; their units are one axis."""
    sequence = nn.Sequential(nn.Conv2d(3, 6, (8, 1)), nn.Flatten(2), Turn(), nn.LayerNorm(6))  # as for reading text
    assert found(sequence, (1, 3, 8, 12))["3"] == "channels_last"
    columns = nn.Sequential(nn.Conv2d(3, 6, 4, 4), Turn(2, 3), nn.Flatten(2), Turn(), nn.LayerNorm(6))
    assert found(columns, (1, 3, 16, 24))["4"] == "channels_last"
    waves = nn.Sequential(nn.Conv1d(3, 6, 4, 4), Turn(), nn.LayerNorm(6))
    assert found(waves, (1, 3, 32))["2"] == "channels_last"
    volume = nn.Sequential(nn.Conv3d(3, 6, 4, 4), nn.Flatten(2), Turn(), nn.LayerNorm(6))
    assert found(volume, (1, 3, 8, 8, 12))["3"] == "channels_last"


class Turn(nn.Module):
    """Swaps two axes."""

    def __init__(self, one=1, other=2):
        super().__init__()
        self.axes = one, other

    def forward(self, x):
        return x.transpose(*self.axes)


@pytest.mark.parametrize("leading", [0, 1, 3])
def test_fields_of_a_grid(leading):
    """Boxes, size, stride and start of tokens are those of the convolution that cut the patches."""
    model = Embedded(leading, 0)
    fields = sp.receptive_fields(model, (1, 3, 16, 24), layers=["patches", "norm"])
    conv, tokens = fields["patches"], fields["norm"]
    assert tokens.layout == sp.Tokens(4, 6, leading)
    for one in ("size", "stride", "start", "period", "output_size"):
        assert getattr(conv, one) == getattr(tokens, one)
    for clip in (True, False):
        assert np.array_equal(conv.boxes(clip=clip), tokens.boxes(clip=clip))
    assert tokens.reached_by(5, 9) == conv.reached_by(5, 9)
    flat = sp.receptive_fields(model, (1, 3, 16, 24), layers="norm", layout="channels_last")["norm"]
    assert flat.output_size == (24 + leading,)
    assert np.array_equal(flat.boxes()[leading:].reshape(4, 6, 4), tokens.boxes())


def test_boxes_over_a_grid_of_tokens():
    """A layer of tokens as the source has a grid of rows and columns; nothing of it are its leading tokens."""
    model = nn.Sequential(ClassToken(), nn.Identity())
    field = sp.receptive_fields(model, (1, 3, 16, 24), layers="1", source="0.norm")["1"]
    assert (field.input_size, field.output_size, field.size) == ((4, 6), (4, 6), (1, 1))
    assert field.box(2, 3) == sp.Box(2, 3, 3, 4)
    assert find_grid(token_reach(sp.Tokens(3, 5, 2), (2, 17, 4))) == sp.Tokens(3, 5, 2)


def test_measures_of_tokens():
    """Shifts, gratings, classifiers and single pixels are measured over the grid."""
    model, images = vit().eval(), torch.rand(4, 3, 32, 32)
    layer = "encoder.layers.encoder_layer_0.ln_1"
    error = sp.evidence.equivariance_error(model, images, layer, (8, 16))
    assert error.mean < 0.5  # but for the embedding of positions, which knows where a patch is
    changed = sp.evidence.footprint(model, images, layer, (9, 20)).changed
    assert np.argwhere(changed).tolist() == [[1, 2]]
    effective = sp.effective_receptive_field(model, images, layer, unit=(1, 2))
    assert effective.box == sp.Box(8, 16, 16, 24)
    tuning = sp.evidence.orientation_tuning(model, layer, shape=(3, 32, 32), angles=4, phases=3, frequencies=[0.1])
    assert tuning.response.shape == (12, 4, 1)
    halves = {"test_images": images, "test_labels": torch.arange(4) % 2}
    assert sp.evidence.linear_probe(model, images, torch.arange(4) % 2, layer, grid=2, **halves).features == 48


def test_a_layout_that_does_not_fit():
    """Tokens that are not as many, or no tokens, are an error by name, and named where a pattern chose the layer."""
    model, shape = Embedded(1, 0), (1, 3, 16, 24)
    said = re.escape("The output (1, 25, 8) of layer 'norm' does not have the layout Tokens(height=4, width=6,")
    with pytest.raises(sp.UnsupportedOutputError, match=said):
        sp.receptive_fields(model, shape, layers="norm", layout=sp.Tokens(4, 6))
    fields = sp.receptive_fields(model, shape, layout=sp.Tokens(4, 6, 1))
    assert set(fields) == {"norm", "blocks", "head", ""}
    assert "does not have the layout" in fields.missing["patches"]
    for measure in (sp.evidence.footprint, sp.evidence.equivariance_error):
        with pytest.raises(sp.UnsupportedOutputError, match="does not have the layout"):
            measure(model, torch.rand(shape), "norm", (1, 1), layout=sp.Tokens(5, 5, 1))
    with pytest.raises(sp.UnsupportedOutputError, match="does not have the layout"):
        sp.receptive_fields(model, shape, layers="head", source="norm", layout=sp.Tokens(5, 6))
    with pytest.raises(sp.ArgumentError, match=r"layout must be 'auto', .* or sp\.Tokens"):
        sp.receptive_fields(model, shape, layout="rows")
