"""Moments: exact to float64, whatever the batches, the mean, the dtype."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spatialprobe as sp


def moments_of(*batches):
    """The result after these batches."""
    reducer = sp.Moments()
    for batch in batches:
        reducer.update(batch, torch.arange(len(batch)))
    return reducer.result()


def exact(values):
    """Mean and population variance of numbers in exact arithmetic, each rounded once."""
    numbers = [Fraction(value) for value in values]
    mean = sum(numbers) / len(numbers)
    return float(mean), float(sum((number - mean) ** 2 for number in numbers) / len(numbers))


def check_against_exact(result, batches, digits=1e-12):
    """Every statistic of every channel equals that of exact arithmetic over its finite values."""
    for channel in range(batches[0].shape[1]):
        everything = [value for batch in batches for value in batch[:, channel].reshape(-1).double().tolist()]
        values = [value for value in everything if math.isfinite(value)]
        mean, variance = exact(values)
        assert result.count[channel] == len(values)
        assert result.nonfinite[channel] == len(everything) - len(values)
        assert result.mean[channel].item() == pytest.approx(mean, rel=1e-14, abs=1e-13 * math.sqrt(variance))
        assert result.variance[channel].item() == pytest.approx(variance, rel=digits, abs=0)
        assert result.std[channel].item() == pytest.approx(math.sqrt(variance), rel=digits, abs=0)
        assert result.minimum[channel] == min(values)
        assert result.maximum[channel] == max(values)
        assert result.zero_fraction[channel] == pytest.approx(values.count(0.0) / len(values), abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 7, 5), (3,), (4, 2, 3, 2), (2, 9, 11)])
def test_equals_exact_arithmetic(dtype, shape):
    """Unequal batches of maps of any number of axes, in every floating-point type."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, *shape, generator=generator).relu().to(dtype) + 0.5 for n in (1, 7, 2, 13)]
    batches[1][2:] -= 0.5  # some zeros
    check_against_exact(moments_of(*batches), batches)


@pytest.mark.parametrize("sizes", [(64,), (1, 63), (50, 13, 1), (1,) * 20])
@pytest.mark.parametrize(("mean", "digits"), [(1e6, 1e-10), (-1e6, 1e-10), (1e9, 1e-8)])
def test_a_mean_of_a_million_with_unit_spread(sizes, mean, digits):
    """The variance keeps ten digits where the square of the mean is 10^12 times as large.

    Where it is 10^18 times as large, float64 holds the mean itself to 10^-7 of the spread only.
    """
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 2, 6, 7, generator=generator, dtype=torch.float64) + mean for n in sizes]
    check_against_exact(moments_of(*batches), batches, digits)


def test_float32_values_near_a_million():
    """Also where the activations themselves are float32, as given."""
    batches = [torch.randn(n, 3, 5, 5, generator=torch.Generator().manual_seed(n)) + 1e6 for n in (3, 30, 8)]
    check_against_exact(moments_of(*batches), batches, digits=1e-10)


def test_a_far_first_sample_and_a_far_first_batch():
    """The shift around which is summed is a guess from what came first: a bad one costs no digits."""
    near = torch.randn(40, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    far = torch.full((1, 2, 4, 4), -1e7, dtype=torch.float64)
    for batches in ([torch.cat([far, near])], [far, near], [near, far]):
        check_against_exact(moments_of(*batches), batches, digits=1e-10)


def test_many_small_updates_do_not_drift():
    """Three thousand batches of one value each."""
    values = torch.randn(3000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    check_against_exact(moments_of(*values.split(1)), [values], digits=1e-10)


def test_constant_channels_have_no_variance():
    """A channel with one value, however odd, has variance 0 and that mean, over any batches."""
    result = moments_of(*(torch.full((n, 1, 3), 0.1) for n in (1, 5, 3)))
    assert result.variance.item() == 0
    assert result.mean.item() == result.minimum.item() == torch.tensor(0.1).double().item()


@pytest.mark.parametrize("where", ["first", "later", "whole channel first"])
def test_nonfinite_values_are_left_out_and_counted(where):
    """NaN and infinities enter nothing but their own count, wherever they come."""
    batches = [torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(n)) + 100 for n in (2, 5, 4)]
    hit = batches[1 if where == "later" else 0]
    hit[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    hit[1, 2, 3, 3] = torch.nan
    if where == "whole channel first":
        hit[:, 1] = torch.nan
    check_against_exact(moments_of(*batches), batches, digits=1e-11)


def test_a_channel_without_finite_values_has_none():
    """Its statistics are NaN, and the other channels' are not."""
    values = torch.tensor([[[torch.nan, torch.inf], [1.0, 3.0]]])
    result = moments_of(values, values)
    assert result.count.tolist() == [0, 4]
    assert result.nonfinite.tolist() == [4, 0]
    for name in ("mean", "variance", "std", "minimum", "maximum", "zero_fraction"):
        assert getattr(result, name).isnan().tolist() == [True, False], name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_whole_numbers(dtype):
    """Values of integer types are statistics like any."""
    batches = [torch.randint(0, 2, (n, 2, 3), generator=torch.Generator().manual_seed(n)).to(dtype) for n in (4, 6)]
    check_against_exact(moments_of(*batches), batches)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "every other"])
def test_memory_layouts(layout):
    """Views and channels-last tensors are read as what they are."""
    base = torch.randn(6, 8, 10, 12, generator=torch.Generator().manual_seed(0))
    view = {
        "channels last": base.to(memory_format=torch.channels_last),
        "transposed": base.permute(1, 0, 3, 2),
        "every other": base[::2, :, ::3, ::2],
    }[layout]
    check_against_exact(moments_of(view), [view])


def test_maps_larger_than_a_piece():
    """Work is done in pieces that fit a cache: maps, channels and batches beyond one are whole."""
    for shape in ((1, 2, 300, 301), (300, 2, 20, 20), (3, 700, 13, 13)):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        result, flat = moments_of(values), values.double().transpose(0, 1).flatten(1)
        assert torch.allclose(result.mean, flat.mean(1), atol=1e-13)
        assert torch.allclose(result.variance, flat.var(1, correction=0), rtol=1e-11)


@given(st.data())
def test_any_split_order_and_merge_tree(data):
    """The law, with values a million from zero: the same to twelve digits, counts and extremes to the last bit."""
    seed, count = data.draw(st.integers(0, 2**16)), data.draw(st.integers(1, 24))
    values = torch.randn(count, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1e6
    values[torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)) < 0.1] = torch.nan
    order = data.draw(st.permutations(range(count)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=6)))
    heap = []
    for first, last in zip([0, *cuts], [*cuts, count], strict=True):
        heap.append(sp.Moments())
        if last > first:
            heap[-1].update(values[order[first:last]], torch.tensor(order[first:last]))
    while len(heap) > 1:
        one, other = heap.pop(data.draw(st.integers(0, len(heap) - 1))), heap.pop(0)
        one.merge(other)
        heap.append(one)
    whole, merged = moments_of(values), heap[0].result()
    for name in ("count", "minimum", "maximum", "zero_fraction", "nonfinite"):
        assert torch.equal(getattr(whole, name).nan_to_num(), getattr(merged, name).nan_to_num()), name
    for name in ("mean", "variance"):
        mine, theirs = getattr(whole, name), getattr(merged, name)
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-14, equal_nan=True), name


def test_the_result_is_a_copy():
    """A result does not change when more values come."""
    reducer = sp.Moments()
    reducer.update(torch.ones(1, 1), torch.tensor([0]))
    before = reducer.result()
    reducer.update(torch.zeros(1, 1), torch.tensor([1]))
    assert (before.count.item(), before.mean.item(), before.minimum.item()) == (1, 1, 1)
    assert reducer.result().mean.item() == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(3), r"real values \(N, C, \*spatial\), not torch.float32 \(3,\)"),
        (torch.ones(1, 1, dtype=torch.complex64), "not torch.complex64"),
        (torch.ones(2, 5), "5 channels after 1"),
    ],
)
def test_what_has_no_moments(values, message):
    """Values without channels, complex ones, and another number of channels are refused by name."""
    reducer = sp.Moments()
    reducer.update(torch.ones(1, 1), torch.tensor([0]))
    with pytest.raises(sp.ArgumentError, match=message):
        reducer.update(values, torch.arange(len(values)))
