"""The patches that activate a channel most, against crops that are made here."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from stand_ins import Box, Exemplars, Field, exemplars_of
from torch import nn

import spatialprobe as sp
from spatialprobe.render import exemplar_patches as module
from spatialprobe.render.images import Normalization, image_values
from spatialprobe.render.letters import LINE_HEIGHT, lettering
from spatialprobe.render.palette import HATCH, NONFINITE, PAPER, palette
from spatialprobe.render.solids import volume_values

FIELD = Field("conv", (12, 12), (6, 6), (5, 5), (2, 2), (-2, -2))


def images(count=7, seed=0):
    return torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def exemplars(channels=3, k=4, count=7):
    return exemplars_of(torch.randn(count, channels, 6, 6, generator=torch.Generator().manual_seed(1)), k)


@pytest.fixture
def laid_out(monkeypatch):
    """What was laid out on the sheet: tiles, labels, names and places."""
    calls = []
    original = module.lay_out_rows

    def spy(tiles, labels, names, rows, heads=()):
        calls.append((tiles, labels, names, rows))
        return original(tiles, labels, names, rows, heads)

    monkeypatch.setattr(module, "lay_out_rows", spy)
    return calls


def padded_crop(image, box, size):
    """The pixels of a box that may leave the image, -1 where it does, by padding the whole image first."""
    wide = F.pad(image.int(), (20, 20, 20, 20), value=-1)
    crop = wide[:, box.y0 + 20 : box.y1 + 20, box.x0 + 20 : box.x1 + 20]
    return crop.permute(1, 2, 0).numpy().reshape(*size, 3)


def test_patches_are_the_pixels_of_the_boxes(laid_out):
    """Every pixel of every patch is that of the data set, and only what lies outside the image is hatched."""
    data, chosen = images(), exemplars()
    sp.exemplar_patches(chosen, data, FIELD)
    tiles, labels, names, rows = laid_out[0]
    factor = tiles.shape[1] // 5
    ground = palette(False)[[PAPER, HATCH]].tolist()
    for index, tile in enumerate(tiles):
        channel, rank = divmod(index, 4)
        y, x = chosen.positions[channel, rank].tolist()
        crop = padded_crop(data[chosen.samples[channel, rank]], FIELD.box(y, x, clip=False), (5, 5))
        outside = (crop < 0).any(axis=2).repeat(factor, 0).repeat(factor, 1)
        assert np.array_equal(tile[~outside], crop.repeat(factor, 0).repeat(factor, 1)[~outside])
        assert all(color in ground for color in tile[outside].tolist())
        assert labels[index] == f"{chosen.values[channel, rank].item():.3g} #{chosen.samples[channel, rank].item()}"
    assert names == ["0", "1", "2"]
    assert (rows.columns, rows.count) == (4, 3)


def test_what_was_laid_out_is_in_the_picture(laid_out):
    """Tiles, values and channel numbers are on the sheet."""
    picture = sp.exemplar_patches(exemplars(), images(), FIELD, channels=[2]).array
    tiles, labels, names, _ = laid_out[0]
    for piece in (tiles[0], tiles[-1], palette(False)[lettering(labels[0])], palette(False)[lettering(names[0])]):
        height, width = piece.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width, 3))[:, :, 0]
        corners = np.argwhere((windows[:, :, 0, 0] == piece[0, 0]).all(axis=-1))
        assert any(np.array_equal(windows[y, x], piece) for y, x in corners)
    assert palette(False)[lettering(labels[0])].shape[0] == LINE_HEIGHT


def test_channels():
    """Channels are shown in the order asked for, and counted."""
    picture = sp.exemplar_patches(exemplars(), images(), FIELD, channels=[2, 0])
    assert picture.metadata["Channels"] == "2 0"
    assert picture.caption.startswith("2 of 3 channels shown")


def test_each_image_is_read_once():
    """However many channels an image activates, it is read once; those that activate none are not read."""
    data, read = images(), []

    class Counting:
        def __getitem__(self, index):
            read.append(index)
            return data[index], "label"

    chosen = exemplars()
    sp.exemplar_patches(chosen, Counting(), FIELD)
    assert read == sorted(set(chosen.samples.flatten().tolist()))


def test_bytes_and_fractions_are_the_same_picture():
    """Fractions of 255 are shown as the bytes they are."""
    chosen, data = exemplars(), images()
    assert np.array_equal(
        sp.exemplar_patches(chosen, data, FIELD).array, sp.exemplar_patches(chosen, data.float() / 255, FIELD).array
    )


def test_one_stretch_for_all(laid_out):
    """Images of another range are stretched all alike: by the extremes of all that were read."""
    chosen, data = exemplars(), images().float() / 255 * 4 - 1
    picture = sp.exemplar_patches(chosen, data, FIELD)
    used = data[chosen.samples.unique()]
    low, high = used.min().item(), used.max().item()
    assert picture.caption.endswith(f"from {low:.4g} to {high:.4g} are stretched from black to white.")
    y, x = chosen.positions[0, 0].tolist()
    crop = padded_crop(torch.arange(144).reshape(1, 12, 12).repeat(3, 1, 1), FIELD.box(y, x, clip=False), (5, 5))
    row, column = np.argwhere(crop[..., 0] >= 0)[0]
    value = data[chosen.samples[0, 0]].flatten(1)[:, crop[row, column, 0]]
    factor = laid_out[0][0].shape[1] // 5
    shown = laid_out[0][0][0][row * factor, column * factor]
    assert np.abs(shown - ((value - low) / (high - low) * 255).numpy()).max() <= 0.51


def test_gray_images_and_single_patches():
    """Images of one channel are gray; one patch of one channel is a picture too."""
    picture = sp.exemplar_patches(exemplars(1, 1, 1), torch.rand(1, 1, 12, 12), FIELD)
    assert picture.array.shape[2] == 3


def test_images_of_other_numbers_of_channels():
    """Images of two or seven channels are drawn as their mean, as the page draws its own, normalized ones too."""
    for channels in (2, 7):
        data = torch.rand(7, channels, 12, 12, generator=torch.Generator().manual_seed(0))
        of_mean = sp.exemplar_patches(exemplars(), data.mean(1, keepdim=True), FIELD, mean=0.5, std=0.5)
        found = sp.exemplar_patches(exemplars(), data, FIELD, mean=0.5, std=0.5)
        assert np.abs(found.array.astype(int) - of_mean.array).max() <= 1


def test_a_dead_channel_says_so(laid_out):
    """A channel that nothing activates has no patches, which would mean nothing, but words in their place."""
    maps = torch.rand(3, 2, 6, 6)
    maps[:, 1] = 0
    read = []

    class Counting:
        def __getitem__(self, index):
            read.append(index)
            return images(3)[index]

    picture = sp.exemplar_patches(exemplars_of(maps, 2), Counting(), FIELD)
    tiles, labels, names, _ = laid_out[0]
    assert names == ["0", "1"]
    assert labels[2:] == ["never active", ""]
    assert (tiles[2:] == palette(False)[PAPER]).all()
    assert "never active" in [label.text for label in picture.labels]
    assert len(picture.metadata["Samples"].split()) == 2
    only = sp.exemplar_patches(exemplars_of(maps, 2), Counting(), FIELD, channels=[1])
    assert only.metadata["Samples"] == ""


def test_interior_first(laid_out):
    """Where asked, units whose field lies within the image come first, each group in the order of values."""
    positions = torch.tensor([[[0, 0], [2, 3], [5, 2], [3, 3]]])  # boxes of 5 x 5 pixels of 12 x 12, stride 2
    values = torch.tensor([[9.0, 7.0, 5.0, 3.0]])
    some = Exemplars(values, torch.tensor([[3, 2, 1, 0]]), positions)
    inside = [FIELD.box(y, x, clip=False) == FIELD.box(y, x) for y, x in positions[0].tolist()]
    assert inside == [False, True, False, True]
    sp.exemplar_patches(some, images(), FIELD)
    picture = sp.exemplar_patches(some, images(), FIELD, interior=True)
    assert [calls[1] for calls in laid_out] == [
        ["9 #3", "7 #2", "5 #1", "3 #0"],
        ["7 #2", "3 #0", "9 #3", "5 #1"],
    ]
    assert "Units whose field the border does not cut come first." in picture.caption


def test_normalized_images_look_like_the_photo():
    """With mean= and std= a picture of normalized images is that of the images."""
    chosen, data = exemplars(), images().float() / 255
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalized = (data - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = sp.exemplar_patches(chosen, data, FIELD)
    found = sp.exemplar_patches(chosen, normalized, FIELD, mean=mean, std=std)
    assert np.abs(found.array.astype(int) - expected.array).max() <= 1
    assert "stretched" not in found.caption


def test_boxes_of_different_sizes(laid_out):
    """Where boxes differ, smaller ones leave paper; a unit that sees only padding leaves nothing but paper."""

    class Uneven(Field):
        def box(self, y, x, channel=None, clip=True):
            return {0: Box(2, 2, 5, 4), 1: Box(0, 0, 6, 6), 2: None}[y]

    some = Exemplars(torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[[0, 0], [1, 0], [2, 0]]]))
    sp.exemplar_patches(some, images(1), Uneven("c", (12, 12), (6, 6)))
    small, _, empty = laid_out[0][0]
    factor = small.shape[0] // 6
    expected = images(1)[0, :, 2:5, 2:4].permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(small[: 3 * factor, : 2 * factor], expected)
    paper = palette(False)[PAPER]
    assert (small[3 * factor :] == paper).all()
    assert (empty == paper).all()


def test_empty_places(laid_out):
    """A channel with fewer samples than others leaves its last places empty."""
    values = torch.tensor([[3.0, 2.0], [1.0, float("nan")]])
    positions = torch.tensor([[[1, 1], [2, 2]], [[3, 3], [-1, -1]]])
    picture = sp.exemplar_patches(Exemplars(values, torch.tensor([[0, 1], [1, -1]]), positions), images(2), FIELD)
    tiles, labels, names, _ = laid_out[0]
    assert labels == ["3 #0", "2 #1", "1 #1", ""]
    assert (tiles[3] == palette(False)[PAPER]).all()
    assert names == ["0", "1"]
    assert picture.metadata["Value range"] == "1 to 3"


def test_too_many_pixels_are_thinned_out(monkeypatch, laid_out):
    """Where the patches would be too many pixels, every n-th is shown, and the caption says so."""
    monkeypatch.setattr(module, "_MOST_PIXELS", 100)
    whole = Field("deep", (12, 12), (6, 6), (12, 12), (0, 0), (0, 0))
    picture = sp.exemplar_patches(exemplars(1, 4), images(), whole)
    assert "only every 3rd pixel of each row and column is shown" in picture.caption
    chosen, tiles = exemplars(1, 4), laid_out[0][0]
    factor = tiles.shape[1] // 4
    expected = images()[chosen.samples[0, 0], :, ::3, ::3].permute(1, 2, 0).numpy()
    assert np.array_equal(tiles[0][::factor, ::factor], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"field": Field("conv", (12, 12), (2, 2))},
            r"have units up to \(\d, \d\), but the maps of 'conv' are of 2 x 2",
        ),
        ({"field": Field("conv", (9, 9), (6, 6))}, "Sample 0 of the data set is of 12 x 12 pixels"),
        ({"dataset": [3] * 7}, "Sample 0 of the data set is of type int"),
        ({"channels": [3]}, "has channels 0 to 2, not 3"),
        (
            {"exemplars": Exemplars(torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1, 1, 1))},
            "have units of 1 axis, layer 'conv' of 2",
        ),
        ({"exemplars": Exemplars(torch.ones(0, 1), torch.zeros(0, 1), torch.zeros(0, 1, 2))}, "are empty"),
        ({"channels": []}, "channels must be at least one channel number"),
        ({"channels": [True, False, True]}, "these are booleans"),
        ({"channels": [1.7]}, "channels must be integers"),
    ],
)
def test_what_does_not_belong_together(options, message):
    """Exemplars, data set and field of different things are refused, with what differs."""
    arguments = {"exemplars": exemplars(k=7), "dataset": images(), "field": FIELD} | options
    with pytest.raises(sp.ArgumentError, match=message):
        sp.exemplar_patches(**arguments)


def test_file(tmp_path):
    """The text chunks of a lone file name layer, channels, samples and range."""
    chosen = exemplars()
    text = Image.open(sp.exemplar_patches(chosen, images(), FIELD).save(tmp_path / "patches.png")).text
    assert text["Layer"] == "conv"
    assert text["Samples"] == " ".join(map(str, chosen.samples.flatten().tolist()))
    assert "Value range" in text


def test_values_that_are_not_finite():
    """They are crimson, and the caption says so: here and on the image of an overlay."""
    whole = images(6) / 255
    broken = whole.clone()
    broken[:, 1] = float("nan")
    conv, words = nn.Conv2d(3, 2, 3, padding=1), "Pixels with values that are not finite are crimson."
    top = sp.sweep(conv, whole, {"top": sp.Exemplars}, progress=False)[""]["top"]
    field = sp.receptive_fields(conv, whole)[""]
    assert words not in sp.exemplar_patches(top, whole, field).caption
    assert sp.exemplar_patches(top, broken, field).caption.endswith(words)
    overlay = sp.receptive_field_overlay(broken[0], field, (3, 3))
    assert overlay.caption.endswith(words)
    assert (overlay.array == palette(False)[NONFINITE]).all(axis=-1).any()


def test_exemplars_of_another_place():
    """Pooled positions are never cut with the field of the layer before the pooling; the error says what to pass."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU())
    images = torch.rand(6, 1, 10, 10)
    found = sp.sweep(model, images, {"top": sp.Exemplars}, layers="0", at="post_activation", progress=False)["0"]["top"]
    assert (found.layer, found.at, found.map_size) == ("0", "post_activation", (4, 4))
    with pytest.raises(sp.ArgumentError, match=r"maps of 4 x 4, .* of 8 x 8: .* Pass at='post_activation' to"):
        sp.exemplar_patches(found, images, sp.receptive_fields(model, (1, 1, 10, 10))["0"])
    field = sp.receptive_fields(model, (1, 1, 10, 10), at="post_activation")["0"]
    assert "nonlinearity" not in sp.exemplar_patches(found, images, field).caption


def test_exemplars_after_a_nonlinearity_without_pooling():
    """The layer's own field serves, and the caption says that it is the layer's."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    images = torch.rand(6, 1, 10, 10)
    found = sp.sweep(model, images, {"top": sp.Exemplars}, layers="0", at="post_activation", progress=False)["0"]["top"]
    sheet = sp.exemplar_patches(found, images, sp.receptive_fields(model, (1, 1, 10, 10))["0"])
    assert "after the layer's nonlinearity, boxes those of its own output" in sheet.caption


def test_volumes_are_cut_at_the_middle_of_the_box(laid_out):
    """Of a volume the slice through the middle of what the unit sees is shown, padding hatched, its number named."""
    torch.manual_seed(0)
    conv, data = torch.nn.Conv3d(1, 2, (4, 3, 5), padding=(0, 1, 2)), torch.rand(6, 1, 9, 8, 10)
    top = sp.sweep(conv, data, {"top": partial(sp.Exemplars, k=3)}, progress=False, layers=nn.Conv3d)[""]["top"]
    mosaic = sp.exemplar_patches(top, data, sp.receptive_fields(conv, data[:1])[""])
    tiles, labels, _, _ = laid_out[0]
    factor = tiles.shape[1] // 3
    for index, tile in enumerate(tiles[:, factor // 2 :: factor, factor // 2 :: factor]):
        channel, rank = divmod(index, 3)
        sample, (z, y, x) = int(top.samples[channel, rank]), top.positions[channel, rank].tolist()
        middle = (z + z + 3) // 2
        crop = F.pad(data[sample, 0, middle], (2, 2, 1, 1), value=-1)[y : y + 3, x : x + 5].numpy()
        inside = crop >= 0
        assert np.abs(tile[..., 0][inside] - 255 * crop[inside]).max() <= 1
        assert labels[index].endswith(f"#{sample} z{middle}")
    assert "after z, the number of the slice" in mosaic.caption


def test_signals_are_lines(laid_out):
    """Each channel of a signal is a line from its least value to its greatest, where the unit sees it."""
    conv = torch.nn.Conv1d(2, 1, 5, padding=2)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[0.0, 0, 0, 0, 0], [0.0, 0, 0, 0, 1]])  # finds the greatest value, from its left
        conv.bias[:] = 0
    data = torch.stack([torch.linspace(-1, 1, 32), torch.linspace(0, 1, 32)]).repeat(2, 1, 1)
    top = sp.sweep(conv, data, {"top": sp.Exemplars}, progress=False, layers=nn.Conv1d)[""]["top"]
    mosaic = sp.exemplar_patches(top, data, sp.receptive_fields(conv, data[:1])[""])
    (tile, same), height = laid_out[0][0], laid_out[0][0].shape[1]
    assert np.array_equal(tile, same)
    dark = tile.max(axis=-1) < 60
    for band in (dark[: height // 2], dark[height // 2 + 1 :]):
        rows = [int(np.flatnonzero(column).mean()) for column in band.T]
        assert rows == sorted(rows, reverse=True)
        assert rows[0] - rows[-1] > height // 2 - 12
    assert "is a line between the least and the greatest" in mosaic.caption
    with pytest.raises(sp.ArgumentError, match=r"Sample 0 of the data set has 30 values, but .* inputs of 32"):
        sp.exemplar_patches(top, data[..., :30], sp.receptive_fields(conv, data[:1])[""])


def test_volumes_of_other_shapes_are_refused():
    """Volumes of another size than the field's, and what is no volume, say so."""
    conv, data = torch.nn.Conv3d(2, 2, 3), torch.rand(2, 2, 5, 5, 5)
    top = sp.sweep(conv, data, {"top": sp.Exemplars}, progress=False, layers=nn.Conv3d)[""]["top"]
    field = sp.receptive_fields(conv, data[:1])[""]
    with pytest.raises(sp.ArgumentError, match="is of 4 x 5 x 5 voxels, but the field is one of inputs of 5 x 5 x 5"):
        sp.exemplar_patches(top, data[:, :, :4], field)
    with pytest.raises(sp.ArgumentError, match=r"is \(2, 5, 5\): bring one volume"):
        sp.exemplar_patches(top, data[:, :, 0], field)


@pytest.mark.parametrize("axes", [2, 3])
def test_bytes_are_not_normalized(axes):
    """Images and volumes of bytes are refused with mean= and std= alike: there is nothing to undo in them."""
    read = {2: image_values, 3: volume_values}[axes]
    values = torch.full((1,) + (4,) * axes, 255, dtype=torch.uint8)
    assert read(values, None, "It").max() == 1
    with pytest.raises(sp.ArgumentError, match="It is of bytes, which are not normalized"):
        read(values, None, "It", Normalization.of(0.5, 0.2))
