"""Each rule finds the fault that was planted in a model, and nothing in the same model mended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from spatialprobe.diagnosis.rules.batch_norm_mismatch import compare_statistics
from spatialprobe.diagnosis.rules.checkerboard import count_overlaps
from spatialprobe.diagnosis.rules.low_rank import effective_dimension
from spatialprobe.diagnosis.rules.uncovered_pixels import coverage

IMAGES = torch.rand(128, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


def check(model, rule, data=IMAGES, **options):
    """Return the findings of one rule; without findings it must have passed."""
    found = sp.checkup(model, data, rules=[rule], progress=False, **options)
    assert found.findings or rule in found.passed, dict(found.skipped)
    for one in found.findings:
        assert one.rule == rule
        assert one.evidence.endswith(".")
        assert one.advice.endswith(".")
        assert (one.picture is None) == (rule == "training_mode")  # a mode has no place in an image
        if one.picture is not None:
            assert one.plot().axes
    return found.findings


def chain(*between, seed=0, channels=8):
    """Two convolutions with what stands between them, in evaluation mode."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, channels, 3, padding=1), *between, nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nonfinite(value):
    """The layer is named in which the first NaN or infinity arises, with the sample that shows it."""
    model = chain(nn.ReLU())
    assert not check(model, "nonfinite")
    images = IMAGES.clone()
    images[70, 0, 5, 5] = value
    (found,) = check(model, "nonfinite", images)
    assert found.severity == "error"
    assert found.layer == "0"
    assert "sample 70" in found.evidence
    assert "what it takes is not finite either" in found.evidence
    expected = model[0](images[64:]).detach()[6]
    assert torch.allclose(found.picture.maps, expected, equal_nan=True)
    assert found.picture.channels == tuple(range(8))
    model[2].bias.data[3] = value
    (found,) = check(model, "nonfinite")
    assert found.layer == "2"
    assert "though what it takes is finite" in found.evidence
    assert found.picture.channels == (3,)
    head = nn.Sequential(*model[:2], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    head[4].bias.data[1] = value
    (found,) = check(head, "nonfinite")  # a row of values, since there are no maps
    assert found.picture.values.shape == (1, 4)


def test_nonfinite_that_the_output_does_not_show():
    """An infinity that a later layer hides is found in the layer's statistics."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Hardtanh()).eval()
    model[0].weight.data[1] = 3e38
    model[2].weight.data[:, 1] = 0.01
    (found,) = check(model, "nonfinite", IMAGES.abs() + 1)
    assert found.layer == "0"
    assert found.channels == (1,)
    assert "the output of the model is finite" in found.evidence


def test_training_mode():
    """Each outermost module in training mode is found, if anything in it computes something else then."""
    model = chain(nn.BatchNorm2d(8), nn.Sequential(nn.Dropout(), nn.ReLU()))
    assert not check(model, "training_mode")
    model[2].train()
    (found,) = check(model, "training_mode")
    assert (found.layer, found.severity, found.measured) == ("2", "error", 1)
    model.train()
    (found,) = check(model, "training_mode")
    assert (found.layer, found.measured) == ("", 2)
    assert "The model is in training mode" in found.evidence
    assert not check(chain(nn.ReLU(), nn.Dropout(0.0)).train(), "training_mode")


class Dropping(nn.Module):
    """Dropout in a method that forward calls."""

    def forward(self, images):
        return self.drop(images)

    def drop(self, images):
        return nn.functional.dropout(images, 0.3, training=self.training)

    def loss(self, images):
        return self.training


class Extended(nn.BatchNorm2d):
    """A batch norm with a nonlinearity of its own."""

    def forward(self, images):
        return super().forward(images).relu()


class Frozen(nn.BatchNorm2d):
    """A batch norm that always takes the statistics from training."""

    def forward(self, images):
        return nn.functional.batch_norm(images, self.running_mean, self.running_var)


class Unrelated(Dropping):
    """Only a method that forward does not call asks for the mode."""

    def forward(self, images):
        return images


@pytest.mark.parametrize(
    ("module", "found"), [(Dropping(), 1), (Extended(8), 1), (Frozen(8), 0), (Unrelated(), 0)], ids=lambda one: str(one)
)
def test_training_mode_in_methods(module, found):
    """The mode counts in methods that forward calls or extends, and not in those that it replaces."""
    model = chain(module)
    model[1].train()
    assert [one.layer for one in check(model, "training_mode")] == ["1"] * found


def test_dead_channels():
    """Dead channels are named; where a leaky nonlinearity passes on what is below zero, there are none."""
    model = chain(nn.ReLU())
    model[0].bias.data[:] = 1.0
    assert not check(model, "dead_channels", layers="0")
    model[0].bias.data[[1, 4]] = -9.0
    (found,) = check(model, "dead_channels", layers="0")
    assert (found.severity, found.layer, found.channels, found.measured) == ("warning", "0", (1, 4), 2)
    assert "2 of 8 channels are never above zero after relu, in 128 samples of 144 units." in found.evidence
    assert check(model, "dead_channels", IMAGES[:20], layers="0")[0].severity == "note"
    wide = chain(nn.ReLU(), channels=32)
    wide[0].bias.data[:] = 1.0
    wide[0].bias.data[5] = -9.0  # one of 32, as training may leave it
    assert check(wide, "dead_channels", layers="0")[0].severity == "note"
    model[0].bias.data[4] = 1.0  # one of 8
    assert check(model, "dead_channels", layers="0")[0].severity == "note"
    leaky = chain(nn.LeakyReLU(0.2))
    leaky[0].bias.data[[1, 4]] = -9.0
    assert not check(leaky, "dead_channels", layers="0")


class Called(nn.Module):
    """Two convolutions between which a function stands."""

    def __init__(self, function):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.function = function

    def forward(self, x):
        return self.conv2(self.function(self.conv1(x)))


def test_nondeterministic():
    """Dropout that forgets self.training is found at the layer behind it; with it, two passes agree."""
    (found,) = check(Called(lambda x: F.dropout(x, 0.2)).eval(), "nondeterministic")
    assert (found.severity, found.layer) == ("error", "conv2")
    assert found.measured > 0.05
    assert "the cause lies before it" in found.evidence
    assert found.picture.maps.abs().sum() > 0
    assert not check(Called(lambda x: F.dropout(x, 0.2, training=False)).eval(), "nondeterministic")


def test_batch_mixing():
    """A batch norm without running statistics makes samples depend on their neighbors; one with them does not."""
    model = chain(nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU())
    (found,) = check(model, "batch_mixing")
    assert (found.severity, found.layer) == ("error", "1")
    change = (model[:2](IMAGES[:8]) - model[:2](IMAGES[:16])[:8]).detach()
    most = int(change.flatten(1).norm(dim=1).argmax())
    assert torch.allclose(found.picture.maps, change[most], atol=1e-6)
    assert found.picture.channels[0] == int(change[most].flatten(1).norm(dim=1).argmax())
    assert not check(chain(nn.BatchNorm2d(8), nn.ReLU()), "batch_mixing")
    found = sp.checkup(chain(nn.ReLU()), IMAGES[:1], rules=["batch_mixing"], progress=False)
    assert "cannot be split" in found.skipped["batch_mixing"]


class Detector(nn.Module):
    """A model of a list of images, which it pads to one size, whose answer may be empty."""

    def __init__(self):
        super().__init__()
        self.conv, self.proposals = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 1, 1)

    def forward(self, images):
        size = max(max(one.shape[1:]) for one in images)
        batch = torch.stack([F.pad(one, (0, size - one.shape[2], 0, size - one.shape[1])) for one in images])
        chosen = self.proposals(batch).detach().mean((1, 2, 3)) > 1e9
        return self.conv(batch)[chosen]


def test_detectors():
    """Images of several sizes depend on their neighbors by their padding, and an empty answer shows nothing."""
    data = [[torch.rand(3, 12, 12), torch.rand(3, 9, 14)] for _ in range(2)]
    rules = ["batch_mixing", "never_run"]
    found = sp.checkup(Detector().eval(), data, rules=rules, progress=False)
    assert "padded to the largest" in found.skipped["batch_mixing"]
    assert not found.findings


class Auxiliary(nn.Module):
    """A model with a head for training, one that nothing calls, and a part without gradients."""

    def __init__(self, forgotten):
        super().__init__()
        self.frozen, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))
        if forgotten:
            self.forgotten = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))
            self.unused = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        with torch.no_grad():
            x = F.relu(self.frozen(x))
        if hasattr(self, "unused"):
            self.unused(x)
        return (self.conv(x), self.head(x)) if self.training else self.conv(x)


def test_never_run():
    """Modules that nothing calls, or whose output is dropped, are found; training heads and frozen parts are not."""
    first, second = check(Auxiliary(True).eval(), "never_run")
    assert (first.layer, first.severity, first.measured) == ("forgotten", "warning", 8 * 4 + 4 + 4 * 2 + 2)
    assert "did not run" in first.evidence
    assert (second.layer, second.measured) == ("unused", 8 * 2 + 2)
    drawn = second.picture
    assert [drawn.names[at] for at in drawn.marked] == ["forgotten", "unused"]
    assert sum(drawn.values) == sum(one.numel() for one in Auxiliary(True).parameters())
    assert "ran, but" in second.evidence
    assert not check(Auxiliary(False).eval(), "never_run")
    random = Called(lambda x: F.dropout(x, 0.2)).eval()
    random.forgotten = nn.Conv2d(8, 4, 1)
    assert check(random, "never_run")[0].layer == "forgotten"


def test_constant_channels():
    """Channels without variance are found, whatever their value; dead ones are the other rule's."""
    model = chain(nn.ReLU())
    model[0].bias.data[:] = 1.0
    assert not check(model, "constant_channels")
    model[0].weight.data[[1, 5]] = 0.0
    (found,) = check(model, "constant_channels")
    assert (found.severity, found.layer, found.channels) == ("warning", "0", (1, 5))
    assert "constant after relu, at 1, 1, in 128 samples" in found.evidence
    model[0].bias.data[[1, 5]] = -1.0
    assert not check(model, "constant_channels")
    assert check(model, "dead_channels")[0].channels == (1, 5)


@pytest.mark.parametrize("make", [nn.Sigmoid, nn.Tanh, nn.Hardtanh])
def test_saturated(make):
    """Nonlinearities at their bounds are found; a ReLU's zeros, the model's output and maps of 1 x 1 are not."""
    model = chain(make())
    assert not check(model, "saturated")
    model[0].weight.data *= 1e4
    (found,) = check(model, "saturated")
    assert (found.severity, found.layer, found.limit) == ("warning", "1", 0.99)
    assert found.measured > 0.99
    gated = chain(nn.AdaptiveAvgPool2d(1), make(), nn.Upsample(4))
    gated[0].weight.data *= 1e6
    for last in (gated, nn.Sequential(model[0], make()), chain(nn.ReLU())):
        found = sp.checkup(last.eval(), IMAGES, rules=["saturated"], progress=False)
        assert "saturated" in found.skipped


def test_saturated_functions():
    """A sigmoid that is a function is measured behind its convolution."""
    model = Called(torch.sigmoid).eval()
    assert not check(model, "saturated")
    model.conv1.weight.data *= 1e5
    assert check(model, "saturated")[0].layer == "conv1"


@pytest.mark.parametrize("factor", [100.0, 0.005])
def test_scale_growth(factor):
    """A layer that blows activations up, or lets them vanish, is found; the first may take images in any unit."""
    torch.manual_seed(0)
    layers = [[nn.Conv2d(8 if at else 3, 8, 3, bias=False), nn.ReLU()] for at in range(3)]
    model = nn.Sequential(*(one for pair in layers for one in pair)).eval()
    assert not check(model, "scale_growth", IMAGES * 255)
    model[2].weight.data *= factor
    (found,) = check(model, "scale_growth")
    assert (found.severity, found.layer) == ("warning", "2")
    assert (found.measured > 10) == (factor > 1)
    model.insert(3, nn.BatchNorm2d(8, eps=1e-12))
    model.train()(IMAGES)
    model[3].momentum = None
    model[3].reset_running_stats()
    model(IMAGES)
    assert not check(model.eval(), "scale_growth")


class Block(nn.Module):
    """Two convolutions, whose output is joined with what they take, or passed on as it is."""

    def __init__(self, join):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.norm, self.join, self.factor = nn.BatchNorm2d(8), join, 1.0

    def forward(self, x):
        return self.join(x, self.branch(x))

    def branch(self, x):
        return self.norm(self.conv2(F.relu(self.conv1(x)))) * self.factor


JOINS = {
    "a sum": lambda x, branch: x + branch,
    "a sum in place": lambda x, branch: branch.add_(x),
    "a concatenation": lambda x, branch: torch.cat([x, branch], 1)[:, 4:12],
    "no join": lambda x, branch: branch,
}


@pytest.mark.parametrize("join", JOINS)
def test_scale_growth_in_branches(join):
    """A branch that blows up what it is added to, or the next layer takes, is found; a branch of zeros is in order."""
    model = chain(nn.ReLU(), Block(JOINS[join]))
    block = model[2]
    assert not check(model, "scale_growth")
    block.norm.weight.data[:] = 200.0
    (found,) = check(model, "scale_growth")
    assert (found.layer, found.severity) == ("2.conv2", "warning")
    with torch.no_grad():
        entering = model[:2](IMAGES[:16])
        values = (block.branch(entering), F.relu(block.conv1(entering)))
        after, before = (one.transpose(0, 1).flatten(1).var(dim=1, correction=0).mean().sqrt() for one in values)
    assert found.measured == pytest.approx((after / before).item(), rel=1e-4)
    assert "over the first 16 samples" in found.evidence
    block.factor = 0.0
    assert [one.layer for one in check(model, "scale_growth")] == (["2.conv2"] if join == "no join" else [])


def test_duplicate_channels():
    """Pairs of channels that are multiples of one another are found, and the correlation is NumPy's."""
    model = chain(nn.ReLU())
    assert not check(model, "duplicate_channels")
    model[0].weight.data[6], model[0].bias.data[6] = model[0].weight.data[2] * 3, model[0].bias.data[2] * 3
    (found,) = check(model, "duplicate_channels")
    assert (found.severity, found.layer, found.channels) == ("note", "0", (2, 6))
    assert "1 pair of 8 channels" in found.evidence
    maps = F.relu(model[0](IMAGES)).detach().transpose(0, 1).flatten(1).numpy()
    assert found.measured == pytest.approx(np.corrcoef(maps)[2, 6], abs=1e-5)


def test_low_rank():
    """A layer all of whose channels mix two patterns is found; the effective dimension is that of its definition."""
    model = chain(nn.Identity(), channels=64)
    assert not check(model, "low_rank", layers="0")
    mix = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    model[0].weight.data = torch.einsum("cp,pijk->cijk", mix, model[0].weight.data[:2])
    (found,) = check(model, "low_rank", layers="0")
    assert found.severity == "warning"
    assert found.measured < 2.01
    assert found.limit == pytest.approx(0.05 * 64)
    assert effective_dimension(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)) == pytest.approx(2**1.5)


def test_batch_norm_mismatch():
    """Statistics of other data are found; what the norm took is computed back from what it returned."""
    model = chain(nn.BatchNorm2d(8), nn.ReLU())
    model[1].momentum = None
    model.train()(IMAGES)
    model.eval()
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    nn.init.uniform_(model[1].bias)
    assert not check(model, "batch_norm_mismatch")
    other = (IMAGES + 1) * 40
    model[1].weight.data[2] = 0.0  # of which nothing can be said
    (found,) = check(model, "batch_norm_mismatch", other)
    assert found.picture.names == tuple("0134567")
    model[1].weight.data[2] = 1.0
    (found,) = check(model, "batch_norm_mismatch", other)
    assert (found.severity, found.layer, found.measured) == ("warning", "1", 1.0)
    seen = []
    sp.checkup(model, other, rules=[lambda evidence: seen.append(evidence.norms["1"]) or []], progress=False)
    shift, factor = compare_statistics(seen[0])
    taken = model[0](other).detach().double().transpose(0, 1).flatten(1)
    norm = model[1]
    deviation = (norm.running_var + norm.eps).sqrt()
    assert torch.allclose(shift, (taken.mean(1) - norm.running_mean) / deviation, rtol=1e-3)
    assert torch.allclose(factor, taken.std(1, correction=0) / deviation, rtol=1e-3)
    fresh = check(chain(nn.BatchNorm2d(8), nn.ReLU()), "batch_norm_mismatch", other)
    assert "It has seen no batch in training mode yet." in fresh[0].evidence


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [(3, 2, 1, 1), (4, 2, 1, 1), (5, 3, 1, 0), (6, 3, 1, 2), (2, 4, 1, 0), (3, 2, 2, 0), (4, 2, 3, 0), (3, 1, 1, 1)],
)
def test_overlaps_are_those_of_a_convolution_of_ones(kernel, stride, dilation, padding):
    """The number of taps at each output is what a kernel of ones returns for an image of ones."""
    ones = nn.ConvTranspose1d(1, 1, kernel, stride, padding, dilation=dilation, bias=False)
    ones.weight.data[:] = 1
    row = ones(torch.ones(1, 1, 40)).flatten().round().int().tolist()
    start = len(row) // 2 // stride * stride
    assert row[start : start + stride] == list(count_overlaps(kernel, stride, dilation, padding))


def test_checkerboard():
    """A kernel that the stride does not divide overlaps unequally; one that it divides does not."""
    torch.manual_seed(0)
    mended, faulty = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, size, stride=2)) for size in (4, 3))
    assert not check(mended.eval(), "checkerboard")
    (found,) = check(faulty.eval(), "checkerboard")
    assert (found.severity, found.layer, found.measured) == ("warning", "1", 4.0)
    assert "between 1 and 4 inputs" in found.evidence
    assert "checkerboard" in sp.checkup(chain(nn.ReLU()), IMAGES, rules=["checkerboard"], progress=False).skipped


def dilated(*dilations):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if not at else 4, 4, 3, dilation=one, padding=one) for at, one in enumerate(dilations)]
    return nn.Sequential(*(one for layer in layers for one in (layer, nn.LeakyReLU(0.3)))).eval()


@pytest.mark.parametrize(
    ("dilations", "skipping"),
    [
        ((2, 2), {"0", "2"}),
        ((1, 2, 2), set()),
        ((1, 3), set()),
        ((1, 4), {"2"}),
        ((1, 2, 5), set()),
        ((1, 8), {"2"}),  # a field of more than half of the image
        ((1, 14), {"2"}),  # whose units see no pixel in common: 31 of 33
    ],
)
def test_gridding(dilations, skipping):
    """The pixels that a unit skips are those whose change leaves it as it is."""
    model = dilated(*dilations)
    images = torch.randn(4, 3, 33, 33, generator=torch.Generator().manual_seed(2))
    found = {one.layer: one for one in check(model, "gridding", images)}
    assert set(found) == skipping
    pixel = images[:1].double().requires_grad_()
    for name in (str(2 * at) for at, one in enumerate(dilations) if one > 1):
        output = model.double()[: int(name) + 1](pixel)
        (gradient,) = torch.autograd.grad(output[0, :, 16, 16].sum(), pixel)
        touched = gradient[0].abs().sum(0) > 0
        rows, columns = (touched.any(axis).nonzero() for axis in (1, 0))
        box = touched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        expected = 1 - box.double().mean().item()
        assert (found[name].measured if name in found else 0.0) == pytest.approx(expected)
    model.float()


def test_gridding_behind_a_stride():
    """With a stride the pixels between multiples of it are followed too."""
    torch.manual_seed(0)
    faulty = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3, dilation=2)).eval()
    images = torch.randn(4, 3, 40, 40)
    (found,) = check(faulty, "gridding", images)
    assert (found.layer, found.measured) == ("2", pytest.approx(1 - (6 / 10) ** 2))
    faulty[0] = nn.Conv2d(3, 4, 4, stride=2)
    assert not check(faulty, "gridding", images)


def test_uncovered_pixels():
    """Rows that strides leave over, and pixels between them, are found; what is seen is a union of boxes."""
    torch.manual_seed(0)
    padded = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()
    assert not check(padded, "uncovered_pixels")
    gaps = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.ReLU()).eval()
    (found,) = check(gaps, "uncovered_pixels")
    assert (found.severity, found.measured) == ("warning", pytest.approx(0.75))
    assert "between pixels" in found.evidence
    left_over = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU()).eval()
    (found,) = check(left_over, "uncovered_pixels")
    assert found.measured == pytest.approx(1 - (11 / 12) ** 2)
    deeper = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()
    (found,) = check(deeper, "uncovered_pixels")
    pixels = torch.rand(1, 3, 12, 12).requires_grad_()
    (gradient,) = torch.autograd.grad(deeper(pixels).sum(), pixels)
    assert found.measured == pytest.approx((gradient[0].abs().sum(0) == 0).double().mean().item())
    large = torch.rand(2, 3, 300, 300)
    assert check(nn.Sequential(nn.Conv2d(3, 2, 3, stride=2)).eval(), "uncovered_pixels", large)[0].severity == "note"
    field = sp.receptive_fields(left_over, (1, 3, 12, 12))["0"]
    seen = np.zeros((12, 12), bool)
    for y0, x0, y1, x1 in field.boxes().reshape(-1, 4):
        seen[y0:y1, x0:x1] = True
    assert (coverage(field) == seen).all()


def test_uncovered_pixels_of_branches():
    """Branches of one block are taken together: what only one of them sees is seen."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.Conv2d(3, 2, 1, stride=2)

        def forward(self, x):
            wide = self.wide(x)
            return torch.cat([wide, self.narrow(x)], 1)

    assert not check(Two().eval(), "uncovered_pixels")


def test_field_saturated():
    """Convolutions whose input sees the whole image are found, norms over the image not counted."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if not at else 4, 4, 5, padding=2) for at in range(5)]
    model = nn.Sequential(layers[0], nn.GroupNorm(1, 4), *layers[1:]).eval()
    found = check(model, "field_saturated")
    assert [one.layer for one in found] == ["4", "5"]
    assert [one.measured for one in found] == [pytest.approx(13 / 12), pytest.approx(17 / 12)]
    assert all(one.severity == "note" for one in found)
    assert not check(model, "field_saturated", torch.rand(4, 3, 40, 40))


def test_field_small():
    """A model whose units see too little of the image is found; of a smaller image they see enough."""
    model = chain(nn.ReLU())
    (found,) = check(model, "field_small")
    assert (found.severity, found.measured) == ("note", pytest.approx(25 / 144))
    assert not check(model, "field_small", IMAGES[..., :6, :6])


def test_border():
    """Zeros around a bright image are an edge; a reflection is none."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()).eval()
    model[0].weight.data -= model[0].weight.data.mean((2, 3), keepdim=True)  # answers to edges only
    bright = IMAGES * 0.1 + 5
    (found,) = check(model, "border", bright)
    assert (found.severity, found.layer) == ("note", "0")
    maps = F.relu(model[0](bright[:16])).abs().mean((0, 1)).detach()
    inside = maps[1:-1, 1:-1].mean()
    border = (maps.sum() - inside * 100) / 44
    assert found.measured == pytest.approx((border / inside).item(), rel=1e-4)
    assert not check(model, "border", IMAGES)


def test_aliasing():
    """Subsampling fine patterns breaks the shift at half a stride; behind a blur it does not."""
    torch.manual_seed(0)
    fine, smooth = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    images = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    (found,) = check(nn.Sequential(fine).eval(), "aliasing", images)
    assert found.severity == "note"
    assert found.measured == pytest.approx(
        sp.evidence.equivariance_error(nn.Sequential(fine), images[:4], "0", (1, 1)).mean, rel=1e-5
    )
    blur = nn.AvgPool2d(7, 1, 3)
    assert not check(nn.Sequential(blur, fine).eval(), "aliasing", images)
    assert "aliasing" in sp.checkup(nn.Sequential(smooth).eval(), images, rules=["aliasing"], progress=False).skipped


class Reads(nn.Module):
    """A model whose field is not exact, since Python reads a value."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x * x.mean().item())


def test_fields_that_are_not_exact():
    """Rules of exact geometry are skipped where fields are upper bounds, and say why."""
    found = sp.checkup(Reads().eval(), IMAGES, progress=False)
    assert "not exact" in found.skipped["uncovered_pixels"]
    assert "field" in found.skipped["field_saturated"]
