"""The trained network and the photo that ship: they work without a network, mean something, and change nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from train_pattern_network import accuracy, dead_channels, main, train

import spatialprobe as sp
from spatialprobe.errors import ArgumentError
from spatialprobe.examples import CLASSES, draw_patterns, load_network, load_photo
from spatialprobe.examples.network import WEIGHTS


def test_the_network_has_learned_the_patterns():
    """Most held-out patterns are recognized, and on them no channel is dead."""
    network = load_network()
    assert accuracy(network) > 0.95
    assert not any(dead_channels(network).values())
    assert not network.training


def test_the_photo_reaches_every_channel_of_the_first_layers():
    """On the photo, no map of the layers that the pictures show is empty."""
    records = sp.capture(load_network(), load_photo()[None], layers=["conv1", "conv2"], at="post_activation")
    assert all((record.tensor.amax((0, 2, 3)) > 0).all() for record in records.values())


def test_loading_draws_no_random_number_and_shares_nothing():
    """The random state stays, and what is done to one network is not seen in the next."""
    state = torch.get_rng_state()
    one, other = load_network(), load_network()
    assert torch.equal(torch.get_rng_state(), state)
    one.conv1.weight.data.zero_()
    assert other.conv1.weight.any()


def test_the_photo_is_one():
    """A square in color, with the blue ground on the right and the red of the flag on the left."""
    photo = load_photo(128)
    assert photo.shape == (3, 128, 128)
    assert photo.dtype == torch.float32
    assert photo.min() >= 0
    assert photo.max() <= 1
    assert photo[:, :10, -10:].mean((1, 2)).argmax() == 2
    assert photo.std() > 0.2


@pytest.mark.parametrize("size", [7, 513, 64.5, "large"])
def test_a_wrong_size_of_the_photo_is_refused(size):
    """The message names the argument."""
    with pytest.raises(ArgumentError, match="size"):
        load_photo(size)


def test_patterns_are_balanced_and_reproducible():
    """As many of each class, the same for the same seed, in the range that networks take."""
    images, labels = draw_patterns(30, seed=3)
    again, _ = draw_patterns(30, seed=3)
    assert torch.equal(images, again)
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.array_equal(labels.bincount(), [3] * len(CLASSES))


@pytest.mark.parametrize(("name", "value"), [("count", 0), ("seed", -1), ("size", 7), ("size", 257)])
def test_wrong_arguments_of_patterns_are_refused(name, value):
    """The message names the argument."""
    with pytest.raises(ArgumentError, match=name):
        draw_patterns(**{"count": 10, name: value})


def test_the_weights_are_small():
    """They weigh little beside the library itself."""
    assert WEIGHTS.stat().st_size < 500_000


def test_the_script_trains_and_writes(tmp_path, monkeypatch, capsys):
    """One short epoch gives a network in evaluation mode; the script writes the file that it is told to write."""
    monkeypatch.setattr("train_pattern_network.IMAGES", 100)
    network = train(epochs=1)
    assert not network.training
    monkeypatch.setattr(sys, "argv", ["train_pattern_network.py", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "--out" in capsys.readouterr().out
