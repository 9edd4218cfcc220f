"""Boxes against what perturbing the input shows: small models, every kind of operator, and random networks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo import ZOO

import spatialprobe as sp
from fields.graphs import Named, RandomGraph
from fields.perturbation import hulls, seen


def compare(model, shape, *, exact=None):
    """Every module's boxes, for each channel and for all, against perturbation in float64; returns the fields."""
    model = copy.deepcopy(model).double()
    example = torch.empty(shape, dtype=torch.float64, device="meta")
    fields = sp.receptive_fields(model, example, layout="channels_first")
    axes = len(shape) - 2
    for layer, calls in seen(model, shape).items():
        for field, changed in zip(fields.calls(layer), calls, strict=True):
            truth = np.stack([hulls(channel, axes) for channel in changed])
            found = np.stack([field.boxes(channel) for channel in range(len(changed))])
            assert found.shape == truth.shape
            if field.exact:
                assert np.array_equal(found, truth), layer
                assert np.array_equal(field.boxes(), hulls(changed.any(0), axes)), layer
            else:
                empty = ~truth.any(-1)
                inside = (found[..., :axes] <= truth[..., :axes]) & (truth[..., axes:] <= found[..., axes:])
                assert (inside.all(-1) | empty).all(), layer
            assert exact is None or field.exact is exact or layer != ""
            assert field.fallback is None
    return fields


@pytest.mark.parametrize("name", [name for name in ZOO if name != "tuple"])
def test_zoo(name):
    """Every module of every model, in one, two and three dimensions."""
    specimen = ZOO[name]
    compare(specimen.model(), (1, *specimen.shape[1:]), exact=True)


@given(st.integers(0, 10**9))
@settings(derandomize=True)
def test_random_graphs(seed):
    """Random operators wired at random, with joins, concatenations, crops, writes through views and in place.

    All are exact, but for a resize to a size at which rounding decides which pixels count.
    """
    graph = RandomGraph(seed)
    resizes = any("resize" in step.extra_repr() for step in graph.steps)
    compare(graph, (1, 4, 9, 10), exact=None if resizes else True)


class Attention(nn.Module):
    """Tokens of rows; queries, keys and values by one linear map."""

    def __init__(self, **how):
        super().__init__()
        self.mix = nn.Linear(8, 12)
        self.how = how

    def forward(self, x):
        tokens = x.flatten(1, 2).permute(0, 2, 1) if x.ndim == 3 else x.permute(0, 2, 1, 3).flatten(2)
        query, key, value = self.mix(tokens).chunk(3, -1)
        return F.scaled_dot_product_attention(query, key, value, **self.how).transpose(1, 2)


EVERY_OTHER = torch.tensor([0, 2, 4])
PERMUTATION = torch.tensor([3, 0, 2, 1])


def written_through_view(x):
    y = torch.zeros_like(x)
    window = y.view(y.shape[0], -1)[:, 3:9]
    window += x.flatten(1)[:, :6]
    return y + 0


def interleaved(x):
    y = x.new_zeros(*x.shape[:3], 2 * x.shape[3])
    y[..., ::2] = x
    y[..., 1::2] = x.flip(3)
    return y * 2


def scattered(x):
    index = torch.arange(x.shape[3], device=x.device).flip(0).expand(x.shape)
    return torch.zeros_like(x).scatter(3, index, x)


OPERATORS = {
    "conv 1-d": (nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2), (1, 2, 13)),
    "conv 3-d": (nn.Conv3d(1, 2, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (1, 1, 4, 5, 6)),
    "conv same": (nn.Conv2d(2, 2, (3, 5), dilation=(1, 2), padding="same"), (1, 2, 6, 7)),
    "transposed 1-d": (nn.ConvTranspose1d(2, 2, 2, stride=3, output_padding=1), (1, 2, 5)),
    "transposed 3-d": (nn.ConvTranspose3d(1, 1, 2, stride=2, dilation=2), (1, 1, 3, 3, 2)),
    "max pool": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (1, 2, 8, 6)),
    "pool ceil": (nn.AvgPool2d((2, 3), (3, 2), (1, 1), ceil_mode=True), (1, 2, 8, 9)),
    "pool 3-d": (nn.AvgPool3d(2, 1, 1), (1, 1, 4, 3, 4)),
    "lp pool": (Named("lp", lambda x: F.lp_pool2d(x.exp(), 2, 2, 1)), (1, 1, 5, 6)),
    "adaptive": (nn.AdaptiveAvgPool2d((3, 4)), (1, 1, 7, 10)),
    "adaptive 1-d": (nn.AdaptiveAvgPool1d(3), (1, 1, 10)),
    "global pool": (nn.AdaptiveAvgPool2d(1), (1, 2, 5, 6)),
    "unfold": (nn.Unfold((2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)), (1, 2, 6, 8)),
    "fold": (
        nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((7, 8), 2, padding=(1, 0), stride=(3, 2), dilation=(2, 1))),
        (1, 2, 6, 8),
    ),
    "windows": (Named("unfold", lambda x: x.unfold(3, 3, 2).sum(-1)), (1, 2, 4, 9)),
    "nearest 3-d": (nn.Upsample(scale_factor=(1, 2, 1.5)), (1, 1, 3, 3, 4)),
    "linear 1-d": (nn.Upsample(11, mode="linear"), (1, 2, 4)),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True), (1, 1, 2, 3, 3)),
    "area": (Named("area", lambda x: F.interpolate(x, (3, 4), mode="area")), (1, 1, 7, 9)),
    "pixel shuffle": (nn.Sequential(nn.Conv2d(2, 8, 3, groups=2), nn.PixelShuffle(2)), (1, 2, 5, 6)),
    "pixel unshuffle": (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 4, 3, groups=4)), (1, 2, 6, 8)),
    "reflect 3-d": (nn.ReflectionPad3d(1), (1, 1, 3, 3, 4)),
    "layer norm": (nn.LayerNorm(6), (1, 2, 5, 6)),
    "group norm": (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4)), (1, 4, 5, 5)),
    "instance norm": (nn.InstanceNorm2d(3), (1, 3, 4, 5)),
    "rms norm": (nn.RMSNorm((5, 6)), (1, 2, 5, 6)),
    "softmax": (nn.Softmax(2), (1, 2, 4, 5)),
    "log softmax": (nn.LogSoftmax(1), (1, 3, 4, 5)),
    "cumsum": (Named("cumsum", lambda x: x.cumsum(3)), (1, 2, 3, 6)),
    "mean of rows": (Named("mean", lambda x: x + x.mean(3, keepdim=True)), (1, 2, 4, 5)),
    "std": (Named("std", lambda x: x.std(2)), (1, 2, 4, 5)),
    "matmul": (Named("matmul", lambda x: x @ x.transpose(2, 3)), (1, 2, 4, 5)),
    "einsum": (Named("einsum", lambda x: torch.einsum("nchw,nchv->nchwv", x, x).mean(-1)), (1, 2, 3, 4)),
    "linear over width": (nn.Linear(6, 3), (1, 2, 5, 6)),
    "attention": (Attention(), (1, 2, 5, 4)),
    "take": (Named("take", lambda x: x[:, :, EVERY_OTHER]), (1, 2, 5, 6)),
    "take channels": (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), Named("take", lambda x: x[:, PERMUTATION])),
        (1, 4, 5, 6),
    ),
    "take two": (Named("take", lambda x: x[:, :, EVERY_OTHER, EVERY_OTHER]), (1, 2, 5, 6)),
    "index select": (Named("select", lambda x: x.index_select(3, EVERY_OTHER)), (1, 2, 5, 6)),
    "index add": (Named("add", lambda x: x.index_add(2, EVERY_OTHER, x[:, :, :3])), (1, 2, 5, 6)),
    "index copy": (Named("copy", lambda x: x.index_copy(2, EVERY_OTHER, x[:, :, 2:5])), (1, 2, 5, 6)),
    "scatter": (Named("scatter", scattered), (1, 2, 3, 4)),
    "diagonal": (Named("diagonal", lambda x: x.diagonal(0, 2, 3)), (1, 2, 4, 5)),
    "repeat": (Named("repeat", lambda x: x.repeat(1, 1, 2, 1)), (1, 2, 3, 4)),
    "stack": (Named("stack", lambda x: torch.stack([x, x.flip(3)], 2).mean(2)), (1, 2, 3, 4)),
    "unbind": (Named("unbind", lambda x: sum(x.unbind(3))), (1, 2, 3, 4)),
    "glu": (nn.GLU(1), (1, 4, 3, 4)),
    "write through view": (Named("write", written_through_view), (1, 2, 3, 4)),
    "interleave": (Named("interleave", interleaved), (1, 1, 3, 4)),
    "movedim": (Named("movedim", lambda x: x.movedim(3, 2)), (1, 2, 3, 4)),
    "where": (Named("where", lambda x: torch.where(torch.ones_like(x) > 2, x.sum(3, keepdim=True), x)), (1, 1, 3, 4)),
    "triangle": (Named("tril", lambda x: x.tril() + x.flip(3)), (1, 1, 4, 4)),
    "frequencies": (Named("fft", lambda x: torch.fft.rfft2(x).abs()), (1, 2, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    """One operator at a time; all of these are exact."""
    model, shape = OPERATORS[name]
    compare(model.eval(), shape, exact=True)


class Masked(nn.Module):
    """Attention in which a row sees only those before it."""

    def forward(self, x):
        seen = torch.ones(x.shape[2], x.shape[2], dtype=torch.bool, device=x.device).tril()
        scores = (x @ x.transpose(2, 3)).masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ x


BOUNDS = {
    "masked attention": (Masked(), (1, 2, 4, 3)),
    "causal": (Attention(is_causal=True), (1, 2, 5, 4)),
    "grid sample": (
        Named("grid", lambda x: F.grid_sample(x, x.new_zeros(len(x), 2, 2, 2), align_corners=False)),
        (1, 1, 4, 5),
    ),
    "unpool": (Named("unpool", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)), (1, 1, 4, 4)),
    "sorted": (Named("topk", lambda x: x.topk(2, 3).values), (1, 1, 3, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_upper_bounds(name):
    """What values decide, or a mask hides, is contained in a box that says why it is not exact; sorting is exact."""
    model, shape = BOUNDS[name]
    fields = sp.receptive_fields(model, shape)
    compare(model, shape)
    assert fields[""].exact is (name == "sorted")
    assert all(" where " in reason for reason in fields[""].unknown)
    assert bool(fields[""].unknown) is (name != "sorted")


def test_unknown_operator_is_named():
    """An operator without a rule depends on everything, says that it is inexact, and is named downstream too."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), Named("svd", lambda x: torch.linalg.matrix_exp(x)), nn.Conv2d(1, 1, 2))
    fields = sp.receptive_fields(model, (1, 1, 6, 6))
    assert fields["0"].exact
    assert not fields["2"].exact
    assert fields["2"].unknown == ("aten::linalg_matrix_exp",)
    assert fields["2"].box(0, 0) == (0, 0, 6, 6)


def geometry(field):
    return field.size, field.stride, field.start, field.period


@pytest.mark.parametrize("name", ["strided", "dilated", "asymmetric", "chain", "transposed"])
@pytest.mark.parametrize("small", [0, 1, 2])
def test_geometry_does_not_depend_on_the_input(name, small):
    """Size, stride and start, also where no unit is far from a border, are those measured inside a large input."""
    specimen = ZOO[name]
    model = specimen.model()
    sizes = [max(11, size - small * 4) for size in specimen.shape[2:]]
    here = sp.receptive_fields(model, (1, specimen.shape[1], *sizes))
    far = sp.receptive_fields(model, (1, specimen.shape[1], 96, 96))
    for layer in here:
        little, large = here[layer], far[layer]
        assert (little.size, little.stride, little.start, little.period) == (
            large.size,
            large.stride,
            large.start,
            large.period,
        )
        middle = tuple(size // 2 for size in large.output_size)
        boxes = [large.box(*(m + dy for m in middle)) for dy in range(max(large.period))]
        assert max(box.shape[0] for box in boxes) == large.size[0]
        assert max(box.shape[1] for box in boxes) == large.size[1]
        for unit in (middle, (0, 0)):
            unclipped = large.box(*unit, clip=False)
            assert unclipped.shape == large.box(*middle).shape or max(large.period) > 1


class UNet(nn.Module):
    """Down twice, up twice, with skips by concatenation."""

    def __init__(self, up):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(c, 2, 3, padding=1) for c in (1, 2, 2))
        self.up = nn.ModuleList(up() for _ in range(2))
        self.mix = nn.ModuleList(nn.Conv2d(4, 2, 3, padding=1) for _ in range(2))

    def forward(self, x):
        skips = []
        for conv in self.down[:2]:
            x = conv(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[2](x)
        for up, mix in zip(self.up, self.mix, strict=True):
            x = mix(torch.cat([up(x), skips.pop()], 1))
        return x


@pytest.mark.parametrize("up", [lambda: nn.ConvTranspose2d(2, 2, 2, stride=2), lambda: nn.Upsample(scale_factor=2)])
def test_decoders_repeat(up):
    """Neighbouring units of a decoder differ with a period of two and four, and the size is the largest."""
    model = UNet(up).eval()
    compare(model, (1, 1, 12, 12), exact=True)
    large = sp.receptive_fields(model, (1, 1, 96, 96))
    assert [large[f"mix.{n}"].period for n in range(2)] == [(2, 2), (4, 4)]
    field = large["mix.1"]
    inner = field.boxes()[40:48, 40:48]
    assert (inner[..., 2:] - inner[..., :2]).max() == field.size[0]
    assert field.stride == (1, 1)
    small = sp.receptive_fields(model, (1, 1, 8, 8))["mix.1"]
    assert (small.size, small.stride, small.start, small.period) == (
        field.size,
        field.stride,
        field.start,
        field.period,
    )
