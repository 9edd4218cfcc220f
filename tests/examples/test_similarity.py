"""The study's matrices of similarity: a row a layer of the one network, a column a layer of the other."""

from __future__ import annotations

import torch
from experiments import similarity
from simple_cnn import SimpleCNN


def test_a_network_resembles_itself_most():
    """The diagonal of a network with itself is 1 and its matrix symmetric; with another network it is less."""
    torch.manual_seed(0)
    one, other, images = SimpleCNN().eval(), SimpleCNN().eval(), torch.rand(24, 3, 32, 32)
    found = similarity.matrices(one, {"itself": one, "other": other}, images)
    for row in similarity.LAYERS:
        assert abs(found["itself"][row][row] - 1) < 1e-5
        assert found["other"][row][row] < 0.999
        for column in similarity.LAYERS:
            assert abs(found["itself"][row][column] - found["itself"][column][row]) < 1e-5
