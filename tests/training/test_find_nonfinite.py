"""Infinite values and NaN are found where they arise, forwards and backwards, and the model is left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp


@pytest.fixture(autouse=True)
def seeded():
    """The images of a test are the same each time, and leave the faults something to be found at."""
    torch.manual_seed(0)


class Log(nn.Module):
    """Infinite at zero."""

    def forward(self, x):
        return x.log()


class Root(nn.Module):
    """Finite at zero, with an infinite gradient there."""

    def forward(self, x):
        return x.sqrt()


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


class Custom(nn.Module):
    def forward(self, x):
        return Double.apply(x)


class Overwrites(nn.Module):
    """Writes an infinite value into its input."""

    def forward(self, x):
        x[1, 0] = torch.inf
        return x


class Between(nn.Module):
    """An infinite value that arises between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.second(self.first(x).relu().mul(0).log())


def model_with(fault, depth=3):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True)) for _ in range(depth)]
    blocks[depth // 2].append(fault)
    return nn.Sequential(*blocks, nn.Linear(3, 1))


def state(model):
    tensors = [*model.state_dict().values(), *(one.grad for one in model.parameters())]
    hooks = [len(vars(module)[name]) for module in model.modules() for name in vars(module) if name.endswith("_hooks")]
    copied = [None if one is None else one.clone() for one in tensors]
    return copied, hooks, [module.training for module in model.modules()], torch.get_rng_state()


def assert_unchanged(before, after):
    for one, other in zip([*before[0], before[3]], [*after[0], after[3]], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert before[1:3] == after[1:3]


FORWARDS = {
    "a layer": (model_with(Log()), "1.3", True),
    "a layer in place": (model_with(Overwrites()), "1.3", True),
    "between layers": (Between(), "second", False),
    "the model": (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Log()), "2", True),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_the_first_layer_forwards(name):
    """The innermost layer whose output is not finite, and whether its input still was."""
    model, layer, input_finite = FORWARDS[name]
    images = torch.randn(4, 3)
    before = state(model)
    origin = sp.find_nonfinite(model, images)
    assert (origin.layer, origin.direction, origin.input_finite, origin.step) == (layer, "forward", input_finite, None)
    assert origin.count >= 1
    assert_unchanged(before, state(model))


def test_sample_count_and_dtype():
    """Counted over the whole output; the sample is the first of the batch."""
    origin = sp.find_nonfinite(nn.Sequential(nn.ReLU(), Log()), torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]]))
    assert (origin.count, origin.sample, origin.dtype) == (3, 1, torch.float32)


def test_weights_that_are_not_finite():
    """The layer's input was finite, its weights were not."""
    model = model_with(nn.Identity())
    model[2][0].weight.data[0, 0] = torch.nan
    origin = sp.find_nonfinite(model, torch.randn(4, 3))
    assert (origin.layer, origin.input_finite, origin.weights_finite) == ("2.0", True, False)
    assert "Its weights are not finite" in str(origin)


def test_inputs_that_are_not_finite():
    model = nn.Sequential(nn.Linear(3, 3))
    origin = sp.find_nonfinite(model, torch.full((2, 3), torch.nan))
    assert (origin.layer, origin.input_finite) == ("0", False)


def test_masks_with_infinite_values_are_no_fault():
    """A layer that takes minus infinity as a mask, and returns finite values, makes none."""
    layer = nn.TransformerEncoderLayer(4, 1, dropout=0.0)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    assert sp.find_nonfinite(layer, torch.rand(3, 2, 4), kwargs={"src_mask": mask}) is None


BACKWARDS = {
    "a layer": (model_with(Root()), "1.3", True),
    "a custom function": (model_with(Custom()), "1.3", True),
}


@pytest.mark.parametrize("name", BACKWARDS)
def test_the_first_gradient_backwards(name):
    """The layer in whose operators it arises, although all gradients of earlier layers are NaN as well."""
    model, layer, input_finite = BACKWARDS[name]
    model[0][0].weight.grad = torch.ones(3, 3)
    images = torch.randn(4, 3)
    before = state(model)
    origin = sp.find_nonfinite(model, images, loss=torch.mean)
    assert (origin.layer, origin.direction, origin.input_finite) == (layer, "backward", input_finite)
    assert_unchanged(before, state(model))
    assert sp.find_nonfinite(model, torch.randn(4, 3)) is None


def test_gradients_of_parameters_count():
    """The gradient of a parameter alone is infinite: its layer is found, and no sample is named."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(4, 1))

        def forward(self, x):
            return x.detach() + self.scale.sqrt()

    model = nn.Sequential(nn.Linear(3, 3), Scaled())
    origin = sp.find_nonfinite(model, torch.randn(4, 3), loss=torch.mean)
    assert (origin.layer, origin.sample, origin.weights_finite) == ("1", None, True)


def test_the_loss_is_told_from_a_layer():
    """Its own value, and its own operators in the backward pass."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model[0].weight.data.zero_(), model[0].bias.data.zero_()
    images = torch.randn(4, 3)
    origin = sp.find_nonfinite(model, images, loss=lambda output: output.sum().log())
    assert (origin.layer, origin.direction, origin.input_finite) == (None, "forward", True)
    assert str(origin).startswith("The loss, torch.float32, has 1 infinite or NaN value. What it took was finite")
    origin = sp.find_nonfinite(model, images, loss=lambda output: output.norm(dim=1).sqrt().mean())
    assert (origin.layer, origin.direction, origin.input_finite) == (None, "backward", True)
    assert sp.find_nonfinite(model, images, loss=torch.mean) is None


def test_half_precision_overflow():
    """The first layer whose values exceed 65504, under autocast too, where the input is of single precision."""
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 1))
    for layer in (model[0], model[2]):
        layer.weight.data.fill_(20.0)
    images = torch.full((2, 8), 10.0)
    assert sp.find_nonfinite(model, images) is None
    with torch.autocast("cpu", torch.float16):
        origin = sp.find_nonfinite(model, images)
    assert (origin.layer, origin.dtype, origin.count, origin.input_finite) == ("2", torch.float16, 16, True)
    backwards = sp.find_nonfinite(model.half(), images.half() / 100, loss=lambda output: output.float().mean() * 1e8)
    assert (backwards.layer, backwards.direction, backwards.dtype) == (None, "backward", torch.float16)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(use_reentrant):
    """Non-reentrant checkpoints are seen through; a reentrant one is one operator of the layer that holds it."""

    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Identity(), Root())

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=use_reentrant)

    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Holds())
    origin = sp.find_nonfinite(model, torch.randn(8, 3), loss=torch.mean)
    assert origin.layer == ("2" if use_reentrant else "2.inner.1")


def test_a_model_that_raises_at_what_is_found():
    """A model that checks its values itself: what was found before it raised is the answer."""

    class Checks(nn.Sequential):
        def forward(self, x):
            try:
                return super().forward(x)
            except BaseException:
                raise ValueError("not finite") from None

    assert sp.find_nonfinite(Checks(Log()), torch.zeros(2, 3)).layer == "0"
    with pytest.raises(sp.ForwardError, match=r"Linear raised RuntimeError on an input of \(2, 3\): .* cannot be mult"):
        sp.find_nonfinite(nn.Linear(2, 2), torch.zeros(2, 3))


def test_it_is_no_step_of_a_monitor():
    """The search may run inside of a monitor's block, in training mode."""
    model = model_with(Log())
    with sp.Monitor(model, [sp.Moments], layers=nn.Linear, every=1, nonfinite="error") as monitor:
        sp.find_nonfinite(model, torch.randn(4, 3))
        assert monitor.forwards == 0
        with pytest.raises(sp.NonFiniteActivationError, match="layer '2.0'"):
            model(torch.randn(4, 3))


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (3, None, "model must be an nn.Module"),
        (nn.Linear(3, 3), 3, "loss must be a function"),
        (nn.Linear(3, 3), lambda output: output, r"loss= returned a tensor \(2, 3\) of torch.float32"),
        (nn.Linear(3, 3), lambda output: 1.0, r"loss= returned a float: return a single number"),
        (nn.Linear(3, 3).requires_grad_(False), torch.mean, "The loss does not depend on a parameter or input"),
    ],
)
def test_bad_arguments(model, loss, message):
    with pytest.raises(sp.SpatialProbeError, match=message):
        sp.find_nonfinite(model, torch.zeros(2, 3), loss=loss)


def test_origins_agree_with_a_plain_search():
    """Against a loop that runs a deep model layer by layer, for each place of the fault."""
    for place in range(6):
        torch.manual_seed(place)
        layers = [nn.Linear(3, 3) for _ in range(6)]
        layers[place].weight.data[1, 2] = torch.inf
        model, images = nn.Sequential(*copy.deepcopy(layers)), torch.rand(5, 3)
        x, expected = images, None
        for i, layer in enumerate(layers):
            x = layer(x)
            if expected is None and not torch.isfinite(x).all():
                rows = (~torch.isfinite(x)).any(1)
                expected = str(i), int(rows.nonzero()[0]), int((~torch.isfinite(x)).sum())
            x = F.relu(x)
        origin = sp.find_nonfinite(model, images)
        assert (origin.layer, origin.sample, origin.count) == expected
