"""Histogram, covariance and dead channels against numpy and plain counting; and the law for all reducers."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spatialprobe as sp
from spatialprobe.statistics.bounds import Bounds
from spatialprobe.testing import check_reducer

SHIPPED = {
    "moments": sp.Moments,
    "histogram": sp.Histogram,
    "histogram of 5": partial(sp.Histogram, bins=5),
    "bounded histogram": partial(sp.Histogram, bins=7, low=-1.0, high=1.5),
    "exemplars": partial(sp.Exemplars, k=3),
    "exemplars of all": partial(sp.Exemplars, k=100),
    "covariance": sp.ChannelCovariance,
    "covariance of 3 units": partial(sp.ChannelCovariance, units=3),
    "dead": sp.Dead,
    "bounds": partial(Bounds, -1.0, 1.0),
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reduced(reducer, values, size=4):
    """The result after batches of a size."""
    for first in range(0, len(values), size):
        batch = values[first : first + size]
        reducer.update(batch, torch.arange(first, first + len(batch)))
    return reducer.result()


def finite(values, channel):
    """The finite values of a channel as float64."""
    flat = values[:, channel].double().numpy().ravel()
    return flat[np.isfinite(flat)]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", ["usual", "dead", "nonfinite", "far", "one unit"])
def test_shipped_reducers_keep_the_law(name, kind):
    """Any split, order and merge tree, on ties, zeros, NaN, large means, layers without axes."""
    values = {
        "usual": None,
        "dead": torch.zeros(8, 2, 3, 3),
        "nonfinite": drawn(12, 3, 2, 4).masked_fill(drawn(12, 3, 2, 4, seed=1) > 1, torch.nan),
        "far": drawn(10, 2, 3, 3).double() + 1e6,
        "one unit": drawn(15, 4),
    }[kind]
    check_reducer(SHIPPED[name], values)


@pytest.mark.parametrize(("bins", "low", "high"), [(1, 0, 1), (10, -1, 2), (64, -0.3, 0.7)])
def test_bounded_histogram_equals_numpy(bins, low, high):
    """Counts and edges are numpy's; what lies outside is counted on its side; NaN and infinities are left out."""
    values = (drawn(10, 3, 4, 5) * 4).round() / 4  # many on the edges
    values[0, 0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0, 1])
    result = reduced(sp.Histogram(bins, low, high), values)
    for channel in range(3):
        numbers = finite(values, channel)
        counts, edges = np.histogram(numbers, bins, (low, high))
        assert np.array_equal(result.edges[channel].numpy(), edges)
        assert result.counts[channel].tolist() == counts.tolist()
        assert result.below[channel] == (numbers < low).sum()
        assert result.above[channel] == (numbers > high).sum()


@pytest.mark.parametrize("bins", [2, 5, 64])
@pytest.mark.parametrize(
    "make",
    [
        lambda v: v,
        lambda v: v * 1e-30,
        lambda v: v * 1e30,
        lambda v: v.abs() + 1000,
        lambda v: -v.relu(),
        lambda v: v.round(),
        lambda v: v.bfloat16(),
        lambda v: torch.where(v > 1, torch.nan, v),
        torch.zeros_like,
    ],
)
def test_histogram_without_bounds(bins, make):
    """All bins of a channel are equally wide, a power of two, at its multiples; each value lies in its own bin."""
    values = make(drawn(9, 3, 4, 4))
    result = reduced(sp.Histogram(bins), values)
    assert not result.below.any()
    assert not result.above.any()
    for channel in range(3):
        numbers, edges = finite(values, channel), result.edges[channel].numpy()
        width = edges[1] - edges[0]
        assert np.frexp(width)[0] == 0.5
        assert np.array_equal(edges, edges[0] + width * np.arange(bins + 1))
        assert np.array_equal(edges / width, np.floor(edges / width))
        expected = [((numbers >= lo) & (numbers < hi)).sum() for lo, hi in itertools.pairwise(edges)]
        assert result.counts[channel].tolist() == expected
        assert sum(expected) == len(numbers)


@given(
    st.lists(st.floats(width=64, allow_nan=True), min_size=1, max_size=30),
    st.integers(2, 9),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_histogram_of_any_numbers(numbers, bins, size, random):
    """Denormals, the largest floats, signs: every finite value is counted once, in any order alike."""
    values = torch.tensor(numbers, dtype=torch.float64)[:, None]
    result = reduced(sp.Histogram(bins), values, size)
    edges, known = result.edges[0].numpy(), values[:, 0].numpy()[np.isfinite(numbers)]
    expected = [((known >= lo) & (known < hi)).sum() for lo, hi in itertools.pairwise(edges)]
    assert result.counts[0].tolist() == expected
    assert result.counts.sum() == len(known)
    random.shuffle(numbers)
    again = reduced(sp.Histogram(bins), torch.tensor(numbers, dtype=torch.float64)[:, None], 3)
    assert torch.equal(result.counts, again.counts)
    assert torch.equal(result.edges, again.edges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0.0}, "takes both bounds or none"),
        ({"bins": 1}, "bins must be at least 2"),
        ({"bins": 0, "low": 0, "high": 1}, "bins must be at least 1"),
        ({"low": 1.0, "high": 1.0}, "two finite numbers, the lower first"),
        ({"low": 0.0, "high": float("inf")}, "two finite numbers, the lower first"),
    ],
)
def test_histogram_arguments(arguments, message):
    """Bounds that are none, and too few bins, are refused."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.Histogram(**arguments)


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6,), (2, 7)])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_covariance_equals_numpy(offset, shape, size):
    """Over all samples and positions, by numpy's own formula on centered values, also a million from zero."""
    values = drawn(20, *shape).double()
    values[:, 1] += values[:, 0]  # something to find
    values += offset
    result = reduced(sp.ChannelCovariance(), values, size)
    observations = values.transpose(0, 1).flatten(1).numpy()
    assert result.count == observations.shape[1]
    assert np.allclose(result.mean, observations.mean(1), rtol=1e-14)
    assert np.allclose(result.covariance, np.cov(observations - offset, bias=True), rtol=1e-8, atol=1e-9)
    assert torch.equal(result.covariance, result.covariance.T)


def test_covariance_of_some_units():
    """With `units`, positions are taken evenly, in an odd step, so that they lie in many columns."""
    values = drawn(5, 3, 8, 8)
    found = reduced(sp.ChannelCovariance(units=12), values)
    taken = values.flatten(2)[:, :, 3::7]
    assert found.count == taken[:, 0].numel() == 45
    assert np.allclose(found.covariance, np.cov(taken.transpose(0, 1).flatten(1), bias=True))
    with pytest.raises(sp.ArgumentError, match="units must be at least 1, not 0"):
        sp.ChannelCovariance(units=0)


def test_bounds():
    """Values within a thousandth of a bound are at it; the lower bound counts only where it is one."""
    values = torch.tensor([[[0.0, 0.0005, 0.5, 0.9995], [0.2, 0.4, 0.6, 1.0]]])
    assert reduced(Bounds(0.0, 1.0), values).share.tolist() == [0.75, 0.25]
    assert reduced(Bounds(None, 1.0), values).share.tolist() == [0.25, 0.25]


def test_covariance_leaves_out_whole_observations():
    """A position with any value that is not finite counts for no channel; without any there is no covariance."""
    values = drawn(6, 3, 4)
    values[0, 1, 2], values[5, 0, 0], values[3, 2, 3] = torch.nan, torch.inf, -torch.inf
    observations = values.double().transpose(0, 1).flatten(1).numpy()
    observations = observations[:, np.isfinite(observations).all(axis=0)]
    result = reduced(sp.ChannelCovariance(), values)
    assert result.count == observations.shape[1] == 21
    assert np.allclose(result.covariance, np.cov(observations, bias=True))
    nothing = reduced(sp.ChannelCovariance(), torch.full((2, 3), torch.nan))
    assert nothing.count == 0
    assert bool(nothing.covariance.isnan().all())


def test_dead_equals_counting():
    """Samples with a value above zero; NaN is not above anything."""
    values = drawn(30, 5, 2, 2) - 1
    values[:, 2] = -1
    values[:, 3] = 0
    values[0, 4, 0, 0] = torch.nan
    result = reduced(sp.Dead(), values)
    fired = [sum(bool((sample[channel] > 0).any()) for sample in values) for channel in range(5)]
    assert result.fired.tolist() == fired
    assert result.dead.tolist() == [count == 0 for count in fired]
    assert result.dead.tolist()[2:4] == [True, True]


def test_dead_counts_a_sample_once():
    """Two runs of a layer on the same samples count each once, if either is above zero."""
    reducer = sp.Dead()
    for first in (0, 2):
        for run in ([[1.0, -1.0], [0.0, -1.0]], [[1.0, -1.0], [3.0, 0.0]]):
            reducer.update(torch.tensor(run), torch.arange(first, first + 2))
    assert reducer.result().fired.tolist() == [4, 0]


@pytest.mark.parametrize("name", SHIPPED)
def test_empty_batches_and_empty_others(name):
    """A batch of no samples and a reducer that saw nothing add nothing; and a result with nothing is no error."""
    reducer = SHIPPED[name]()
    reducer.result()
    reducer.update(torch.empty(0, 3, 2, 2), torch.arange(0))
    reducer.merge(SHIPPED[name]())
    reducer.update(drawn(4, 3, 2, 2), torch.arange(4))
    reducer.merge(SHIPPED[name]())
    expected = SHIPPED[name]()
    expected.update(drawn(4, 3, 2, 2), torch.arange(4))
    for mine, theirs in zip(vars(reducer.result()).values(), vars(expected.result()).values(), strict=True):
        assert torch.equal(torch.as_tensor(mine).nan_to_num(), torch.as_tensor(theirs).nan_to_num())


class Broken:
    """The largest value of each channel, with one fault."""

    fault = ""

    def __init__(self):
        self.largest, self.batches, self.given = None, 0, None

    def update(self, activation, samples):
        if self.fault == "writes":
            activation.relu_()
        if self.fault == "keeps":
            self.given = activation
        self._take(activation.flatten(2).amax((0, 2)))
        self.batches += 1

    def _take(self, largest):
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)

    def merge(self, other):
        if other.largest is not None and self.fault != "forgets":
            self._take(other.largest)
        if self.fault == "empties" and other.largest is not None:
            other.largest = torch.zeros_like(other.largest)

    def result(self):
        if self.fault == "counts batches":
            return {"largest": self.largest, "batches": self.batches}
        if self.fault == "result changes":
            self.batches += 1
            return self.batches
        return self.given.clone() if self.fault == "keeps" else self.largest

    def __reduce__(self):
        if self.fault == "cannot be pickled":
            raise TypeError("no")
        return super().__reduce__()


def test_a_reducer_of_ones_own_passes():
    """Three methods are enough."""
    check_reducer(Broken)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("writes", "modified the activation in place"),
        ("keeps", "After the activation was modified in place"),
        ("forgets", "With the samples split into .* returns another result"),
        ("empties", "modified the other"),
        ("counts batches", r"the result\['batches'\] is"),
        ("result changes", "A second call of result"),
        ("cannot be pickled", "cannot be written and read back, .*: TypeError: no"),
    ],
)
def test_check_reducer_sees_each_fault(fault, message, monkeypatch):
    """What breaks the law is found, and the message says how."""
    monkeypatch.setattr(Broken, "fault", fault)
    with pytest.raises(AssertionError, match=message):
        check_reducer(Broken)


def test_check_reducer_wants_a_factory():
    """An instance is no factory."""
    with pytest.raises(sp.ArgumentError, match="cannot be called"):
        check_reducer(sp.Moments())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sp.Exemplars(3), sp.Exemplars(1)),
        (sp.Exemplars(3), sp.Moments()),
        (sp.Histogram(8), sp.Histogram(16)),
        (sp.Histogram(8, low=0, high=1), sp.Histogram(8, low=0, high=2)),
        (sp.Histogram(8), sp.Histogram(8, low=0, high=2)),
        (sp.Histogram(8), sp.Dead()),
    ],
)
def test_what_cannot_be_merged(one, other):
    """Reducers with other parameters, or of another class, are refused before anything changes."""
    with pytest.raises(sp.ArgumentError, match="merges? only"):
        one.merge(other)


@given(st.integers(0, 100))
def test_bins_of_a_channel_of_zeros(seed):
    """Zeros lie in bins as fine as the finest of the others, in whatever order the values come."""
    values = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1e-3, 0.0, 1.0, 100.0])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    whole, parts = sp.Histogram(bins=8), [sp.Histogram(bins=8) for _ in range(3)]
    whole.update(values, torch.arange(12))
    for part, rows in zip(parts, order.split(4), strict=True):
        part.update(values[rows], rows)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    result, merged = whole.result(), parts[0].result()
    assert torch.equal(result.edges, merged.edges)
    assert torch.equal(result.counts, merged.counts)
    widths = result.edges.diff(dim=1)[:, 0]
    assert widths[1] == min(widths[0], widths[2], widths[3])
    assert result.edges[1, 0] == 0
    assert result.counts[1].tolist() == [12, *[0] * 7]
