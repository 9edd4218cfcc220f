"""What resizing reads, against torch's own operators in every mode, dtype and layout."""

from __future__ import annotations

import random
from collections import Counter
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from fields.graphs import Named
from fields.interpolation_cases import Case, draw, judged

MODES = ["nearest", "nearest-exact", "linear", "area"]


def test_random_resizes():
    """Boxes are what perturbing torch's operator shows, in the tensor's dtype and layout, or contain it."""
    source, kinds = random.Random(3), Counter()
    while kinds.total() < 150:
        case = draw(source)
        if case.runs:
            kind, where = judged(case)
            assert kind != "wrong", where
            kinds[kind] += 1
    assert kinds["exact"] > 0.95 * kinds.total()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [2, 31, 32, 64])
@pytest.mark.parametrize("factor", [2.3, 1.0005, 0.99999, 1 / 3, 2])
def test_factors_that_are_no_whole_numbers(mode, size, factor):
    """Torch rounds in float32, which at such factors is not what the fractions say."""
    case = Case([size], {"mode": mode, "scale_factor": factor}, 1, torch.float32, channels_last=False)
    if case.runs:
        kind, where = judged(case)
        assert kind == "exact", where


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [2.3, 1.7, 0.7])
def test_nearest_is_that_of_the_dtype(factor, dtype):
    """Which pixel is nearest, float32 and float64 do not agree upon: a model has the fields of its own dtype."""
    ramp = torch.arange(224, dtype=dtype).reshape(1, 1, 224)
    model = nn.Upsample(scale_factor=factor)
    field = sp.receptive_fields(model, ramp)[""]
    assert field.exact
    assert field.boxes()[:, 0].tolist() == model(ramp).flatten().tolist()
    assert (field.boxes()[:, 1] - field.boxes()[:, 0] == 1).all()


def test_weights_that_may_be_rounding_make_an_upper_bound():
    """By cubic weights of 1e-10 a pixel is seen or not, as rounding has it: its box does not say that it is exact."""
    model = nn.Upsample(scale_factor=0.99999, mode="bicubic")
    assert not sp.receptive_fields(model, (1, 1, 31, 31))[""].exact
    assert sp.receptive_fields(nn.Upsample(scale_factor=2, mode="bicubic"), (1, 1, 31, 31))[""].exact


@pytest.mark.parametrize(
    ("factors", "stride"), [((1.37, 1.21), 1 / 1.37 / 1.21), ((2.3, 1.7, 1.3), 1 / 2.3 / 1.7 / 1.3)]
)
def test_long_periods_keep_size_and_stride(factors, stride):
    """Resizes whose pattern hardly ever repeats have the size of their largest box and the stride of their factors."""
    model = nn.Sequential(*(nn.Upsample(scale_factor=factor, mode="linear") for factor in factors))
    field = sp.receptive_fields(model, (1, 1, 300))[""]
    boxes = field.boxes()
    assert field.size == ((boxes[:, 1] - boxes[:, 0]).max(),)
    assert field.stride[0] == pytest.approx(1 / prod(factors), rel=1e-4)


def test_sizes_without_a_common_divisor():
    """4097 of 1000 has a period of 4097 units, more than are listed."""
    field = sp.receptive_fields(nn.AdaptiveAvgPool1d(4999), (1, 1, 5000))[""]
    assert field.size == (2,)
    assert field.stride[0] == pytest.approx(5000 / 4999, rel=1e-4)


def test_one_column_is_smoothed_as_torch_does():
    """Of an image of one column torch reads the first pixels alone when it smooths."""
    model = Named("smooth", lambda x: F.interpolate(x, (12, 1), mode="bilinear", antialias=True))
    shown = model(torch.arange(11.0).reshape(1, 1, 11, 1)).flatten()
    field = sp.receptive_fields(model, (1, 1, 11, 1))[""]
    boxes = field.boxes()[:, 0]
    assert all(lo <= value < hi for value, lo, hi in zip(shown.tolist(), boxes[:, 0], boxes[:, 2], strict=True))
