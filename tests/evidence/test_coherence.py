"""Coherence: one for patches of one pattern, and the mean correlation that a slow loop finds for any others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.evidence import patch_coherence
from spatialprobe.statistics.exemplars import ExemplarsResult


def swept(conv, images, k=5):
    top = sp.sweep(conv, images, {"top": lambda: sp.Exemplars(k)}, layers="", progress=False)[""]["top"]
    return top, sp.receptive_fields(conv, images[:1])[""]


def slow_similarity(one, other):
    """The correlation of two patches (C, h, w), NaN in the padding, each color less its mean over common pixels."""
    common = ~np.isnan(one[0]) & ~np.isnan(other[0])
    sides = []
    for patch in (one, other):
        values = patch[:, common]
        sides.append((values - values.mean(axis=1, keepdims=True)).ravel())
    norm = np.linalg.norm(sides[0]) * np.linalg.norm(sides[1])
    return sides[0] @ sides[1] / norm if norm > 1e-12 else 0.0


def slow_coherence(top, images, field, channel):
    padded = np.pad(images.numpy().astype(np.float64), ((0, 0), (0, 0), (4, 4), (4, 4)), constant_values=np.nan)
    patches = []
    for sample, (y, x) in zip(top.samples[channel].tolist(), top.positions[channel].tolist(), strict=True):
        y0, x0, y1, x1 = field.box(y, x, clip=False)
        patches.append(padded[sample, :, y0 + 4 : y1 + 4, x0 + 4 : x1 + 4])
    pairs = [(a, b) for a in range(len(patches)) for b in range(a)]
    return np.mean([slow_similarity(patches[a], patches[b]) for a, b in pairs])


def test_equals_the_slow_loop():
    """For padded convolutions, where patches reach over the border, every channel is the mean over all pairs."""
    torch.manual_seed(0)
    conv, images = nn.Conv2d(3, 4, 5, padding=2), torch.rand(12, 3, 7, 7)
    top, field = swept(conv, images)
    found = patch_coherence(top, images, field)
    expected = [slow_coherence(top, images, field, channel) for channel in range(4)]
    assert np.allclose(found.values, expected)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.spread == pytest.approx(np.std(expected))
    assert (found.n, found.patches) == (4, 5)


def test_one_pattern_in_all_images_is_one():
    """A detector of what every image holds somewhere finds patches that are alike up to contrast and color."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    images = torch.zeros(10, 3, 12, 12)
    for number, image in enumerate(images):
        y, x = torch.randint(0, 10, (2,), generator=generator).tolist()
        image += torch.rand(3, 1, 1, generator=generator)
        image[:, y : y + 3, x : x + 3] += (1 + number) * corner
    conv = nn.Conv2d(3, 1, 3, bias=False)
    conv.weight.data.copy_((corner - corner.mean()).expand(1, 3, 3, 3))
    found = patch_coherence(*swap(swept(conv, images), images))
    assert found.mean == pytest.approx(1, abs=1e-6)
    assert found.random < 0.5


def swap(pair, images):
    top, field = pair
    return top, images, field


def test_random_patches_of_noise_have_nothing_in_common():
    """The control is near zero on noise, the same for the same seed, and leaves the random state alone."""
    torch.manual_seed(0)
    images = torch.rand(60, 1, 12, 12)
    top, field = swept(nn.Conv2d(1, 8, 5), images, k=9)
    state = torch.get_rng_state()
    found = patch_coherence(top, images, field, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(found.random) < 0.05
    assert found.random == pytest.approx(found.random_values.mean())
    assert patch_coherence(top, images, field, seed=3).random == found.random
    assert patch_coherence(top, images, field, seed=4).random != found.random
    assert found.seed == 3


def test_flat_patches_and_dead_channels():
    """A patch without a pattern resembles none; a channel that never answers is left out."""
    conv = nn.Conv2d(1, 2, 3, bias=False)
    conv.weight.data[0].zero_()
    top, field = swept(conv, torch.ones(4, 1, 6, 6))
    found = patch_coherence(top, torch.ones(4, 1, 6, 6), field)
    assert found.values.tolist() == [0.0]
    conv.weight.data.zero_()
    top, field = swept(conv, torch.ones(4, 1, 6, 6))
    with pytest.raises(sp.ArgumentError, match="nothing to compare"):
        patch_coherence(top, torch.ones(4, 1, 6, 6), field)


def test_data_sets_of_pairs_and_one_axis():
    """Samples may be tuples that begin with an image, and signals of one axis do as well."""
    images = torch.rand(6, 1, 9, 9)
    top, field = swept(nn.Conv2d(1, 2, 3), images)
    labelled = torch.utils.data.TensorDataset(images, torch.arange(6))
    assert patch_coherence(top, labelled, field).values.tolist() == patch_coherence(top, images, field).values.tolist()
    signals = torch.rand(6, 2, 20)
    top, field = swept(nn.Conv1d(2, 3, 5), signals)
    assert patch_coherence(top, signals, field).n == 3


def test_what_does_not_belong_together_is_refused():
    """Exemplars of another layer, data too short, images of another size, and empty results are said."""
    images = torch.rand(6, 1, 9, 9)
    top, field = swept(nn.Conv2d(1, 2, 3), images)
    with pytest.raises(sp.ArgumentError, match="the data that the sweep saw"):
        patch_coherence(top, images[:2], field)
    with pytest.raises(sp.ArgumentError, match=r"images \(C, 9, 9\)"):
        patch_coherence(top, torch.rand(6, 1, 8, 8), field)
    with pytest.raises(sp.ArgumentError, match="of the data set holds values that are infinite or NaN"):
        patch_coherence(top, images / torch.zeros_like(images), field)
    smaller = sp.receptive_fields(nn.Conv2d(1, 2, 8), images[:1])[""]
    with pytest.raises(sp.ArgumentError, match="pass the field of the layer"):
        patch_coherence(top, images, smaller)
    flat = sp.receptive_fields(nn.Sequential(nn.Flatten(), nn.Linear(81, 2)), images[:1])["1"]
    with pytest.raises(sp.ArgumentError, match=r"of layer '', the field is of '1'.* exemplars.of_layer\('1'\) says so"):
        patch_coherence(top, images, flat)
    with pytest.raises(sp.ArgumentError, match="maps of 7 x 7"):
        patch_coherence(top.of_layer("1"), images, flat)
    nothing = ExemplarsResult(torch.zeros(0, 0), torch.zeros(0, 0).long(), torch.zeros(0, 0, 2).long())
    with pytest.raises(sp.ArgumentError, match="empty"):
        patch_coherence(nothing, images, field)
