"""The picture of an attribution says what its colors mean, over which pixels, and whether it was checked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explained_models import images, make
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence
from spatialprobe.attribution.picture import draw_attribution
from spatialprobe.render.attribution_map import attribution_map


def drawn(attribution, sample=0, check=None, image=None, scale="all"):
    return draw_attribution(attribution, sample, check, image, None, None, scale)


def test_contributions_lie_over_their_pixels():
    """A unit's color is over the pixels nearest to its field's middle, and pixels add up to the map's sum."""
    contributions = np.zeros((4, 4))
    contributions[1, 2] = 2.0
    image = np.full((8, 8, 1), 0.5, np.float32)
    mosaic = attribution_map(contributions, image, reach=0.5, scope="all", field=None, title="t", words=[])
    assert mosaic.color_bar.high == 0.5  # 2.0 over 4 pixels
    factor = 288 // 8
    panel = mosaic.pixels[-8 * factor - 12 :, 8 * factor + 24 :]
    colored = np.argwhere((panel.max(2).astype(int) - panel.min(2) > 60)[:, : 8 * factor])
    assert len(colored) == (2 * factor) ** 2  # one unit of 2 x 2 pixels, at the end of the scale
    assert np.ptp(colored[:, 0]) == np.ptp(colored[:, 1]) == 2 * factor - 1


def test_units_are_placed_by_their_fields():
    """Without padding the first unit's middle is not the first pixel: the fields say where it is."""
    conv = nn.Conv2d(1, 1, 5, bias=False)
    nn.init.constant_(conv.weight, 0.04)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)).eval()
    field = sp.receptive_fields(model, (1, 1, 10, 10))["0"]
    contributions = np.zeros((6, 6))
    contributions[0, 0] = 1.0
    image = np.zeros((10, 10, 1), np.float32)
    mosaic = attribution_map(contributions, image, reach=1.0, scope="all", field=field, title="t", words=[])
    assert "The strongest unit, (0, 0), contributes +1 and sees rows 0 to 4 and columns 0 to 4" in mosaic.caption


def test_what_one_scale_holds_for():
    """All pictures of a layer have the same color bar, symmetric around zero, and with "all" those of all layers."""
    found = sp.attribute(make("vgg").float(), images("vgg").float(), 2)
    pictures = [
        [drawn(one, sample, scale=scale) for scale in ("layer", "all")] for one in found.values() for sample in (0, 1)
    ]
    own, shared = ([picture.color_bar for picture in column] for column in zip(*pictures, strict=True))
    assert len({(bar.low, bar.high) for bar in shared}) == 1
    assert len({(bar.low, bar.high) for bar in own}) == len(found)
    assert max(bar.high for bar in own) == pytest.approx(shared[0].high)
    assert all(bar.low == -bar.high and bar.signed for bar in own + shared)
    assert "One scale for all images of this layer" in pictures[0][0].caption
    assert "One scale for all layers and images" in pictures[0][1].caption
    assert "One scale for all layers and images" in drawn(found["3"]).caption  # what one gets without asking
    with pytest.raises(sp.ArgumentError, match="scale"):
        found["3"].plot(scale="map")


def test_a_pale_layer_says_how_it_is_seen():
    """The caption of a layer that takes little of the scale of all layers names its own scale, and no other does."""
    model, photo = sp.examples.load_network(), sp.examples.load_photo()
    found = sp.attribute(model, photo[None], "predicted", layers=["conv1", "conv4"])
    assert found["conv4"].reach < 0.2 * found["conv1"].reach
    hint = "scale='layer' shows it in its own range"
    assert hint in drawn(found["conv4"]).caption
    assert hint not in drawn(found["conv4"], scale="layer").caption
    assert hint not in drawn(found["conv1"]).caption


def test_a_single_unit_shows_no_place():
    """A layer behind the pooling has one color all over: the caption says where to look instead."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten()
    ).eval()
    found = sp.attribute(model, torch.rand(1, 3, 8, 8), 1, at="output")
    assert "a layer before the pooling does" in drawn(found["3"]).caption
    assert "before the pooling" not in drawn(found["0"]).caption


def test_the_check_is_in_the_caption():
    """What removing channels showed for the image stands there; without a check, that there was none."""
    model, pictures = make("vgg").float(), images("vgg").float()
    found = sp.attribute(model, pictures, 2)
    deletion = evidence.channel_deletion(model, pictures, found["3"], k=2)
    words = drawn(found["3"], 1, deletion).caption
    assert f"falls by {deletion.values[1]:.3g}; without as many random ones by {deletion.random[1]:.3g}" in words
    assert ("no better than random" in words) is not deletion.better
    assert "Not checked by removing channels" in drawn(found["3"]).caption
    assert "class 2" in drawn(found["3"]).title
    assert found["3"].plot(1, deletion=deletion, width=8).get_figwidth() == 8
    with pytest.raises(sp.ArgumentError, match=r"deletion is of layer '3', run 0, and the attribution of '0'"):
        found["0"].plot(deletion=deletion)
    with pytest.raises(sp.ArgumentError, match="deletion is a float"):
        found["0"].plot(deletion=0.5)


def test_what_cannot_be_drawn():
    """What has no map, tokens that are no grid, a batch of four channels: each says what to do."""
    model, pictures = make("vgg"), images("vgg")
    with pytest.raises(sp.ArgumentError, match="Ablation measures one number for each channel"):
        sp.attribute(model, pictures, 2, layers="0", method="ablation")["0"].plot()
    with pytest.raises(sp.ArgumentError, match="There is no sample 2: the attribution is of 2 images"):
        sp.attribute(model, pictures, 2)["0"].plot(2)
    name = "encoder.layers.encoder_layer_0.mlp"
    vit = sp.attribute(make("vit"), images("vit"), 2, layers=name, at="output", layout="channels_last")[name]
    with pytest.raises(sp.ArgumentError, match=r"has units \(17,\)"):
        vit.plot()
    four = nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = sp.attribute(four, torch.rand(2, 4, 6, 6), 1)["0"]
    with pytest.raises(sp.ArgumentError, match="pass image="):
        found.plot()
    assert "rests on" in drawn(found, image=torch.rand(3, 6, 6)).title
    assert "the image is not of the size" in drawn(found, image=torch.rand(3, 9, 9)).caption
    called = sp.attribute(model, pictures, 2, forward=lambda net, batch: net(batch))["3"]
    assert "is not known, since the model is called by forward=" in drawn(called).caption


class Enlarged(nn.Module):
    """A network that takes its images as a list, as detectors do, or under a name."""

    def __init__(self):
        super().__init__()
        self.net = make("vgg")

    def forward(self, pixels):
        return self.net(2 * (torch.stack(pixels) if isinstance(pixels, list) else pixels))


def test_images_of_any_batch():
    """The image is the one that the model takes of a tuple, a mapping or a list; of several none is chosen."""
    model, pictures = Enlarged().eval(), images("vgg")
    expected = drawn(sp.attribute(model, pictures, 2)["net.3"], 1)
    for batch in ((pictures, torch.zeros(2)), {"pixels": pictures, "label": torch.zeros(2)}, list(pictures)):
        found = drawn(sp.attribute(model, batch, 2)["net.3"], 1)
        assert np.array_equal(found.array, expected.array) or "more than one tensor" in found.caption
    pair = sp.attribute(model, {"a": pictures, "b": pictures}, 2, forward=lambda net, batch: net(batch["a"]))["net.3"]
    with pytest.raises(sp.ArgumentError, match="holds 2 images .* pass image="):
        pair.plot()


def test_volumes_and_signals():
    """Of a volume the slice in the middle of what the strongest unit sees is shown; colors are those of its map."""
    torch.manual_seed(0)
    solid = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    found = sp.attribute(solid, torch.rand(2, 1, 7, 8, 9), 2, layers="0")["0"]
    mosaic = drawn(found, 1)
    place = np.unravel_index(int(found.map[1].abs().argmax()), found.map.shape[1:])
    assert f"Of 7 slices number {place[0] + 1} is shown" in mosaic.caption
    assert f"sees slices {place[0]} to {place[0] + 2}, rows {place[1]} to {place[1] + 2} and columns" in mosaic.caption
    assert "3 x 3 x 3 of 7 x 8 x 9 voxels" in mosaic.caption
    assert np.ptp(mosaic.array, axis=2).max() > 60  # colors over the slice
    line = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    found = sp.attribute(line, torch.rand(1, 2, 40), 0, layers="0")["0"]
    mosaic, unit = drawn(found), int(found.map[0].abs().argmax())
    assert f"The strongest unit, {unit}, contributes" in mosaic.caption
    assert f"sees positions {unit} to {unit + 4}, 5 of 40 values (the frame)" in mosaic.caption
    assert "per input position" in mosaic.caption
