"""Inputs that drive channels up, beside maxima that are known in closed form and detectors made by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.synthesis.transforms import Jitter

maximize = partial(sp.maximize_activation, progress=False)


@pytest.fixture(autouse=True)
def seeded():
    """Draw the weights of models without a seed of their own from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def conv(kernels, bias=0.0):
    """Return a convolution with these kernels (out, in, *taps)."""
    kernels = torch.as_tensor(kernels, dtype=torch.float32)
    kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[kernels.ndim]
    made = kind(kernels.shape[1], kernels.shape[0], tuple(kernels.shape[2:]))
    made.weight.data.copy_(kernels)
    made.bias.data.fill_(bias)
    return made


def most(weights, low, high):
    """Return the largest weighted sum, for each row of weights, of pixels between two bounds."""
    return torch.maximum(weights * low, weights * high).flatten(1).sum(1)


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
@pytest.mark.parametrize("shape", [(2, 9), (3, 7, 6), (2, 5, 6, 5)], ids=["1-d", "2-d", "3-d"])
def test_maximum_of_a_linear_layer_is_reached(shape, parametrization):
    """Each channel of a convolution comes near to the closed-form maximum within bounds, and never above it."""
    torch.manual_seed(0)
    layer = conv(torch.randn(4, shape[0], *[3] * (len(shape) - 1)), bias=0.5)
    found = maximize(layer, "", shape=shape, bounds=(-1.0, 2.0), parametrization=parametrization)
    bound = most(layer.weight.detach(), -1.0, 2.0) + 0.5
    least = most(-layer.weight.detach(), -1.0, 2.0)
    assert (found.reached <= bound + 1e-4).all()
    assert ((bound - found.reached) / (bound + least) < 0.03).all()
    outside = found.images.clone()
    outside[(slice(None), slice(None), *found.box.slices)] = 0.5
    assert (outside == 0.5).all()  # the middle of the bounds
    assert found.box.shape == (3,) * (len(shape) - 1)


def test_features_mean_over_units_and_normalization():
    """Flat features, the mean over all units, and a function before the model have their closed-form maxima too."""
    torch.manual_seed(1)
    linear = nn.Linear(7, 3, bias=False)
    flat = maximize(linear, "", shape=(7,))
    assert flat.box is None
    assert flat.unit == ()
    torch.testing.assert_close(flat.reached, most(linear.weight.detach(), 0, 1), rtol=0.02, atol=0.02)

    layer = conv(torch.randn(2, 1, 3, 3))
    search = partial(maximize, layer, "", shape=(1, 5, 5), unit="all", normalize=lambda images: (images - 0.5) * 4)
    every = search(parametrization="pixel")
    pixels = torch.zeros(1, 1, 5, 5, requires_grad=True)  # the mean is linear: its gradient is its weights
    weights = torch.cat([torch.autograd.grad(layer(pixels).mean((0, 2, 3))[c], pixels)[0] for c in (0, 1)])
    torch.testing.assert_close(every.reached, most(weights, -2, 2), rtol=0.03, atol=0.03)
    assert (search().reached > 0.85 * every.reached).all()  # smooth patterns first costs a little
    assert every.unit is None
    assert every.box == (0, 0, 5, 5)
    assert every.images.min() >= 0
    assert every.images.max() <= 1


def gabor(angle, size=11):
    y, x = np.mgrid[:size, :size] - size // 2
    along = x * np.cos(angle) + y * np.sin(angle)
    return np.exp(-(x**2 + y**2) / 12) * np.cos(2 * np.pi * along / 5)


def test_hand_made_detectors_are_recovered():
    """What drives a Gabor, a color and a corner detector behind a nonlinearity up is the pattern that each detects."""
    gray = np.stack([gabor(0.0), gabor(np.pi / 3)])[:, None]
    found = maximize(
        nn.Sequential(conv(gray - gray.mean((2, 3), keepdims=True), -0.1), nn.ReLU()), "1", shape=(1, 15, 15)
    )
    for row in (0, 1):
        light = found.patches[row, 0].numpy() > 0.5
        clear = [np.abs(gabor(angle)) > 0.2 for angle in (0.0, np.pi / 3)]
        alike = [(light == (gabor(angle) > 0))[clear[one]].mean() for one, angle in enumerate((0.0, np.pi / 3))]
        assert alike[row] > 0.95, alike
        assert alike[1 - row] < 0.75

    red = conv(torch.tensor([[1.0, -1.0, -1.0]]).reshape(1, 3, 1, 1), -0.1)
    color = maximize(nn.Sequential(red, nn.ReLU()), "1", shape=(3, 5, 5)).patches.flatten()
    assert color.tolist() == pytest.approx([1, 0, 0], abs=0.01)

    corner = -np.ones((5, 5))
    corner[:2] = corner[:, :2] = 1
    pair = nn.Sequential(conv(corner[None, None], -3.0), nn.ReLU(), conv(torch.ones(1, 1, 1, 1)), nn.Tanh())
    drawn = maximize(pair, "2", shape=(1, 9, 9)).patches[0, 0]
    assert ((drawn > 0.5).numpy() == (corner > 0)).all()


def test_values_are_those_of_the_model():
    """`reached` and `start` are measured without transforms, and one ascends from the other."""
    model = ZOO["chain"].model()
    found = maximize(model, "conv2", [4, 1], shape=(3, 12, 12), steps=40, unit=(0, 3), normalize=lambda x: 2 * x - 1)
    with torch.no_grad():
        maps = model.conv2(model.pool(model.conv1(2 * found.images - 1).relu()))
    torch.testing.assert_close(found.reached, torch.stack([maps[0, 4, 0, 3], maps[1, 1, 0, 3]]))
    assert (found.reached >= found.start).all()
    torch.testing.assert_close(found.history[0], found.start)
    assert found.history.shape == (40, 2)
    assert (found.history[-1] > found.start).all()
    assert found.box == sp.receptive_fields(model, (1, 3, 12, 12))["conv2"].box(0, 3)


def test_a_gray_image_for_a_model_of_colors():
    """Where `normalize` repeats one channel, the search is for a gray image: white where a color's weights add up."""
    weights = torch.tensor([[3.0, -1.0, -1.0], [1.0, -3.0, 1.0]]).reshape(2, 3, 1, 1)
    found = maximize(conv(weights), "", shape=(1, 4, 4), normalize=lambda images: images.expand(-1, 3, -1, -1))
    assert found.patches.flatten().tolist() == pytest.approx([1, 0], abs=0.01)
    assert found.reached.tolist() == pytest.approx([1, 0], abs=0.01)


def test_channels_do_not_depend_on_each_other():
    """A channel's image is the same alone, with all others, and in batches of two; another seed gives another."""
    model = ZOO["chain"].model()
    search = partial(maximize, model, "conv2", shape=(3, 12, 12), steps=20)
    every = search()
    torch.testing.assert_close(search([3]).images[0], every.images[3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(search(batch_size=2).images, every.images, rtol=1e-4, atol=1e-5)
    assert torch.equal(search().images, every.images)
    assert not torch.allclose(search(seed=1).images, every.images, atol=0.1)


def test_channels_of_different_fields():
    """Of branches that are concatenated each channel gets the pixels of its own field."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide, self.both = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 5, padding=2), nn.Identity()

        def forward(self, x):
            return self.both(torch.cat([self.narrow(x), self.wide(x)], dim=1))

    found = maximize(Branches(), "both", shape=(3, 9, 9), steps=4, unit=(4, 4))
    changed = (found.images != 0.5).any(dim=1)
    assert [int(one.sum()) for one in changed] == [1, 1, 25, 25, 25]


def test_dead_units_are_tried_again_and_named():
    """A ReLU that is below zero at faint images begins at others; one that no image moves is `unmoved`, and hatched."""
    kernels = torch.stack([torch.eye(3) * 6 - 2, torch.full((3, 3), -1.0), torch.ones(3, 3)])[:, None]
    layer = conv(kernels)
    layer.bias.data.copy_(torch.tensor([-1.5, -1.0, 0.0]))
    model = nn.Sequential(layer, nn.ReLU())
    found = maximize(model, "1", shape=(1, 5, 5))
    assert found.unmoved.tolist() == [False, True, False]
    assert found.start[0] > 0
    assert found.reached[1] == found.start[1] == 0
    assert found.reached[0] > found.start[0] + 1
    assert "no gradient" in repr(found)
    assert "Channel 1: no gradient at any of 64 random images" in repr(found)
    picture = found.mosaic()
    assert "Hatched: channel 1: no gradient" in picture.caption
    assert [label.text.partition(": ")[2] == "none" for label in picture.labels] == [False, True, False]
    hatched = found.mosaic(columns=3).array
    third = hatched.shape[1] // 3
    colors = {tuple(color) for color in hatched[20:, third : 2 * third].reshape(-1, 3).tolist()}
    assert len(colors) == 2  # the lines and the paper


def test_transforms():
    """Small boxes are not changed; the user's function gets whole inputs, and each step draws other numbers."""
    patch = torch.rand(2, 3, 15, 40)
    generator = torch.Generator().manual_seed(0)
    assert Jitter.of((15, 15)).apply(patch, generator) is patch
    ramp = torch.arange(40.0).expand(1, 1, 40)
    shifted = {float(Jitter.of((40,)).apply(ramp, generator)[0, 0, 20]) for _ in range(40)}
    assert shifted == {18.0, 19.0, 20.0, 21.0, 22.0}
    turned = Jitter.of((32, 32)).apply(torch.ones(1, 1, 32, 32), generator)
    torch.testing.assert_close(turned, torch.ones(1, 1, 32, 32))

    drawn, shapes = [], set()

    def noise(images):
        shapes.add(tuple(images.shape))
        drawn.append(float(torch.rand(1)))
        return images + 0.1 * torch.rand_like(images)

    layer = conv(torch.ones(2, 1, 3, 3))
    state = torch.get_rng_state()
    first = maximize(layer, "", shape=(1, 6, 6), steps=5, transforms=noise)
    assert shapes == {(2, 1, 6, 6)}
    assert len(set(drawn)) == 5
    assert torch.equal(torch.get_rng_state(), state)
    again = maximize(layer, "", shape=(1, 6, 6), steps=5, transforms=noise)
    assert torch.equal(first.history, again.history)
    assert drawn[:5] == drawn[5:]

    large = ZOO["chain"].model()
    jittered, plain = (
        maximize(large, "conv2", [0], shape=(3, 40, 40), unit="all", steps=8, transforms=how)
        for how in ("default", None)
    )
    assert not torch.allclose(jittered.history, plain.history)


def test_exemplars_stand_beside():
    """The largest value of each channel in a data set is that of a plain loop, and stands in table and picture."""
    model, images = ZOO["chain"].model(), torch.rand(20, 3, 12, 12)
    top = sp.sweep(model, images, {"top": sp.Exemplars}, layers="conv1", progress=False)["conv1"]["top"]
    found = maximize(model, "conv1", [2, 0], shape=(3, 12, 12), exemplars=top)
    best = model.conv1(images).amax((0, 2, 3)).detach()
    torch.testing.assert_close(found.best_real, best[[2, 0]])
    assert (found.reached > found.best_real).all()
    assert "best real" in repr(found)
    assert "in brackets the largest of the exemplars" in found.mosaic().caption
    assert f"({best[2]:.3g})" in found.mosaic().labels[0].text


@pytest.mark.parametrize("shape", [(2, 12), (1, 6, 6, 6), (5, 8, 8), (12, 8, 8)], ids=str)
def test_pictures_of_other_inputs(shape):
    """Signals, volumes and images of other channels are rows of maps, one for each channel of the input."""
    found = maximize(conv(torch.randn(3, shape[0], *[3] * (len(shape) - 1))), "", shape=shape, steps=2)
    picture = found.mosaic()
    assert picture.color_bar is not None
    assert picture.array.std() > 5
    assert ("The first 8 of 12 channels of the input" in picture.caption) is (shape[0] == 12)
    assert "<table" in found._repr_html_()
    assert "<figure" in found._repr_html_()


def test_other_layouts_and_calls():
    """Tokens, channels last, a layer that runs twice, and a model of two inputs work as for other functions."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 5)

        def forward(self, x, scale):
            return self.mix(self.embed(x).flatten(2).transpose(1, 2)) * scale

    model = Tokens()
    found = maximize(
        model, "mix", shape=(3, 12, 12), steps=3, layout=sp.Tokens(3, 3), forward=lambda m, x: m(x, torch.ones(1))
    )
    assert found.unit == (1, 1)
    assert found.box == (4, 4, 8, 8)
    assert found.images.shape == (5, 3, 12, 12)
    assert maximize(ZOO["shared"].model(), "conv", shape=(3, 8, 8), steps=2).box.shape == (3, 3)


def test_the_model_is_restored_after_an_error():
    """Weights, modes, hooks and random states are as before also where a user's function fails."""
    model = ZOO["residual"].model().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()

    def fails(images):
        torch.rand(3)
        raise RuntimeError("no such transform")

    with pytest.raises(sp.ArgumentError, match="transforms= raised RuntimeError: no such transform"):
        maximize(model, "conv2", shape=(3, 8, 8), transforms=fails)
    with pytest.raises(sp.ForwardError, match="channels"):
        maximize(model, "conv2", shape=(4, 8, 8))
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layer": "conv3"}, "No layer named 'conv3'"),
        ({"channels": [0, 9]}, "Layer 'conv2' has channels 0 to 4, not 9"),
        ({"shape": 12}, "shape must be integers"),
        ({"shape": (1, 1, 3, 12, 12)}, "that of one input without the batch"),
        ({"shape": (10**30,)}, "at most 268,435,456 values"),
        ({"shape": (3, 0, 12)}, "that of one input without the batch"),
        ({"unit": "middle"}, "unit must be 'center', 'all' or a position"),
        ({"unit": (9, 9)}, "There is no unit"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"parametrization": "wavelet"}, "parametrization must be one of 'fourier', 'pixel'"),
        ({"transforms": "jitter"}, "transforms must be 'default', None or a function"),
        ({"transforms": lambda images: images[..., 1:]}, "it must return a tensor of that shape"),
        ({"bounds": (1, 0)}, "bounds=.* needs two finite numbers"),
        ({"normalize": 0.5}, "normalize must be a function"),
        ({"exemplars": [1, 2]}, "exemplars is a list: pass the layer's result"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_wrong_arguments(wrong, message):
    """Each is refused by an error that says what to pass."""
    arguments = {"layer": "conv2", "shape": (3, 12, 12), "steps": 2, **wrong}
    with pytest.raises(sp.SpatialProbeError, match=message):
        maximize(ZOO["chain"].model(), **arguments)


def test_exemplars_of_something_else():
    """Exemplars of another layer, another point, or for a mean over units are refused."""
    model, images = ZOO["chain"].model(), torch.rand(4, 3, 12, 12)
    swept = sp.sweep(model, images, {"top": sp.Exemplars}, progress=False)
    after = sp.sweep(model, images, {"top": sp.Exemplars}, at="post_activation", progress=False)
    search = partial(maximize, model, "conv2", shape=(3, 12, 12), steps=2)
    with pytest.raises(sp.ArgumentError, match="of layer 'conv1' with 4 channels: pass those of layer 'conv2'"):
        search(exemplars=swept["conv1"]["top"])
    with pytest.raises(sp.ArgumentError, match="of a sweep at='post_activation'"):
        search(exemplars=after["conv2"]["top"])
    with pytest.raises(sp.ArgumentError, match="leave exemplars out"):
        search(exemplars=swept["conv2"]["top"], unit="all")


def test_layers_without_gradient_or_finite_values():
    """A layer without a gradient, and one with NaN, are errors that say why; a picture needs spatial axes."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.root = nn.Conv2d(1, 2, 3), nn.Identity()

        def forward(self, x):
            return self.root(self.conv(x).detach()), self.conv(x).mul(0).sqrt()

    with pytest.raises(sp.ProbeStateError, match="The output of layer 'root' has no gradient"):
        maximize(Cut(), "root", shape=(1, 5, 5))
    with pytest.raises(sp.NonFiniteActivationError, match="channel 0 of layer '1' is infinite or NaN"):
        maximize(nn.Sequential(conv(torch.ones(1, 1, 3, 3), -100.0), Root()), "1", shape=(1, 5, 5))
    with pytest.raises(sp.ArgumentError, match="have no spatial axes, so that there is nothing to draw"):
        maximize(nn.Linear(3, 2), "", shape=(3,), steps=1).mosaic()
    with pytest.raises(sp.ArgumentError, match="Unit .0, 0. of layer '1' sees only padding"):
        maximize(nn.Sequential(nn.ZeroPad2d(4), nn.Conv2d(1, 1, 3)), "1", shape=(1, 5, 5), unit=(0, 0))


class Root(nn.Module):
    """The square root, NaN below zero."""

    def forward(self, x):
        return x.sqrt()
