"""Pixel permutations: bijections that can be undone, and to a fully connected network no change at all."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from simple_cnn import MLP
from torch import nn

import spatialprobe as sp
from spatialprobe.evidence import PixelPermutation


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32), leading=st.integers(0, 3))
def test_is_a_bijection_that_can_be_undone(height, width, seed, leading):
    """Every pixel goes to one place, the same in all images and colors, and comes back."""
    permutation = PixelPermutation(height, width, seed=seed)
    images = torch.arange(2**leading * height * width).reshape(*[2] * leading, height, width)
    moved = permutation(images)
    assert moved.shape == images.shape
    assert torch.equal(permutation.inverse(moved), images)
    assert torch.equal(permutation(permutation.inverse(images)), images)
    assert permutation.inverse.inverse == permutation
    flat = moved.reshape(-1, height * width)
    assert torch.equal(flat - flat[:, :1], (flat - flat[:, :1])[:1].expand_as(flat))
    assert sorted(flat[0].tolist()) == list(range(height * width))


def test_is_fixed_by_its_seed_alone():
    """Equal arguments, equal order, also after pickling; another seed, another; the program's own seed is let be."""
    images = torch.rand(2, 3, 32, 32)
    state = torch.get_rng_state()
    first = PixelPermutation(32, 32, seed=7)
    moved = first(images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(pickle.loads(pickle.dumps(first))(images), moved)
    assert torch.equal(PixelPermutation(32, 32, seed=7)(images), moved)
    assert not torch.equal(PixelPermutation(32, 32, seed=8)(images), moved)
    assert PixelPermutation(32, 32).seed == 0


def test_keeps_dtype():
    """Bytes stay bytes, numbers keep their dtype, and every value is kept."""
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    moved = PixelPermutation(8, 8)(images)
    assert moved.dtype == torch.uint8
    assert torch.equal(moved.flatten(2).sort().values, images.flatten(2).sort().values)


def permuted_along(model, permutation):
    """The network with its first weights in the order of the permuted pixels."""
    changed = copy.deepcopy(model)
    weight = changed.fc1.weight.data
    weight.copy_(permutation(weight.reshape(-1, 3, 32, 32)).reshape(weight.shape))
    return changed


def test_fully_connected_network_computes_the_same_to_the_last_bit():
    """With its first weights permuted along, an MLP is the same function: exact where sums do not round."""
    permutation, model = PixelPermutation(32, 32, seed=3), MLP().double()
    for parameter in model.parameters():
        parameter.data = (parameter.data * 1000).round()
    images = torch.randint(0, 256, (4, 3, 32, 32)).double()  # halves, once centered
    assert torch.equal(permuted_along(model, permutation)(permutation(images)), model(images))


def test_fully_connected_network_learns_the_same():
    """Trained on permuted pixels from permuted weights it stays the same function: the problem is the same problem."""
    permutation, model = PixelPermutation(32, 32, seed=3), MLP().double()
    other = permuted_along(model, permutation)
    images, labels = torch.rand(32, 3, 32, 32, dtype=torch.float64), torch.arange(32) % 10
    for network, shown in ((model, images), (other, permutation(images))):
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(shown), labels).backward()
            optimizer.step()
    assert torch.allclose(other(permutation(images)), model(images), atol=1e-6)
    assert torch.allclose(permuted_along(model, permutation).fc1.weight, other.fc1.weight, atol=1e-6)


def test_convolution_is_not_the_same():
    """To a convolution permuted pixels are another problem, whatever is done to its taps."""
    conv, permutation, images = nn.Conv2d(1, 1, 3), PixelPermutation(8, 8), torch.rand(1, 1, 8, 8)
    assert not torch.allclose(conv(permutation(images)).sort().values, conv(images).sort().values)


@pytest.mark.parametrize("shape", [(32,), (32, 31), (3, 32, 32, 1)], ids=["one axis", "another size", "channels last"])
def test_other_sizes_are_refused(shape):
    """Images of another size are not silently rearranged."""
    with pytest.raises(sp.ArgumentError, match="32 x 32 pixels"):
        PixelPermutation(32, 32)(torch.zeros(shape))
    with pytest.raises(sp.ArgumentError, match="at least 1"):
        PixelPermutation(0, 4)
