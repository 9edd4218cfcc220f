"""Exemplars: the order, the ties, the positions, against a sort of everything."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spatialprobe as sp


def everything_sorted(values, samples, k):
    """For each channel the best k of (value, sample, position) by plain sorting, and blanks where there are fewer."""
    shape = values.shape[2:]
    rows = []
    for channel in range(values.shape[1]):
        entries = {}
        for row, sample in enumerate(samples):
            for place in torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(shape)).tolist():
                value = values[(row, channel, *place)].item()
                entry = (-value, sample, place)
                if math.isfinite(value) and entry < entries.get(sample, (math.inf,)):
                    entries[sample] = entry
        rows.append(sorted(entries.values())[:k])
    columns = max(len(row) for row in rows)
    blank = (math.nan, -1, [-1] * len(shape))
    rows = [row + [blank] * (columns - len(row)) for row in rows]
    return (
        torch.tensor([[-entry[0] for entry in row] for row in rows], dtype=torch.float64).reshape(len(rows), columns),
        torch.tensor([[entry[1] for entry in row] for row in rows]).long().reshape(len(rows), columns),
        torch.tensor([[entry[2] for entry in row] for row in rows]).long().reshape(len(rows), columns, len(shape)),
    )


def check(result, values, samples, k):
    """The result is the sorted truth, bit by bit."""
    for found, expected in zip(
        (result.values, result.samples, result.positions), everything_sorted(values, samples, k), strict=True
    ):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert torch.equal(found.nan_to_num(7777), expected.nan_to_num(7777))


def exemplars_of(values, samples, k, size):
    """The result after batches of a size."""
    reducer = sp.Exemplars(k)
    for first in range(0, len(values), size):
        reducer.update(values[first : first + size], torch.tensor(samples[first : first + size]))
    return reducer.result()


@pytest.mark.parametrize("k", [1, 3, 9, 50])
@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 6), (2, 2, 3, 2), (4, 1, 1)])
def test_equals_a_sort(k, size, shape):
    """Maps of one to three axes, k below and above the number of samples, in batches of any size."""
    values = torch.randn(40, *shape, generator=torch.Generator().manual_seed(0))
    check(exemplars_of(values, list(range(40)), k, size), values, range(40), k)


@pytest.mark.parametrize("k", [1, 4, 11])
@pytest.mark.parametrize("size", [1, 3, 12])
def test_ties(k, size):
    """Of equal values the lower sample comes first, of one sample the first place; in whatever order they come."""
    values = torch.randint(-1, 2, (12, 3, 2, 3), generator=torch.Generator().manual_seed(k)).float()
    values[:, 2] = 0  # a dead channel: all is tied
    order = torch.randperm(12, generator=torch.Generator().manual_seed(size)).tolist()
    check(exemplars_of(values[order], order, k, size), values, range(12), k)


def test_no_zero_is_stronger_than_another():
    """-0 and 0 are one value."""
    values = torch.tensor([[[-0.0, 0.0]], [[0.0, -0.0]]])
    result = exemplars_of(values, [1, 0], 2, 1)
    assert result.samples.tolist() == [[0, 1]]
    assert result.positions.tolist() == [[[0], [0]]]


def test_a_layer_without_axes():
    """Its units have no position."""
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    result = exemplars_of(values, list(range(6)), 3, 2)
    assert result.positions.shape == (5, 3, 0)
    assert torch.equal(result.values, values.double().T.sort(descending=True).values[:, :3])


def test_more_places_than_samples():
    """The result has a column for each sample, and no more."""
    values = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    result = exemplars_of(values, [5, 2, 9, 7], 9, 3)
    assert result.values.shape == (3, 4)
    check(result, values, [5, 2, 9, 7], 9)


def test_each_sample_once():
    """A layer that runs twice gives each sample two chances, and still one place, with the stronger run's unit."""
    runs = torch.randint(0, 4, (2, 10, 3, 4), generator=torch.Generator().manual_seed(0)).float()
    reducer = sp.Exemplars(4)
    for first in range(0, 10, 5):
        for run in runs:
            reducer.update(run[first : first + 5], torch.arange(first, first + 5))
    check(reducer.result(), torch.cat([*runs]), [*range(10)] * 2, 4)


def test_nonfinite_values_do_not_enter():
    """A sample whose best value is infinite enters with its best finite one, or, if it has none, not at all."""
    values = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    values[0, 0] = torch.nan
    values[1, 0, 0, 1] = torch.inf
    values[2, 1, 1, 1] = torch.nan
    values[:6, 2] = -torch.inf
    for k in (2, 5, 9):
        check(exemplars_of(values, list(range(8)), k, 3), values, range(8), k)


def test_nothing_finite_at_all():
    """No columns then."""
    result = exemplars_of(torch.full((2, 3, 2), torch.nan), [0, 1], 4, 1)
    assert result.values.shape == (3, 0)
    assert result.positions.shape == (3, 0, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32])
def test_other_types(dtype):
    """Values of other types are ordered as they are, float64 without loss."""
    drawn = torch.randn(9, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = (drawn * 10).to(dtype) if dtype is not torch.float64 else 1 + drawn * 1e-12
    check(exemplars_of(values, list(range(9)), 4, 2), values, range(9), 4)


def test_layouts():
    """Views and channels-last maps have their positions in row-major order of the map, not of the memory."""
    values = torch.randint(0, 3, (6, 4, 5, 3), generator=torch.Generator().manual_seed(0)).float()
    for view in (values.to(memory_format=torch.channels_last), values.transpose(2, 3), values[:, ::2, ::2]):
        check(exemplars_of(view, list(range(6)), 3, 4), view, range(6), 3)


@given(st.data())
def test_any_split_order_and_merge_tree(data):
    """The law, to the last bit, on values full of ties."""
    count, k = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    values = torch.randint(-1, 3, (count, 2, 2, 2), generator=generator).double()
    values[values == -1] = data.draw(st.sampled_from([torch.nan, -torch.inf, -1.0]))
    order = data.draw(st.permutations(range(count)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    parts = []
    for first, last in zip([0, *cuts], [*cuts, count], strict=True):
        parts.append(sp.Exemplars(k))
        if last > first:
            parts[-1].update(values[order[first:last]], torch.tensor(order[first:last]))
    while len(parts) > 1:
        one, other = parts.pop(data.draw(st.integers(0, len(parts) - 1))), parts.pop(0)
        one.merge(other)
        parts.append(one)
    check(parts[0].result(), values, range(count), k)


def test_refused():
    """No places, another number of channels or axes."""
    with pytest.raises(sp.ArgumentError, match="k of Exemplars must be at least 1, not 0"):
        sp.Exemplars(0)
    reducer = sp.Exemplars()
    reducer.update(torch.ones(1, 2, 3), torch.tensor([0]))
    with pytest.raises(sp.ArgumentError, match="3 channels after 2"):
        reducer.update(torch.ones(1, 3, 3), torch.tensor([1]))
    with pytest.raises(sp.ArgumentError, match="maps of 2 axes after maps of 1"):
        reducer.update(torch.ones(1, 2, 3, 3), torch.tensor([1]))


def test_map_size():
    """Exemplars know the size of the maps that they come from, and that there were several; merged or not."""

    def swept(*sizes):
        reducer = sp.Exemplars(k=2)
        for number, size in enumerate(sizes):
            reducer.update(torch.rand(1, 1, *size), torch.tensor([number]))
        return reducer

    assert swept((4, 5)).result().map_size == (4, 5)
    assert swept((4, 5), (4, 5)).result().map_size == (4, 5)
    assert swept((4, 5), (5, 4)).result().map_size is None
    assert sp.Exemplars().result().map_size is None
    for first, second, size in [(((4, 5),), ((4, 5),), (4, 5)), (((4, 5),), ((2, 2),), None), ((), ((2, 2),), (2, 2))]:
        merged = swept(*first)
        merged.merge(swept(*second))
        assert merged.result().map_size == size
