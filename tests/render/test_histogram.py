"""How values are distributed: the counts against numpy's on the plain values, and what the picture says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from stand_ins import Histogram
from torch import nn

import spatialprobe as sp


def record_of(tensor):
    return sp.capture(nn.Identity(), tensor, layers="")[""]


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, np.nan, np.inf]),
    ),
    st.integers(1, 20),
)
def test_every_value_is_counted_once(values, bins):
    """Each value is in one bin of its channel, or among those that are not finite; and in the right bin."""
    found = sp.activation_histogram(record_of(torch.tensor(values)), bins=bins)
    for channel in range(values.shape[1]):
        own = values[:, channel].ravel().astype(np.float64)
        finite = own[np.isfinite(own)]
        assert found.counts[channel].sum() == len(finite)
        assert found.nonfinite[channel] == len(own) - len(finite)
        assert found.zeros[channel] == (own == 0).sum()
        inner = np.searchsorted(found.edges[1:-1], finite, side="right")
        assert np.array_equal(np.bincount(inner, minlength=bins), found.counts[channel])
    assert (found.shares.sum(axis=1) <= 1 + 1e-12).all()


def test_span_and_channels():
    """What lies beyond a given span is counted apart; channels come in the order asked for."""
    values = torch.tensor([[0.0, 1, 2, 9], [5, 5, 5, 5]])[None]
    found = sp.activation_histogram(record_of(values), channels=[1, 0], bins=2, span=(0, 4))
    assert found.counts.tolist() == [[0, 0], [2, 1]]
    assert found.outside.tolist() == [4, 1]
    assert "62.50% of the values lie beyond the bins." in found.caption
    assert found.metadata["Channels"] == "1 0"


def test_words():
    """Zeros, dead channels and values that are not finite are told."""
    values = torch.ones(2, 4, 3, 3)
    values[:, 0] = 0
    values[0, 1, 0, 0] = float("nan")
    words = sp.activation_histogram(record_of(values)).caption
    assert words.startswith("4 of 4 channels, 18 values each.")
    assert "25.0% of the values are exactly zero. 1 dead channel (zero everywhere)." in words
    assert "1 values are not finite, and in no bin." in words
    assert sp.activation_histogram(record_of(values), channels=[2]).caption.startswith("1 of 4 channels")


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(1, 3, 2, 2),
        torch.full((1, 2, 2, 2), float("nan")),
        torch.rand(2, 5),
        torch.randint(0, 255, (1, 3, 4, 4), dtype=torch.uint8),
        torch.rand(1, 700, 2, 2).bfloat16(),
        torch.tensor([[1e30, -1e30]]),
        torch.full((1, 2, 3), 3e38),
        torch.tensor([[1.0, 1.0 + 2e-16]], dtype=torch.float64),
    ],
)
def test_pictures(values, tmp_path):
    """Whatever the values, there is a picture, and its file explains itself."""
    found = sp.activation_histogram(record_of(values))
    assert found.array.dtype == np.uint8
    assert found.array.flags.c_contiguous
    path = found.with_source("drawn values").save(tmp_path / "histogram.png")
    image = Image.open(path)
    assert image.size == found.array.shape[1::-1]
    assert {"Title", "Description", "Layer", "Channels", "Scale", "Value range", "Source"} <= set(image.text)
    assert Image.open(path).text["Title"].endswith(": drawn values")
    assert found._repr_png_()[:4] == b"\x89PNG"


def swept(values, exponents, bins=8):
    """The histogram of values (C, M) in bins of width 2**exponent for each channel, as a sweep makes it."""
    starts = [np.floor(row.min() / 2.0**e) for row, e in zip(values, exponents, strict=True)]
    edges = [(s + np.arange(bins + 1)) * 2.0**e for s, e in zip(starts, exponents, strict=True)]
    counts = [np.histogram(row, edge)[0] for row, edge in zip(values, edges, strict=True)]
    assert np.sum(counts) == values.size
    none = torch.zeros(len(values), dtype=torch.int64)
    return Histogram(torch.tensor(np.array(counts)), torch.tensor(np.array(edges)), none, none)


@given(st.integers(0, 1000))
def test_histograms_of_a_sweep(seed):
    """Channels whose bins differ are counted into those of the coarsest, exactly as if counted from the values."""
    exponents = [-3, 0, 1]
    generator = np.random.default_rng(seed)
    values = np.stack([generator.uniform(-3, 3, 50) * 2.0**e for e in exponents])
    found = sp.activation_histogram(swept(values, exponents))
    assert found.edges[1] - found.edges[0] == 2
    for row, counts in zip(values, found.counts, strict=True):
        assert np.array_equal(np.histogram(row, found.edges)[0], counts)
    assert found.counts.sum() == values.size


@pytest.mark.parametrize("constant", [0.0, 0.3, -7.0, 5.0, 1000.0, 1e6, 1e-9, 1e30])
@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_a_dead_or_constant_channel_beside_others(constant, spread):
    """Beside a channel of one value, zero or another, the others are drawn in bins that numpy counts alike."""
    values = torch.randn(200, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * spread
    values[:, 1] = constant
    reducer = sp.Histogram()
    reducer.update(values, torch.arange(200))
    found = sp.activation_histogram(reducer.result())
    rows = values.transpose(0, 1).flatten(1).double().numpy()
    for row, counts in zip(rows, found.counts, strict=True):
        assert np.array_equal(np.histogram(row, found.edges)[0], counts)
    assert found.counts.sum() + found.outside.sum() == rows.size
    assert 16 <= found.counts.shape[1] <= 256
    if abs(constant) < spread:
        assert (found.counts[0] > 0).sum() > 16


@pytest.mark.parametrize("constants", [(0.0,), (0.0, 0.0), (0.7,), (0.0, 0.7), (0.7, 0.7000001), (5.0, -5.0)])
def test_constant_channels_alone(constants):
    """Channels of one value each are drawn as lines, not as one block."""
    reducer = sp.Histogram()
    reducer.update(torch.tensor([constants] * 7), torch.arange(7))
    found = sp.activation_histogram(reducer.result())
    assert found.counts.shape[1] >= 16
    assert found.counts.max(axis=1).tolist() == [7] * len(constants)
    for value, counts in zip(torch.tensor(constants).double().tolist(), found.counts, strict=True):
        place = int(counts.argmax())
        assert found.edges[place] <= value < found.edges[place + 1]


def test_bounded_histograms_of_a_sweep():
    """Bins that all channels share are drawn as they are; what lies outside them is told."""
    edges = torch.linspace(0, 1, 5).repeat(3, 1)
    counts = torch.arange(12).reshape(3, 4)
    histogram = Histogram(counts, edges, torch.tensor([1, 0, 0]), torch.tensor([0, 0, 2]))
    found = sp.activation_histogram(histogram, channels=[2, 0])
    assert found.counts.tolist() == counts[[2, 0]].tolist()
    assert found.outside.tolist() == [2, 1]
    assert found.zeros is None
    assert found.caption.startswith("2 of 3 channels, 7 to 40 values each.")
    assert "exactly zero" not in found.caption
    assert found.with_source("conv1").title.endswith(": conv1")
    assert len(found.figure().axes) == 3


def test_bins_that_do_not_nest():
    """Channels whose bins overlap cannot be drawn together, and the message says what to do."""
    edges = torch.tensor([[0.0, 2, 4], [0.0, 3, 6]])
    none = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(sp.ArgumentError, match="do not lie within each other"):
        sp.activation_histogram(Histogram(torch.ones(2, 2, dtype=torch.int64), edges, none, none))


def test_figure():
    """One curve and one row a channel, whatever their number: two axes and a color bar."""
    found = sp.activation_histogram(record_of(torch.randn(2, 6, 5, 5)))
    figure = found.figure("mine")
    assert len(figure.axes) == 3
    assert figure.texts[0].get_text() == "mine"
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == list("012345")
    many = sp.activation_histogram(record_of(torch.randn(1, 512, 2, 2))).figure()
    assert [label.get_text() for label in many.axes[1].get_yticklabels()][:3] == ["0", "20", "40"]


def test_single_image_without_a_batch():
    """A conv that was given (C, H, W) has its channels first."""
    found = sp.activation_histogram(sp.capture(nn.Conv2d(3, 5, 3), torch.rand(3, 8, 8))[""])
    assert found.counts.shape[0] == 5
    assert found.caption.startswith("5 of 5 channels, 36 values each")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.rand(3), {}, "a histogram needs real values"),
        (torch.rand(0, 3), {}, "a histogram needs real values"),
        (torch.rand(1, 3).to(torch.complex64), {}, "a histogram needs real values"),
        (torch.rand(1, 3), {"channels": [3]}, "has channels 0 to 2, not 3"),
        (torch.rand(1, 3), {"bins": 0}, "bins must be at least 1"),
        (torch.rand(1, 3), {"span": (1, 1)}, "span=.* needs two finite numbers"),
    ],
)
def test_bad_arguments(values, options, message):
    """What has no distribution is refused."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.activation_histogram(record_of(values), **options)


def test_what_has_no_counts():
    """A bare tensor is refused, with what is taken."""
    with pytest.raises(sp.ArgumentError, match="takes a record, .* not a Tensor"):
        sp.activation_histogram(torch.rand(1, 3, 4, 4))


def test_a_swept_layer_is_named():
    """The picture of a sweep's histogram says whose values it counts."""
    found = sp.sweep(nn.Conv2d(3, 5, 3), torch.rand(4, 3, 8, 8), {"all": sp.Histogram}, progress=False)[""]["all"]
    assert sp.activation_histogram(found).title.startswith("A layer, over a data set")
    found = sp.sweep(nn.Sequential(nn.Conv2d(3, 5, 3)), torch.rand(4, 3, 8, 8), {"all": sp.Histogram}, progress=False)
    assert sp.activation_histogram(found["0"]["all"]).title.startswith("0, over a data set")
    assert sp.activation_histogram(found["0"]["all"]).metadata["Layer"] == "0"


@pytest.mark.parametrize("options", [{"bins": 5}, {"span": (0, 1)}])
def test_what_was_counted_is_not_counted_again(options):
    """Bins of its own are what a swept histogram has: others cannot be asked for."""
    result = sp.sweep(nn.Conv2d(1, 2, 1), torch.rand(3, 1, 4, 4), {"h": sp.Histogram}, progress=False)[""]["h"]
    with pytest.raises(sp.ArgumentError, match="bins=, span= and layout= are for records"):
        sp.activation_histogram(result, **options)


@pytest.mark.parametrize("far", [1e4, -3e7])
def test_a_far_constant_channel_does_not_make_one_block_of_the_others(far):
    """Bins are those of the channels that vary; what lies far beyond them is counted and stated, nothing is lost."""
    values = torch.randn(20, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    values[:, 2], values[:, 3] = far, 0
    reducer = sp.Histogram()
    reducer.update(values, torch.arange(20))
    histogram = sp.activation_histogram(reducer.result())
    assert (histogram.counts[[0, 1, 4]] > 0).sum(axis=1).min() > 15
    assert histogram.outside.tolist() == [0, 0, 720, 0, 0]
    assert (histogram.counts.sum(axis=1) + histogram.outside).tolist() == [720] * 5
    assert "20.00% of the values lie beyond the bins." in histogram.caption
    alone = sp.activation_histogram(reducer.result(), channels=[2])
    assert alone.counts.sum() == 720
