"""Effective receptive fields against gradients taken by hand, and what their summary promises."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp


def network(*, seed=0):
    """Two strided convolutions with a batch norm and leaky ReLUs: no unit is dead."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.3), nn.Conv2d(4, 5, 3, padding=1)
    )
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model


IMAGES = torch.rand(3, 3, 13, 11, generator=torch.Generator().manual_seed(7))


def by_hand(model, images, unit, measure, channels=range(5)):
    """(N, H, W): image by image and channel by channel through the whole model, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    found = []
    for image in images:
        total = torch.zeros(image.shape[1:])
        for channel in channels:
            one = image[None].clone().requires_grad_()
            model(one)[(0, channel, *unit)].backward()
            total += measure(one.grad[0]).sum(0)
        found.append(total.numpy())
    return np.stack(found).astype(np.float64)


@pytest.mark.parametrize("unit", [(0, 0), (3, 2), (6, 5)])
@pytest.mark.parametrize(("statistic", "measure"), [("absolute", torch.abs), ("squared", torch.square)])
def test_is_the_mean_gradient(unit, statistic, measure):
    """The map is the mean over images of the summed statistic, as a share; the standard error is that of the mean."""
    model = network()
    truth = by_hand(model, IMAGES, unit, measure)
    truth *= len(IMAGES) / truth.sum()
    found = sp.effective_receptive_field(model, IMAGES, "3", unit=unit, statistic=statistic)
    np.testing.assert_allclose(found.map, truth.mean(0), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.standard_error, truth.std(0, ddof=1) / 3**0.5, rtol=1e-3, atol=1e-9)
    assert found.map.sum() == pytest.approx(1, abs=1e-12)
    assert found.n == 3
    assert (found.layer, found.unit, found.statistic) == ("3", unit, statistic)


def test_center_and_channels():
    """The unit in the middle if none is named; only the channels asked for."""
    model = network()
    found = sp.effective_receptive_field(model, IMAGES, model[3], channels=[4, 1])
    assert found.unit == (3, 3)
    truth = by_hand(model, IMAGES, (3, 3), torch.abs, channels=[1, 4])
    np.testing.assert_allclose(found.map, truth.sum(0) / truth.sum(), rtol=1e-4, atol=1e-9)


def test_nothing_outside_the_box():
    """Pixels outside the unit's box have no share at all, and the corners of the box have one."""
    found = sp.effective_receptive_field(network(), IMAGES, "3", unit=(3, 2))
    assert found.box == sp.receptive_fields(network(), IMAGES.shape)["3"].box(3, 2) == (3, 1, 10, 8)
    inside = np.zeros(found.map.shape, bool)
    inside[found.box.slices] = True
    assert (found.map[~inside] == 0).all()
    assert (found.map[3, 1], found.map[9, 7]) > (0, 0)


def test_summary_of_a_known_map():
    """A 5 x 5 box filter: every pixel has 1/25; centroid, spread, sides and areas follow by counting."""
    model = nn.Conv2d(1, 1, 5, bias=False)
    nn.init.constant_(model.weight, 1.0)
    found = sp.effective_receptive_field(model, torch.rand(1, 1, 9, 9), "", unit=(2, 1))
    assert found.box == (2, 1, 7, 6)
    np.testing.assert_allclose(found.map[2:7, 1:6], 1 / 25)
    assert found.centroid == pytest.approx((4.5, 3.5))
    assert found.std == pytest.approx((2**0.5, 2**0.5))
    assert dict(found.sides) == {0.2: 3, 0.3: 3, 0.5: 5, 0.99: 5}  # 9 of 25 pixels within side 3
    assert dict(found.area_ratio) == {0.2: 9 / 81, 0.3: 9 / 81, 0.5: 25 / 81, 0.99: 25 / 81}
    assert np.isnan(found.standard_error).all()


def test_does_not_depend_on_the_scale():
    """Gradients a thousand times as large give the same map and the same sides."""
    model, louder = network(), network()
    with torch.no_grad():
        louder[3].weight *= 1000
    first, second = (sp.effective_receptive_field(one, IMAGES, "3") for one in (model, louder))
    np.testing.assert_allclose(first.map, second.map, rtol=1e-5)
    assert first.sides == second.sides


@pytest.mark.parametrize("factor", [1e-280, 1e-30, 1e30, 1e280])
@pytest.mark.parametrize("statistic", ["absolute", "squared"])
def test_gradients_of_any_size(factor, statistic):
    """Neither the square of a gradient nor the sum of many overflows or vanishes: map and sides are the same."""
    model, images = network().double(), IMAGES.double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[3].weight *= factor
        other[3].bias *= factor
    first, second = (sp.effective_receptive_field(one, images, "3", statistic=statistic) for one in (model, other))
    np.testing.assert_allclose(second.map, first.map, rtol=1e-9)
    assert second.sides == first.sides


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("factor", [1, 10000])
@pytest.mark.parametrize("statistic", ["absolute", "squared"])
def test_other_dtypes(dtype, factor, statistic):
    """In a narrow dtype, also where a square leaves its range, map and sides are those of float64, up to rounding."""
    model = network().eval()
    with torch.no_grad():
        model[3].weight *= factor
    model = model.to(dtype)
    images = IMAGES.to(dtype)
    truth = by_hand(
        model.double(), images.double(), (3, 3), {"absolute": torch.abs, "squared": torch.square}[statistic]
    )
    truth /= truth.sum()
    found = sp.effective_receptive_field(model.to(dtype), images, "3", statistic=statistic)
    np.testing.assert_allclose(found.map, truth.sum(0), atol=0.02 * truth.sum(0).max())
    exact = sp.effective_receptive_field(model.double(), images.double(), "3", statistic=statistic)
    assert found.sides == exact.sides


@pytest.mark.parametrize("weight", [1e-4, 300.0])
def test_gradients_beyond_float16(weight):
    """Gradients of 1e-8, which vanish in float16, and of 90,000, which overflow, give the map of float64."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(model[1].weight, weight)
    with torch.no_grad():
        model[0].weight.copy_(weight * (1 + torch.arange(9.0).reshape(1, 1, 3, 3) / 8))
    model, images = model.half(), torch.rand(2, 1, 7, 7).half() / 1000
    found = sp.effective_receptive_field(model, images, "1")
    kernel = model[0].weight[0, 0].double().detach().numpy()
    np.testing.assert_allclose(found.map[2:5, 2:5], kernel / kernel.sum(), rtol=2e-3)


def test_random_signs_estimate_the_squares():
    """The estimate from random-sign sums is unbiased: over many of them it comes to each channel's own squares."""
    model = network()
    truth = sp.effective_receptive_field(model, IMAGES, "3", statistic="squared")
    few, many = (
        sp.effective_receptive_field(model, IMAGES, "3", statistic="squared", probes=probes) for probes in (8, 2048)
    )
    error = [np.abs(found.map - truth.map).sum() for found in (few, many)]
    assert error[1] < 0.05
    assert error[1] < error[0] / 4  # by the law of large numbers about 16
    one = sp.effective_receptive_field(model, IMAGES, "3", statistic="squared", channels=[2], probes=1)
    alone = sp.effective_receptive_field(model, IMAGES, "3", statistic="squared", channels=[2])
    np.testing.assert_allclose(one.map, alone.map, rtol=1e-5)  # with one channel the sign does not matter


@pytest.mark.parametrize(("model", "shape"), [(nn.Conv1d(2, 3, 5), (2, 2, 12)), (nn.Conv3d(1, 2, 3), (2, 1, 5, 6, 7))])
def test_other_dimensions(model, shape):
    """Sequences and volumes: a map, a box and a spread for each of their axes."""
    found = sp.effective_receptive_field(model, torch.rand(shape), "")
    assert found.map.shape == shape[2:]
    assert found.map.sum() == pytest.approx(1)
    assert len(found.std) == len(shape) - 2
    assert found.box.shape == model.kernel_size


def test_model_is_left_alone():
    """Training mode, buffers, gradients, requires_grad, the images and the random state are as they were."""
    model = network().train()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    before = copy.deepcopy(model.state_dict())
    images, state = IMAGES.clone(), torch.get_rng_state()
    with torch.no_grad():  # it needs gradients, and turns them on for itself
        sp.effective_receptive_field(model, images, "3", statistic="squared", probes=2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert model[0].weight.grad is None
    assert not model[0].weight.requires_grad
    assert torch.equal(model[3].weight.grad, torch.ones_like(model[3].weight))
    assert torch.equal(images, IMAGES)
    assert not images.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES[0, 0]}, "images must be a tensor"),
        ({"images": IMAGES[:0]}, "at least one image"),
        ({"layer": "4"}, "No layer named '4'"),
        ({"unit": (7, 0)}, r"no unit \(7, 0\) of layer '3': its units are 7 x 6"),
        ({"unit": (1,)}, "unit"),
        ({"channels": [5]}, "has channels 0 to 4, not 5"),
        ({"channels": []}, "channels must be at least one channel number"),
        ({"statistic": "mean"}, "'absolute', 'squared', not 'mean'"),
        ({"probes": 3}, "statistic='squared'"),
        ({"statistic": "squared", "probes": 0}, "probes must be at least 1"),
    ],
)
def test_what_cannot_be(arguments, message):
    """A clear error each, and the model in the mode that it was in."""
    model = network().train()
    given = {"images": IMAGES, "layer": "3"} | arguments
    with pytest.raises(sp.SpatialProbeError, match=message):
        sp.effective_receptive_field(model, given.pop("images"), given.pop("layer"), **given)
    assert model.training


def test_dead_unit():
    """Where no pixel moves the unit there is no map, and the message says why that may be."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    nn.init.constant_(model[0].bias, -100.0)
    with pytest.raises(sp.ArgumentError, match=r"No pixel influences unit \(1, 1\) of layer '1'.*dead"):
        sp.effective_receptive_field(model, torch.rand(2, 1, 4, 4), "1")


def test_padding_only():
    """A unit that sees only padding has no effective field either."""
    with pytest.raises(sp.ArgumentError, match="sees only padding"):
        sp.effective_receptive_field(nn.Conv2d(1, 1, 1, padding=1), torch.rand(1, 1, 3, 3), "", unit=(0, 0))


class Moody(nn.Module):
    """Shifts its input when gradients are on, which they are not while it is traced."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        shift = 1 if torch.is_grad_enabled() else 0
        return self.conv(x.roll(shift, 3))


def test_mass_outside_the_box_is_an_error():
    """A model that does something else than when it was traced is found out, instead of giving a wrong map."""
    with pytest.raises(sp.ForwardError, match="which its receptive field rules out"):
        sp.effective_receptive_field(Moody(), torch.rand(1, 1, 4, 4), "conv", unit=(1, 1))


class Rooted(nn.Module):
    """Adds to all images but the first the root of zero, whose gradient is infinite, and NaN times zero."""

    def forward(self, x):
        return torch.cat([x[:1], x[1:] + (x[1:] * 0).sqrt()])


def test_gradients_that_are_nan():
    """They have an error of their own, which names the image and does not blame the box."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), Rooted())
    with pytest.raises(
        sp.NonFiniteActivationError, match=r"unit \(2, 2\) of layer '1' has 49 NaN .* in image 1, where the"
    ):
        sp.effective_receptive_field(model, torch.rand(3, 1, 7, 7), "1")
    overflowing = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False))
    for conv in overflowing:
        nn.init.constant_(conv.weight, 1e30)
    with pytest.raises(
        sp.NonFiniteActivationError, match="has 0 NaN and 1 infinite values in image 0, where the unit is infinite"
    ):
        sp.effective_receptive_field(overflowing, torch.rand(1, 1, 3, 3), "1")


class Counting(nn.Module):
    """A model that writes to a buffer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return self.conv(x)


def test_buffers_are_put_back_and_inference_mode_does_no_harm():
    """The model comes back as it was, and gradients flow inside, whatever is switched off outside."""
    model, images = Counting(), torch.rand(2, 3, 8, 8)
    found = sp.effective_receptive_field(model, images, "conv")
    with torch.inference_mode():
        again = sp.effective_receptive_field(model, images, "conv")
    assert (found.map == again.map).all()
    assert model.seen.item() == 0


class OneByOne(nn.Module):
    """A model that takes only one image at a time, as some detectors do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        if len(x) > 1:
            raise ValueError("one image at a time, please")
        return self.conv(x)


class Backwards(torch.autograd.Function):
    """An operator whose backward pass fails."""

    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        raise ZeroDivisionError("no way back")


def test_a_model_that_fails_on_the_batch_alone():
    """What the model raises on the whole batch, or on the way back, is a ForwardError that says what it said."""
    with pytest.raises(sp.ForwardError, match="OneByOne raised ValueError.*one image at a time, please"):
        sp.effective_receptive_field(OneByOne(), torch.rand(2, 3, 8, 8), "conv")

    class Failing(Counting):
        def forward(self, x):
            return self.conv(Backwards.apply(x))

    with pytest.raises(sp.ForwardError, match="Failing raised ZeroDivisionError.*no way back"):
        sp.effective_receptive_field(Failing(), torch.rand(2, 3, 8, 8), "conv")
