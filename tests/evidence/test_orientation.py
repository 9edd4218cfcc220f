"""Orientation tuning: Gabor kernels give their own angle and frequency, round ones none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.evidence import orientation_tuning
from spatialprobe.evidence.orientation import draw_gratings


def with_kernels(kernels, channels=1):
    """A convolution with these kernels (C, h, w), the same for each color."""
    kernels = torch.as_tensor(np.array(kernels), dtype=torch.float32)
    conv = nn.Conv2d(channels, len(kernels), kernels.shape[1:], padding=kernels.shape[1] // 2, bias=False)
    conv.weight.data.copy_(kernels[:, None].expand(-1, channels, -1, -1))
    return conv


def gabor(angle, frequency=0.2, size=11, width=2.2, phase=0.0):
    """A sine wave whose brightness changes along an angle in degrees, y down, under a round bell."""
    y, x = np.mgrid[:size, :size] - size // 2
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    wave = np.exp(-(x**2 + y**2) / (2 * width**2)) * np.cos(2 * np.pi * frequency * along + phase)
    return wave - wave.mean()


ANGLES = [0, 15, 40, 45, 90, 110, 135, 170]


@pytest.mark.parametrize(("channels", "phase"), [(1, 0.0), (1, 1.3), (3, 1.3)])
def test_gabor_kernels_give_their_angle(channels, phase):
    """The preferred angle is the kernel's, to within a degree, and the frequency its own."""
    model = with_kernels([gabor(angle, phase=phase) for angle in ANGLES], channels)
    found = orientation_tuning(model, "")
    error = (found.angle - ANGLES + 90) % 180 - 90
    assert np.abs(error).max() < 1
    assert (found.selectivity > 0.5).all()
    assert np.abs(found.frequency - 0.2).max() < 0.051
    assert found.n == 36 * 8 * 10


@pytest.mark.parametrize("frequency", [0.12, 0.25, 0.35])
def test_gabor_kernels_give_their_frequency(frequency):
    """The preferred frequency is that of the kernel's wave."""
    found = orientation_tuning(with_kernels([gabor(30, frequency, 15, 3.0)]), "")
    assert found.frequency[0] == pytest.approx(frequency)
    assert found.angle[0] == pytest.approx(30, abs=1)


def test_round_kernels_are_not_selective():
    """A blur, a spot, a ring and a point prefer no direction."""
    y, x = np.mgrid[:7, :7] - 3
    radius = np.hypot(y, x)
    kernels = [np.exp(-(radius**2) / 3), np.exp(-(radius**2) / 2) - 0.3, np.cos(radius), radius == 0]
    assert orientation_tuning(with_kernels(kernels), "").selectivity.max() < 0.03


def test_response_is_the_amplitude_of_a_linear_filter():
    """Of a linear kernel the answer is its transfer function, over the root of two, computed by hand."""
    kernel = np.random.default_rng(0).normal(size=(5, 5))
    found = orientation_tuning(with_kernels([kernel]), "", frequencies=[0.1, 0.3])
    y, x = np.mgrid[:5, :5] - 2
    for number, angle in enumerate(found.angles):
        for other, frequency in enumerate((0.1, 0.3)):
            along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
            amplitude = 0.5 * abs((kernel * np.exp(2j * np.pi * frequency * along)).sum())
            assert found.response[0, number, other] == pytest.approx(amplitude / 2**0.5, rel=1e-4)


def test_images_are_as_large_as_the_field_needs():
    """Without a shape, a kernel wider than the smallest images is measured on larger ones; one without end is not."""
    wide = with_kernels([gabor(30, 0.1, 41, 7.0)])
    found = orientation_tuning(wide, "", angles=18, phases=4, frequencies=[0.1])
    assert found.angle[0] == pytest.approx(30, abs=1)
    everything = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(3), nn.Conv2d(1, 1, 3))
    with pytest.raises(sp.ArgumentError, match="of 256 x 256, where every grating ends"):
        orientation_tuning(everything, "2")


def test_models_of_double_precision():
    """Gratings come in the model's own dtype."""
    found = orientation_tuning(with_kernels([gabor(70)]).double(), "", frequencies=[0.2])
    assert found.angle[0] == pytest.approx(70, abs=1)


def test_size_and_sign_of_a_kernel_do_not_matter():
    """Ten times the kernel, or its negative, is tuned alike."""
    found = orientation_tuning(with_kernels([gabor(40), 10 * gabor(40), -gabor(40)]), "", frequencies=[0.2])
    assert np.ptp(found.angle) < 1e-3
    assert np.ptp(found.selectivity) < 1e-5


def test_a_channel_without_answers_has_no_angle():
    """A dead channel has selectivity 0 and no preference, and does not hide the others."""
    found = orientation_tuning(with_kernels([np.zeros((11, 11)), gabor(90)]), "")
    assert found.selectivity[0] == 0
    assert np.isnan(found.angle[0])
    assert np.isnan(found.frequency[0])
    assert found.angle[1] == pytest.approx(90, abs=1)


def test_deeper_layers_and_fully_connected_units():
    """Rectified and pooled Gabors keep their angle; fully connected units are tuned as well."""
    pooled = nn.Sequential(
        with_kernels([gabor(40), gabor(110)]), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 1, bias=False)
    )
    pooled[3].weight.data.copy_(torch.eye(2)[:, :, None, None])
    found = orientation_tuning(pooled, "3", frequencies=[0.1, 0.2])
    assert np.abs(found.angle - [40, 110]).max() < 2
    flat = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 1))
    flat[1].weight.data.copy_(draw_gratings(np.array([45.0]), 0.1, 1, (1, 24, 24)).flatten(1) - 0.5)
    found = orientation_tuning(flat, "1", shape=(1, 24, 24), frequencies=[0.1, 0.2])
    assert found.angle[0] == pytest.approx(45, abs=2)


def test_head_of_a_fixed_size_does_not_matter():
    """The model runs no further than the layer, so gratings of another size than it takes will do."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert orientation_tuning(model, "0", shape=(3, 48, 48)).angle.shape == (4,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "2", "shape": (1, 32, 32)}, "reaches the top border"),
        ({"angles": 2}, "at least 3"),
        ({"frequencies": [0.6]}, "at most 0.5"),
        ({"shape": (3, 32)}, r"\(C, H, W\)"),
        ({"shape": 32}, "shape must be integers"),
    ],
)
def test_errors(options, message):
    """What cannot be measured is said."""
    model = nn.Sequential(nn.Conv2d(1, 4, 21, padding=10), nn.ReLU(), nn.Conv2d(4, 4, 21, padding=10))
    with pytest.raises(sp.ArgumentError, match=message):
        orientation_tuning(model, **{"layer": "0", **options})


def test_model_without_convolution_needs_a_shape():
    """Where nothing tells how many channels the model takes, it asks."""
    with pytest.raises(sp.ArgumentError, match="shape="):
        orientation_tuning(nn.Linear(3, 3), "")
    with pytest.raises(sp.UnsupportedOutputError, match="orientation tuning needs maps"):
        orientation_tuning(nn.Unflatten(1, (1, 1)), "", shape=(1, 8, 8))
    with pytest.raises(sp.LayerNotFoundError, match="No layer named 'conv9'"):
        orientation_tuning(nn.Conv2d(1, 1, 3), "conv9")


def test_gratings_of_other_channels_than_the_model_takes():
    """The model's error says on what it was raised."""
    with pytest.raises(sp.ForwardError, match=r"Conv2d raised RuntimeError on an input of \(8, 1, 32, 32\)"):
        orientation_tuning(nn.Conv2d(3, 4, 3), "", shape=(1, 32, 32))
    model = nn.ModuleDict({"second": nn.Conv2d(8, 4, 3), "first": nn.Conv2d(3, 8, 3)})
    model.forward = lambda images: model["second"](model["first"](images))
    with pytest.raises(sp.ForwardError, match=r"an input of \(8, 8, 32, 32\)(.|\n)*is a guess, .* shape=\(C, H, W\)"):
        orientation_tuning(model, "second")
    assert orientation_tuning(model, "second", shape=(3, 32, 32)).selectivity.shape == (4,)
