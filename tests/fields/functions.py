"""Functions whose fields are held against perturbation, where constants or values decide what is seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import spatialprobe as sp
from fields.perturbation import hulls, seen_alone


class Calls(nn.Module):
    """A function as a model, with tensors of its own: `function(x, **tensors)`."""

    def __init__(self, function, **tensors):
        super().__init__()
        self.function, self.names = function, list(tensors)
        for name, value in tensors.items():
            if isinstance(value, nn.Parameter):
                setattr(self, name, value)
            else:
                self.register_buffer(name, value)

    def forward(self, x, *others):
        return self.function(x, *others, **{name: getattr(self, name) for name in self.names})


def compare_alone(model, shape=(1, 3, 4, 4), *others):
    """The field of a model, whose boxes hold what perturbation shows, and nothing more where it says so.

    In float64 and in the model's own dtype, whose rounding may lose what is small.
    """
    field = sp.receptive_fields(model, (shape, *others) if others else shape)[""]
    with torch.no_grad():
        compare(field, seen_alone(model, shape, *others, dtype=torch.float32))
        compare(field, seen_alone(model.double(), shape, *others))
    return field


def compare(field, changed):
    """Hold the boxes of every channel against (C, *units, *pixels), where a pixel changes a unit."""
    axes = len(field.input_size)
    truth = np.stack([hulls(channel, axes) for channel in changed])
    found = np.stack([field.boxes(channel) for channel in range(len(changed))])
    assert found.shape == truth.shape
    if field.exact:
        assert np.array_equal(found, truth)
    empty = ~truth.any(-1)
    inside = (found[..., :axes] <= truth[..., :axes]) & (truth[..., axes:] <= found[..., axes:])
    assert (inside.all(-1) | empty).all()
