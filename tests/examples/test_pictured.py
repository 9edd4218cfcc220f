"""The study's dead channels, and its rules for the network and the image that it shows."""

from __future__ import annotations

import pytest
import torch
from data import load
from experiments import dead, pictured
from experiments.verdicts import Findings
from simple_cnn import SimpleCNN
from torch.nn import functional as F


@pytest.fixture(autouse=True)
def no_gradients():
    """Nothing here is trained."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def data():
    """Thirty drawn patterns."""
    return load("patterns", limit=30)


def networks(biases):
    """Untrained networks by seed; where conv1's bias is set, no channel of conv2 is dead."""
    found = {}
    for seed, bias in biases.items():
        torch.manual_seed(seed)
        found[seed] = SimpleCNN().eval()
        if bias is not None:
            found[seed].conv1.bias.data[:] = torch.tensor(bias)
            found[seed].conv2.bias.data[:] = 2.0
    return found


def test_dead_channels_are_those_that_are_never_above_zero(data):
    """They are found by a plain look at all outputs, and the change of the largest one is bias and sum."""
    before, cnn = networks({0: None, 1: [0.5, -9.0, 0.5, -7.0, 0.5, 0.5]}).values()
    images = data.test_images.float() / 255
    found = dead.dead_channels(cnn, before, images)
    assert found["conv1"]["channels"] == 6
    assert list(found["conv1"]["dead"]) == ["1", "3"]
    for channel, one in found["conv1"]["dead"].items():
        outputs = [model.conv1(images)[:, int(channel)].max().item() for model in (before, cnn)]
        assert [one["before"], one["after"]] == pytest.approx(outputs, abs=1e-5)
        sums = [
            F.conv2d(images, model.conv1.weight, padding=1)[:, int(channel)].max().item() for model in (before, cnn)
        ]
        assert one["after"] - one["before"] - one["bias"] == pytest.approx(sums[1] - sums[0], abs=1e-5)


def test_the_report_names_dead_channels_and_the_reason():
    """Each by seed and layer, with the part of the bias; where none is dead, it says so."""
    one, none = {"before": 0.5, "after": -0.25, "bias": -0.5}, {"conv1": {"channels": 6, "dead": {}}}
    some = {"conv1": {"channels": 6, "dead": {"0": one, "3": one}}}
    words = " ".join(dead.sentences(Findings((4, 5), [{"dead": none}, {"dead": some}], [], 10, 10), 2000))
    assert words.startswith("2 of the 12 channels of the SimpleCNNs are dead")
    assert "(seed 5: conv1 channels 0 and 3)" in words
    assert "change of -0.75, -0.50 comes from their bias and -0.25 from their weights and inputs." in words
    assert dead.sentences(Findings((4,), [{"dead": none}], [], 10, 10), 2000) == [
        "On 2,000 test images no channel of a SimpleCNN is dead."
    ]


def test_the_network_with_the_fewest_dead_channels_is_shown(data):
    """Of equals the first, in the order of the seeds; the sentence that says so has the number."""
    dying = [0.5, 0.5, -9.0, 0.5, 0.5, 0.5]
    shown = pictured.choose(networks({2: dying, 1: [0.5] * 6, 0: [0.5] * 6}), data, image=31)
    assert (shown.seed, shown.dead) == (1, 0)
    assert torch.equal(shown.image, data.test_images[1])  # the numbers go round
    assert "the fewest channels are dead (none)" in shown.reason


def test_the_shown_image_is_where_every_map_varies_most(data):
    """Correctly classified images come first; among them the order is that of a plain loop."""
    (model,) = networks({0: [0.5, 0.5, -9.0, 0.5, 0.5, 0.5]}).values()
    images = data.test_images.float() / 255
    maps1 = F.relu(model.conv1(images))
    maps2 = F.relu(model.conv2(F.max_pool2d(maps1, 2)))
    right = model(images).argmax(1) == data.test_labels
    score = torch.zeros(30)
    for maps in (maps1, maps2):
        for channel in range(maps.shape[1]):
            spread = torch.stack([maps[i, channel, 2:-2, 2:-2].std() for i in range(30)])
            if spread.mean() > 0:
                score += (spread / spread.mean()).clamp(min=1e-6).log()
    expected = sorted(range(30), key=lambda i: (not right[i], -float(score[i])))
    assert list(pictured.rank_images(model, data)) == expected


def test_the_photo_takes_the_place_of_the_image(data):
    """The network stays; the image is the photo that ships, and no test image."""
    shown = pictured.choose(networks({0: None}), data, image=0)
    photo = pictured.with_photo(shown)
    assert (photo.network, photo.seed, photo.ranking) == (shown.network, shown.seed, ())
    assert (photo.image.shape, photo.image.dtype) == ((3, 32, 32), torch.uint8)
    assert "photo" in photo.about
