"""Removing the channels that an attribution names, beside plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from explained_models import images, make
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence


def without(model, layer, pictures, rows):
    """Return the scores of class 2 of a sequence where the channels of each image in `rows` are zero."""
    value = model[: layer + 1](pictures).clone()
    for image, channels in enumerate(rows):
        value[image, channels] = 0
    return model[layer + 1 :](value)[:, 2]


def test_deletion_is_the_plain_loop():
    """Falls without each image's own top and lowest channels are those of a loop by hand."""
    model, pictures = make("vgg"), images("vgg", 5)
    found = sp.attribute(model, pictures, 2)["3"]
    deletion = evidence.channel_deletion(model, pictures, found, k=3)
    with torch.no_grad():
        score = model(pictures)[:, 2]
        order = found.channels.argsort(dim=1, descending=True)
        top = score - without(model, 4, pictures, order[:, :3])
        lowest = score - without(model, 4, pictures, order[:, -3:])
    assert torch.from_numpy(deletion.values).allclose(top, rtol=1e-5, atol=1e-7)
    assert torch.from_numpy(deletion.lowest).allclose(lowest, rtol=1e-5, atol=1e-7)
    assert (deletion.n, deletion.k, deletion.channels, deletion.layer) == (5, 3, 8, "3")


def test_random_channels_are_all_channels_alike():
    """Over many images the random falls come near to the mean over all sets of one channel."""
    model, pictures = make("vgg"), images("vgg", 2)
    found = sp.attribute(model, pictures, 2, method="ablation")["3"]
    falls = [evidence.channel_deletion(model, pictures, found, k=1, seed=seed).random for seed in range(12)]
    mean = found.channels.mean(1)
    error = found.channels.std(1) / (12 * 16) ** 0.5
    assert (torch.from_numpy(np.array(falls)).mean(0) - mean).abs().lt(4 * error).all()
    again = evidence.channel_deletion(model, pictures, found, k=1, seed=3).random
    assert (again == falls[3]).all()


def test_ablation_is_better_than_random_and_noise_is_not():
    """Channels that were measured to carry the score are better than random ones; drawn numbers are not, and say so."""
    model, pictures = make("vgg"), images("vgg", 12)
    found = sp.attribute(model, pictures, 2, method="ablation")["3"]
    good = evidence.channel_deletion(model, pictures, found, k=1)
    assert good.better
    assert good.margin > 0
    torch.testing.assert_close(torch.from_numpy(good.values).float(), found.channels.max(1).values)
    generator = torch.Generator().manual_seed(4)
    noise = [
        evidence.channel_deletion(model, pictures, replace(found, channels=torch.rand(12, 8, generator=generator)), k=1)
        for _ in range(10)
    ]
    assert sum(one.better for one in noise) <= 2
    bad = next(one for one in noise if not one.better)
    assert "no better than random channels" in repr(bad)
    assert "no better than random channels" in bad.words()
    assert "no better" not in repr(good)
    assert "no better than random channels" in bad._repr_html_()
    rows = dict(line.strip().rsplit(maxsplit=2)[:2] for line in repr(good).splitlines()[2:5])
    assert rows == {
        "the top 1": f"{good.mean:.3g}",
        "1 at random, 16 sets": f"{good.random.mean():.3g}",
        "the lowest 1": f"{good.lowest.mean():.3g}",
    }


def test_one_run_of_a_shared_layer_and_a_function():
    """The run that the attribution is of loses its channels; the score is that of the function."""
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)).eval()
    pictures = torch.rand(3, 3, 8, 8)
    found = sp.attribute(model, pictures, lambda out: out[torch.arange(3), torch.tensor([1, 2, 3])])
    assert len(found.calls("0")) == 2
    for call in (0, 1):
        deletion = evidence.channel_deletion(model, pictures, found["0", call], k=1)
        with torch.no_grad():
            value = model[: 2 * call + 2](pictures)
            top = found["0", call].top(1)[:, 0]
            value[torch.arange(3), top] = 0
            left = model[2 * call + 2 :](value)[torch.arange(3), torch.tensor([1, 2, 3])]
        expected = found["0", call].score - left
        torch.testing.assert_close(torch.from_numpy(deletion.values).float(), expected, rtol=1e-4, atol=1e-6)


def test_wrong_arguments():
    """Other images, another model, too many channels, or what is no attribution: each says what to pass."""
    model, pictures = make("vgg"), images("vgg")
    mapping = sp.attribute(model, pictures, 2)
    found = mapping["3"]
    with pytest.raises(sp.ArgumentError, match=r"sp\.attribute\(model, images\)\['conv1'\]"):
        evidence.channel_deletion(model, pictures, mapping)
    with pytest.raises(sp.ArgumentError, match="k=8 leaves no other channels"):
        evidence.channel_deletion(model, pictures, found, k=8)
    with pytest.raises(sp.ArgumentError, match="There are 1 image, and the attribution is of 2"):
        evidence.channel_deletion(model, pictures[:1], found)
    with pytest.raises(sp.ArgumentError, match="The score of image 0 is"):
        evidence.channel_deletion(model, pictures.flip(0), found)
    with pytest.raises(sp.ArgumentError, match="The score of image 0 is"):
        evidence.channel_deletion(make("vgg", seed=5), pictures, found)
