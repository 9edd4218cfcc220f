"""A field is exact only where no constant may hide what it meets: by zeros, by large numbers, or unknown ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

import spatialprobe as sp
from fields.functions import Calls, compare_alone

LEAST = torch.finfo(torch.float32).min


def seen_before(x, dtype=None):
    """(4, 4): ones where a row sees a column."""
    return torch.ones(4, 4, device=x.device, dtype=dtype or x.dtype).tril()


def attended(x, mask):
    return (x @ x.transpose(2, 3) / 4 + mask).softmax(-1) @ x


def row(x, *values):
    return torch.tensor(values, device=x.device, dtype=x.dtype)


def half_filled(x):
    """Ones and zeros that are not a constant: an image whose right half is empty."""
    canvas = torch.zeros_like(x)
    canvas[..., :2] = x[..., :2]
    return canvas


def filled(x, value):
    """An image, the first column of which was written over."""
    made = x.clone()
    made[..., 0] = value
    return made


def written_into(x, value):
    """A canvas that an image was written into."""
    canvas = torch.full((*x.shape[:3], x.shape[3] + 1), value, device=x.device, dtype=x.dtype)
    canvas[..., 1:] = x
    return canvas


def filtered(x, *kernels):
    """Each channel convolved with each kernel."""
    kernels = torch.tensor(kernels, device=x.device, dtype=x.dtype)[:, None]
    return F.conv2d(x, kernels.repeat(x.shape[1], 1, 1, 1), padding=1, groups=x.shape[1])


def rotated(x):
    """Four channels, their halves rotated by the row: by nothing in the first, a right angle in the third."""
    angles = torch.outer(torch.tensor([torch.pi / 4, 1e-7]), torch.arange(x.shape[2])).to(x.device, x.dtype)
    angles, channels = angles.repeat(2, 1)[..., None], x[:, [0, 1, 2, 0]]
    return channels * angles.cos() + torch.cat([-channels[:, 2:], channels[:, :2]], 1) * angles.sin()


CORNER = torch.tensor([[1.0, 1, 1], [1, 1, 0], [0, 0, 0]])

HIDING = {
    "the least number": lambda x: attended(x, torch.full((4, 4), LEAST, device=x.device, dtype=x.dtype).triu(1)),
    "minus a billion": lambda x: attended(x, (1 - seen_before(x)) * -1e9),
    "minus a hundred": lambda x: attended(x, (1 - seen_before(x)) * -100),
    "minus forty": lambda x: attended(x, (1 - seen_before(x)) * -40),
    "minus infinity": lambda x: attended(x, seen_before(x).masked_fill(seen_before(x) == 0, -torch.inf)),
    "a list": lambda x: attended(x, torch.tensor([[0.0, -1e9, 0, 0]] * 4, device=x.device, dtype=x.dtype)),
    "alpha": lambda x: (x @ x.transpose(2, 3)).add(1 - seen_before(x), alpha=-1e9).softmax(-1) @ x,
    "baddbmm": lambda x: (
        torch.baddbmm(((1 - seen_before(x)) * -1e9).expand(3, 4, 4), x[0], x[0].transpose(1, 2)).softmax(-1) @ x[0]
    )[None],
    "masked_fill": lambda x: (x @ x.transpose(2, 3)).masked_fill(seen_before(x) == 0, -1e9).softmax(-1) @ x,
    "where": lambda x: torch.where(seen_before(x) > 0, x @ x.transpose(2, 3), -1e9).softmax(-1) @ x,
    "attention by booleans": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=seen_before(x) > 0),
    "attention by numbers": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=(1 - seen_before(x)) * -1e4),
    "matrix": lambda x: x @ torch.eye(4, device=x.device, dtype=x.dtype),
    "einsum": lambda x: torch.einsum("nchw,wv->nchv", x, torch.eye(4, device=x.device, dtype=x.dtype)),
    "lerp": lambda x: torch.lerp(x, x.flip(3), row(x, 0, 1, 0.5, 0.5)),
    "maximum": lambda x: torch.maximum(x, row(x, torch.inf, -1, -1, -1)),
    "rectified": lambda x: (x - row(x, 0, 1e4, 0, 0)).relu(),
    "sigmoid": lambda x: (x + (1 - seen_before(x)) * -1e3).sigmoid(),
    "kernels that differ by the channel": lambda x: F.conv2d(
        torch.cat([x[:, :1], x[:, :1].flip(3)], 1), row(x, 1, 0, 0, 1).reshape(1, 2, 1, 2)
    ),
    "border times": lambda x: F.pad(x, (1, 1)) * F.avg_pool2d(F.pad(x, (2, 2, 1, 1)), 3, 1),
    "empty times": lambda x: half_filled(x) * x,
    "joined times": lambda x: torch.cat([x[..., :2], torch.zeros_like(x[..., 2:])], 3) * x,
    "product": lambda x: F.pad(x, (1, 0)).prod(3),
    "cumulated product": lambda x: F.pad(x, (1, 0)).cumprod(3),
    "diagonal of large and small": lambda x: x @ torch.diag(row(x, 1e9, 1, 1e-9, 1)),
    "matrix of large and small": lambda x: x @ (1 + torch.diag(row(x, 1e9, 0, 0, 1e-9))),
    "kernel of large and small": lambda x: F.conv2d(x, row(x, 1e9, 1).expand(1, 3, 1, 2)),
    "large beside others": lambda x: (x * row(x, 1e9, 1, 1, 1)).sum(3),
    "orders of magnitude": lambda x: (x * torch.logspace(-9, 9, 4, device=x.device, dtype=x.dtype)).mean(3),
    "length of large and small": lambda x: (x * row(x, 1e9, 1, 1, 1)).norm(dim=3),
    "norm of large and small": lambda x: F.layer_norm(x * row(x, 1e9, 1, 1, 1), (4,)),
    "small": lambda x: x * 1e-12 + x.flip(3),
    "small step by step": lambda x: x * 1e-4 * 1e-4 * 1e-4 + x.flip(3),
    "small products": lambda x: (x * 1e-4) * (x * 1e-4) + x.flip(3),
    "divided by large": lambda x: x / 1e12 + x.flip(3),
    "divided by large maps": lambda x: x / (x.abs() * 1e12 + 1e12) + x.flip(3),
    "small by name": lambda x: torch.add(x, x.flip(3), alpha=1e-12),
    "small product": lambda x: torch.addcmul(x, x.flip(3), x, value=1e-12),
    "small product of matrices": lambda x: torch.baddbmm(x[0], x[0], x[0].flip(2), alpha=1e-12)[None],
    "almost no blend": lambda x: torch.lerp(x, x.flip(3), 1e-12),
    "small and a constant": lambda x: x * 1e-9 + 1,
    "small in a sigmoid": lambda x: (x * 1e-12).sigmoid(),
    "sharp": lambda x: (x * 1e9).softmax(3),
    "cold": lambda x: (x / 1e-9).softmax(3),
    "joined, maximum": lambda x: torch.cat([x, torch.full_like(x, 1e9)], 3).amax(3),
    "joined, softmax": lambda x: torch.cat([x, torch.full_like(x, 1e9)], 3).softmax(3),
    "joined low, softmax": lambda x: torch.cat([x[..., :2], torch.full_like(x[..., 2:], -1e9)], 3).softmax(3),
    "joined low, minimum": lambda x: torch.cat([x, torch.full_like(x, -1e9)], 3).amin(3),
    "joined, turned, maximum": lambda x: (-torch.cat([x, torch.full_like(x, -1e9)], 3)).amax(3),
    "joined, sum": lambda x: torch.cat([x, torch.full_like(x, 1e12)], 3).sum(3),
    "joined, logsumexp": lambda x: torch.cat([x, torch.full_like(x, 1e9)], 3).logsumexp(3),
    "joined, sorted": lambda x: torch.cat([x, torch.full_like(x, 1e9)], 3).sort(3).values,
    "joined, largest": lambda x: torch.cat([x, torch.full_like(x, 1e9)], 3).topk(2, 3).values,
    "joined, pooled": lambda x: F.max_pool2d(torch.cat([x, torch.full_like(x, 1e9)], 3), (1, 5)),
    "stacked, maximum": lambda x: torch.stack([x, torch.full_like(x, 1e9)]).amax(0),
    "padded, maximum": lambda x: F.pad(x, (1, 0), value=1e9).amax(3),
    "padded, softmax": lambda x: F.pad(x, (1, 0), value=1e9).softmax(3),
    "padded, convolved": lambda x: F.conv2d(F.pad(x, (1, 0), value=1e12), torch.ones_like(x[:, :, :1, :2])),
    "padded, added": lambda x: F.pad(x, (1, 0), value=1e12) + F.pad(x, (0, 1)),
    "filled, maximum": lambda x: filled(x, 1e9).amax(3),
    "written into, maximum": lambda x: written_into(x, 1e9).amax(3),
    "written at an index, maximum": lambda x: x.index_fill(3, torch.tensor([0], device=x.device), 1e9).amax(3),
    "scattered, maximum": lambda x: x.scatter(3, torch.zeros_like(x[..., :1]).long(), 1e9).amax(3),
    "clamped away": lambda x: x.clamp(min=1e9) + x.flip(3),
    "clamped between constants": lambda x: x.clamp(row(x, 0, 0, 0, 0), row(x, 0, 1, 1, 1)) + x.flip(3),
    "clamped to a hair": lambda x: F.hardtanh(x, 0.5, 0.5 + 1e-12) + x.flip(3),
    "below the threshold": lambda x: F.threshold(x, 1e9, 0) + x.flip(3),
    "compared to the largest": lambda x: (x > 1e9).to(x.dtype) + x.flip(3),
    "maximum of a hundred": lambda x: torch.maximum(x, row(x, 100, -1, -1, -1)),
    "powers of zero": lambda x: torch.pow(0, x.abs() + 1),
}  # fmt: skip

# What constants leave out altogether, and the boxes know it.
LEFT_OUT = {
    "ones and zeros": lambda x: x * seen_before(x),
    "a list of zeros": lambda x: x * row(x, 1, 0, 1, 1),
    "zero": lambda x: x + x.flip(3) * 0,
    "zero by name": lambda x: x.add(x.flip(3), alpha=0),
    "booleans": lambda x: x * (seen_before(x) > 0),
    "and": lambda x: ((x > 0) & (seen_before(x) > 0)).to(x.dtype),
    "divided by infinity": lambda x: x / row(x, 1, 1, torch.inf, 1),
    "power": lambda x: x.abs() ** row(x, 1, 0, 2, 1),
    "triangle": lambda x: x.tril(),
    "zeros": lambda x: x * 0,
    "zeros in place": lambda x: x.clone().mul_(0) + x.flip(3),
    "zeros with an image": lambda x: x * 0 + x.flip(3),
    "minus zero times": lambda x: torch.sub(x, x.flip(3), alpha=0),
    "zero minus": lambda x: torch.rsub(x, x.flip(3), alpha=0),
    "powers of one": lambda x: torch.pow(1, x) + x.flip(3),
    "powers of ones": lambda x: torch.pow(row(x, 1, 2, 0.5, 1), x),
    "powers of nothing": lambda x: x.pow(0) + x.flip(3),
    "addmm, beta": lambda x: torch.addmm(x[0, 0], x[0, 1], torch.ones_like(x[0, 2]), beta=0)[None, None],
    "addmm, alpha": lambda x: torch.addmm(x[0, 0], x[0, 1].flip(0), x[0, 1].flip(1), alpha=0)[None, None],
    "baddbmm, beta": lambda x: torch.baddbmm(x[0].flip(1), x[0], torch.ones_like(x[0]), beta=0)[None],
    "baddbmm, alpha": lambda x: torch.baddbmm(x[0], x[0], x[0].flip(2), alpha=0)[None],
    "addbmm, beta": lambda x: torch.addbmm(x[0, 0].flip(0), x[0], torch.ones_like(x[0]), beta=0)[None, None],
    "addbmm, alpha": lambda x: torch.addbmm(x[0, 0], x[0], x[0].flip(2), alpha=0)[None, None],
    "addmv, beta": lambda x: torch.addmv(x[0, 0, 0], x[0, 1], torch.ones_like(x[0, 0, 0]), beta=0)[None, None],
    "addmv, alpha": lambda x: torch.addmv(x[0, 0, 0], x[0, 1], x[0, 0, 0], alpha=0)[None, None],
    "addr, beta": lambda x: torch.addr(x[0, 0], x[0, 1, 0], x[0, 0, 1], beta=0)[None, None],
    "addr, alpha": lambda x: torch.addr(x[0, 0], x[0, 1, 0], x[0, 0, 1], alpha=0)[None, None],
    "addcmul": lambda x: torch.addcmul(x, x.flip(3), x.flip(2), value=0),
    "addcdiv": lambda x: torch.addcdiv(x, x.flip(3), x.flip(2), value=0),
    "the first of a blend": lambda x: torch.lerp(x, x.flip(3), 0.0),
    "the second of a blend": lambda x: torch.lerp(x, x.flip(3), 1.0),
    "a blend of itself": lambda x: torch.lerp(x, x, 0.0),
    "where": lambda x: torch.where(seen_before(x) > 0, x, x.flip(3)),
    "where, one image": lambda x: torch.where(seen_before(x) > -1, x, x.flip(3)),
    "where, the other": lambda x: torch.where(seen_before(x) < 0, x, x.flip(3)),
    "where, a number": lambda x: torch.where(seen_before(x) > 0, x, 3.0) + x.flip(3),
    "clamped to one value": lambda x: x.clamp(0.5, 0.5) + x.flip(3),
    "clamped by crossed bounds": lambda x: x.clamp(1, 0),
    "dropped": lambda x: F.dropout(x, 1.0, True) + x.flip(3),
    "channels dropped": lambda x: F.dropout2d(x, 1.0, True) + x.flip(3),
    "filled": lambda x: x.masked_fill(seen_before(x) > -1, 0.0) + x.flip(3),
    "filled in part": lambda x: x.masked_fill(seen_before(x) > 0, 2.0) + x.flip(3),
    "filled nowhere": lambda x: x.masked_fill(seen_before(x) > 1, 2.0),
    "filled in place": lambda x: x.clone().masked_fill_(seen_before(x) > 0, 2.0),
    "scattered": lambda x: x.scatter(3, torch.zeros_like(x[..., :1]).long(), 2.0),
    "filled at an index": lambda x: x.index_fill(3, torch.tensor([0, 2], device=x.device), 2.0),
    "the upper triangle": lambda x: x.triu(1) + x.tril(-2),
    "padded low, maximum": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 1),
    "joined ones, maximum": lambda x: torch.cat([x, torch.ones_like(x)], 3).amax(3),
    "large": lambda x: (x * 1e9).relu().sum(3) * 1e-9 + x.mean(3),
    "a column of a kernel": lambda x: filtered(x, [[0, 1, 0], [0, 1, 0], [0, 1, 0]]),
    "kernel of edges": lambda x: filtered(x, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "kernel of neighbors": lambda x: filtered(x, [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "kernel of a diagonal": lambda x: filtered(x, [[1, 0, 0], [0, 0, 0], [0, 0, 2]]),
    "kernel of a shift": lambda x: filtered(x, [[0, 0, 0], [0, 0, 0], [0, 0, 1]]),
    "kernel of nothing": lambda x: filtered(x, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]) + x.flip(3),
    "kernels of two directions": lambda x: filtered(x, [[-1, 0, 1], [0, 0, 0]], [[0, 1, 0], [0, 1, 0]]),
    "rotated by position": lambda x: attended(rotated(x).sum(1, keepdim=True), 0.0),
    "rotated but for the first": lambda x: attended(
        torch.cat([torch.ones_like(x[:, :1, :1]), rotated(x[:, :, 1:]).sum(1, keepdim=True)], 2), 0.0
    ),
    "pixels and their mean": lambda x: (x * 255 - 127).abs() / 255,
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_left_out(name):
    """What a constant leaves out for certain is not in the box, which is exact."""
    field = compare_alone(Calls(LEFT_OUT[name]))
    assert (field.exact, field.unknown, field.fallback) == (True, (), None)


@pytest.mark.parametrize("name", HIDING)
def test_hidden(name):
    """What a constant hides is in the box, which does not claim to be exact, and names the operator that hides it."""
    field = compare_alone(Calls(HIDING[name]))
    assert not field.exact
    assert [reason.partition(" where ")[2] for reason in field.unknown] == ["a constant may hide values"]
    assert field.fallback is None


TENSORS = {
    "additive buffer": (attended, {"mask": torch.full((4, 4), -1e9).triu(1)}),
    "boolean buffer": (
        lambda x, mask: (x @ x.transpose(2, 3)).masked_fill(mask, -1e9).softmax(-1) @ x,
        {"mask": torch.ones(4, 4, dtype=torch.bool).triu(1)},
    ),
    "frozen parameter": (attended, {"mask": nn.Parameter(torch.full((4, 4), -1e9).triu(1), requires_grad=False)}),
    "masked weight": (
        lambda x, weight, mask: F.conv2d(x, weight * mask, padding=1),
        {"weight": nn.Parameter(torch.rand(2, 3, 3, 3)), "mask": CORNER},
    ),
    "triangular weight": (lambda x, weight: F.linear(x, weight.tril()), {"weight": nn.Parameter(torch.rand(4, 4))}),
    "weights above zero": (
        lambda x, weight: x * (weight > 0.5),
        {"weight": nn.Parameter(torch.tensor([0.1, 0.9, 0.1, 0.9]))},
    ),
    "compared in the forward": (
        lambda x, mask: attended(x, (mask == 0) * -1e9),
        {"mask": torch.ones(4, 4).tril()},
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_hidden_by_the_model(name):
    """Masks among a model's buffers and parameters, and those that are made of them."""
    function, tensors = TENSORS[name]
    field = compare_alone(Calls(function, **tensors))
    assert not field.exact
    assert [reason.partition(" where ")[2] for reason in field.unknown] == ["a constant may hide values"]


MASKED = {
    "multiplied": lambda x, mask: x * mask,
    "added": lambda x, mask: attended(x, (1 - mask) * LEAST),
    "filled": lambda x, mask: (x @ x.transpose(2, 3)).masked_fill(mask == 0, LEAST).softmax(-1) @ x,
}


@pytest.mark.parametrize("name", MASKED)
def test_hidden_by_another_input(name):
    """A mask that is passed in: by its values, or, where there is only its shape, by any that it may have."""
    function, mask = MASKED[name], torch.ones(4, 4).tril()
    assert compare_alone(Calls(function), (1, 3, 4, 4), mask).exact is (name == "multiplied")
    assert not sp.receptive_fields(Calls(function), ((1, 3, 4, 4), (4, 4)))[""].exact
    assert sp.receptive_fields(Calls(function), ((1, 3, 4, 4), torch.ones(4, 4)))[""].exact


@pytest.mark.parametrize("name", ["multiplied", "added", "filled"])
def test_hidden_without_weights(name):
    """A mask whose values are on the meta device may hide anything."""
    with torch.device("meta"):
        model = Calls(MASKED[name], mask=torch.ones(4, 4))
    assert not sp.receptive_fields(model, (1, 3, 4, 4))[""].exact


def test_masks_too_large_to_compute():
    """What is computed of them is not known, and may hide anything."""
    model = Calls(lambda x, mask: x.sum() * (mask * 2), mask=torch.ones(2**12 + 1, 2**10 + 1))
    assert not sp.receptive_fields(model, (1, 1, 4, 4), unit_axes=(0, 1))[""].exact


SOLID = {
    "a matrix of ones": lambda x: x @ torch.ones(4, 4, device=x.device, dtype=x.dtype),
    "numbers": lambda x: x * row(x, 1, 0.5, 2, -1) + row(x, 3, 0, -2, 1),
    "ones": lambda x: x * torch.ones_like(x[:1]),
    "nothing masked": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=seen_before(x) > -1),
    "the mean of a data set": lambda x: x * 255 - torch.tensor([123.0, 116, 103], device=x.device).view(1, 3, 1, 1),
    "a mean and a spread": lambda x: (x - row(x, 0.4, 0.5, 0.6, 0.5)) / row(x, 0.2, 0.2, 0.2, 0.1),
    "slopes": lambda x: F.prelu(x - 0.5, torch.full((3,), 0.2, dtype=x.dtype, device=x.device)),
    "values that decide": lambda x: x.masked_fill(x > 0, 0.0) + x,
}


@pytest.mark.parametrize("name", SOLID)
def test_nothing_hidden(name):
    """Constants without zeros or large numbers hide nothing, and boxes are exact."""
    assert compare_alone(Calls(SOLID[name])).exact


def preprocessed():
    return nn.Sequential(Calls(SOLID["the mean of a data set"]), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sigmoid())


def pruned(amount):
    conv = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(conv, "weight", amount=amount)
    return conv


WEIGHTS = {
    "scale at zero": lambda: Calls(lambda x, scale: x + scale * x.flip(3), scale=nn.Parameter(torch.zeros(4))),
    "bias of an attention": lambda: Calls(attended, mask=nn.Parameter(torch.randn(4, 4))),
    "preprocessed": preprocessed,
    "slopes": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Conv2d(4, 4, 1), nn.PReLU(4)),
    "weight_norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
    "pruned of nothing": lambda: pruned(0.0),
    "dropout": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5)),
    "frozen": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).requires_grad_(False),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_no_masks(name, training):
    """Whatever values they have now, training may change them; what is dropped at random is dropped in no place."""
    model = WEIGHTS[name]().train(training)
    assert sp.receptive_fields(model, (1, 3, 4, 4), layers=model)[""].exact


def test_pruned_weights_are_masked():
    """A mask that is multiplied with a weight hides what it multiplies."""
    assert not sp.receptive_fields(pruned(0.5), (1, 3, 8, 8))[""].exact


class Encoders(nn.Module):
    """Two images, each with layers of its own."""

    def __init__(self):
        super().__init__()
        self.near = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.far = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())

    def forward(self, a, b):
        return self.near(a) * self.far(b)


def test_features_of_another_input_are_no_masks():
    """What layers make of a second image is as good as weights, though nobody has given its values."""
    for which in (0, 1):
        field = sp.receptive_fields(Encoders(), ((1, 1, 8, 8), (1, 1, 8, 8)), input=which)[""]
        assert (field.exact, field.size) == (True, (3, 3))


def test_a_skip_around_the_source():
    """The image itself, and gates made of it, are constants to fields that begin at a layer, and no masks."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.outer(self.inner(x)) * x.relu() + x

    field = sp.receptive_fields(Around(), (1, 1, 8, 8), source="inner")[""]
    assert (field.exact, field.size) == (True, (3, 3))
