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


def drawn(attribution, sample=0, check=None, image=None):
    return draw_attribution(attribution, sample, check, image, None, None)


def test_contributions_lie_over_their_pixels():
    """A unit's color is over the pixels nearest to its field's middle, and pixels add up to the map's sum."""
    contributions = np.zeros((4, 4))
    contributions[1, 2] = 2.0
    image = np.full((8, 8, 1), 0.5, np.float32)
    mosaic = attribution_map(contributions, image, reach=0.5, field=None, title="t", words=[])
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
    mosaic = attribution_map(contributions, image, reach=1.0, field=field, title="t", words=[])
    assert "The strongest unit, (0, 0), contributes +1 and sees rows 0 to 4 and columns 0 to 4" in mosaic.caption


def test_one_scale_for_all_layers_and_images():
    """Every picture of one attribution has the same ends of its color bar, symmetric around zero."""
    found = sp.attribute(make("vgg").float(), images("vgg").float(), 2)
    bars = [drawn(one, sample).color_bar for one in found.values() for sample in range(2)]
    assert len({(bar.low, bar.high) for bar in bars}) == 1
    assert bars[0].low == -bars[0].high
    assert bars[0].signed


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
