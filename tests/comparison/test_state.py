"""Comparisons that are interrupted, shared among processes, saved and loaded: the same result, and nothing foreign."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from sweeps import together
from torch import nn

import spatialprobe as sp
from spatialprobe.comparison.state import ComparisonFormat, ComparisonState, PairState


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))


def images(count=50):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def compared(data=None, other=1, **options):
    options = {"progress": False, "batch_size": 8} | options
    return sp.compare(network(0), network(other), images() if data is None else data, **options)


def assert_equal(found, expected, exactly=True):
    """The same numbers, to the last bit or to rounding."""
    near = 0 if exactly else 1e-9
    assert (found.layers, found.other_layers, found.n) == (expected.layers, expected.other_layers, expected.n)
    for name in ("cka", "standard_error"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), rtol=near, atol=near, equal_nan=True)
    assert list(found) == list(expected)
    for layer, one in expected.items():
        for field in fields(one):
            mine, theirs = getattr(found[layer], field.name), getattr(one, field.name)
            same = torch.allclose(mine, theirs, rtol=near, atol=near) if torch.is_tensor(mine) else mine == theirs
            assert same, (layer, field.name)
    assert len(found.changed) == len(expected.changed)
    for mine, theirs in zip(found.changed, expected.changed, strict=True):
        assert (mine.layer, mine.channel) == (theirs.layer, theirs.channel)
        assert torch.equal(mine.one, theirs.one)
        assert torch.equal(mine.other, theirs.other)


class Ends(Exception):
    """An end in the middle."""


class Interrupted(torch.utils.data.Dataset):
    """Images, of which one that is read late raises as long as `ends`."""

    ends = True
    late = int(torch.randperm(50, generator=torch.Generator().manual_seed(0))[42])

    def __len__(self):
        return 50

    def __getitem__(self, index):
        if self.ends and index == self.late:
            raise Ends
        return images()[index]


def test_an_interrupted_comparison_continues(tmp_path):
    """A comparison that ended at an error continues to the same bits, and a finished one is read."""
    data, path = Interrupted(), tmp_path / "comparison.state"
    expected = compared()
    with pytest.raises(sp.SweepError, match=f"sample {data.late}"):
        compared(data, checkpoint=path, checkpoint_seconds=0)
    data.ends = False
    held = path.read_bytes()
    assert b'"finished": false' in held
    assert b'"batches": 0' not in held
    for _ in range(2):
        assert_equal(compared(data, checkpoint=path), expected)
    assert b'"finished": true' in path.read_bytes()


def test_a_checkpoint_of_another_comparison_is_refused(tmp_path):
    """Other weights on either side, other data, layers, batches or order are named."""
    path = tmp_path / "comparison.state"
    compared(checkpoint=path)
    wrong = {
        "the other models": {"other": 2},
        "the data": {"data": images(48)},
        "the layers": {"layers": "0"},
        "batch_size=": {"batch_size": 16},
        "seed=": {"seed": 5},
    }
    for words, options in wrong.items():
        with pytest.raises(sp.StorageError, match=f"is of another sweep: different are .*{words}"):
            compared(checkpoint=path, **options)
    with pytest.raises(sp.StorageError, match="is of another sweep"):
        sp.sweep(network(0), images(), [sp.Dead], checkpoint=path, progress=False)


def test_a_state_holds_nothing_foreign():
    """Bytes that hold another object, or the sums of other layers, are refused."""
    form = ComparisonFormat(ComparisonState([PairState.of(["a", "b"], ["b"])]))
    state = form.loads(form.dumps(ComparisonState([PairState.of(["a", "b"], ["b"])])))
    assert list(state.pairs[0].channels) == ["b"]
    other = ComparisonFormat(ComparisonState([PairState.of(["a"], ["a"])]))
    with pytest.raises(sp.StorageError, match="does not hold the sums of this comparison"):
        form.loads(other.dumps(ComparisonState([PairState.of(["a"], ["a"])])))
    with pytest.raises(sp.StorageError):
        form.loads(pickle.dumps(print))


def shared(folder):
    """Return the comparison of this process's share, and that with an iterable of its own."""
    return compared(images(51)), compared([part.clone() for part in images(32).split(8)])


def test_processes_share_a_comparison(tmp_path):
    """Two processes return the same merged result, that of one process but for the order of sums."""
    (first, stream), (second, other_stream) = together(shared, tmp_path, 2)
    assert_equal(first, second)
    assert_equal(first, compared(images(51)), exactly=False)
    assert_equal(stream, other_stream)
    assert stream.n == 64
    assert not stream.changed


def wrong(folder):
    import os

    return compared(other=int(os.environ["RANK"]))


def test_processes_with_other_models_fail_together(tmp_path):
    """All processes raise the same error where one was given another model to compare with."""
    for kind, text in together(wrong, tmp_path, 2):
        assert kind == "SweepError"
        assert "Rank 1 differs from rank 0 in the weights of model 1" in text


def test_saved_and_loaded(tmp_path):
    """A file holds the whole comparison, bit by bit; a file of another kind, or a damaged one, is refused."""
    found = compared()
    path = found.save(tmp_path / "found.safetensors")
    loaded = sp.Comparison.load(path)
    assert_equal(loaded, found)
    assert repr(loaded) == repr(found)
    assert loaded.changed[0].drift == found.changed[0].drift
    with pytest.raises(sp.ArgumentError, match="writes a safetensors file"):
        found.save(tmp_path / "found.json")
    with pytest.raises(sp.StorageError):
        sp.SweepResult.load(path)
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(sp.StorageError, match="damaged"):
        sp.Comparison.load(path)


def test_written_out():
    """The table says each layer's similarity, its nearest layer and its largest drift; in a notebook too."""
    found = compared()
    rows = repr(found).splitlines()
    assert rows[0] == "Comparison of Sequential with Sequential: 50 samples, 2 and 2 layers"
    assert rows[1].split() == "layer CKA ± most like CKA channels correlation largest drift".split()  # noqa: SIM905
    _, channel, drift = found.most_changed(1)[0]
    assert f"{drift:.3g} of channel {channel}" in repr(found)
    assert "<table" in found._repr_html_()
    assert "ChannelComparison of layer &#x27;2&#x27;" in found["2"]._repr_html_()
    assert repr(found["2"]).startswith("ChannelComparison('2', 5 channels, mean correlation ")


def test_maps_of_what_changed_most_are_those_of_the_models():
    """The maps kept for the picture are the live values of both models on one sample of the data."""
    found = compared()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for one in found.changed:
        for seed, kept in ((0, one.one), (1, one.other)):
            with torch.no_grad():
                record = sp.capture(network(seed), images()[order[:1]])[one.layer]
            assert torch.allclose(kept, record.tensor[0, one.channel], atol=1e-5)
    assert [(one.layer, one.channel) for one in found.changed] == [entry[:2] for entry in found.most_changed(8)]


def test_the_picture_shows_what_was_found():
    """The figure holds the similarities, the names of layers, and the drift of the channels that changed most."""
    found = compared()
    figure = found.figure()
    matrix, *tiles = [axes for axes in figure.axes if axes.get_images()]
    assert np.allclose(matrix.get_images()[0].get_array(), found.cka.numpy())
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["0", "2"]
    written = " ".join(text.get_text() for text in figure.texts)
    layer, channel, drift = found.most_changed(1)[0]
    assert f"layer {layer}, channel {channel}: drift {drift:.2f}" in written or f"channel {channel}: drift" in written
    assert len(tiles) == 3 * 3
    assert "Sequential beside Sequential, 50 samples" in written
    assert "Left behind" in " ".join(text.get_text() for text in found.figure(title="Left behind").texts)
    without = compared([part.clone() for part in images(32).split(8)]).figure(width=7)
    assert without.get_size_inches()[0] == 7


def test_wrong_pictures():
    """A title that is no text and lengths out of range are errors."""
    found = compared()
    for options in ({"title": 3}, {"width": 0}, {"dpi": -1}):
        with pytest.raises(sp.ArgumentError, match=next(iter(options))):
            found.figure(**options)
