"""Writes that no version counter sees, as the page on trust lists them: right with `copy="always"`."""

from __future__ import annotations

import ctypes

import pytest
import torch
from odd_tensors import Wrapper
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def through_set(tensor):
    """Fill a tensor that was given the memory of another."""
    torch.empty(0).set_(tensor.untyped_storage(), 0, tensor.size(), tensor.stride()).zero_()


def through_a_kernel(tensor):
    """Fill memory at its address, as a kernel does that torch knows nothing of."""
    ctypes.memset(tensor.data_ptr(), 0, tensor.numel() * tensor.element_size())


def preserving(tensor):
    """Fill a tensor while torch puts the counter back."""
    with torch.autograd._unsafe_preserve_version_counter(tensor):
        tensor.zero_()


UNSEEN = {
    "data": lambda tensor: tensor.data.zero_(),
    "numpy": lambda tensor: tensor.detach().numpy().fill(0),
    "DLPack": lambda tensor: torch.from_dlpack(tensor.detach()).zero_(),
    "unsafe_split": lambda tensor: [part.zero_() for part in tensor.unsafe_split(1)],
    "unsafe_chunk": lambda tensor: [part.zero_() for part in tensor.unsafe_chunk(2)],
    "untyped_storage": lambda tensor: tensor.untyped_storage().fill_(0),
    "set_": through_set,
    "a kernel": through_a_kernel,
    "a kept counter": preserving,
}
SEEN = {
    "in place": lambda tensor: tensor.zero_(),
    "view": lambda tensor: tensor[:, 0].zero_(),
    "split": lambda tensor: [part.zero_() for part in tensor.split(1)],
    "detach": lambda tensor: tensor.detach().zero_(),
    "copy_": lambda tensor: tensor.copy_(torch.zeros(())),
    "out": lambda tensor: torch.mul(tensor, 0, out=tensor),
}


class Spoils(nn.Module):
    """A convolution whose output is written to once it has been used."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.spoil = lambda tensor: None

    def forward(self, x):
        y = self.conv(x)
        used = y.sum()
        self.spoil(y)
        return used


def recorded(write, copy):
    """The record of a pass that is shared where it can be, after one that left its output alone; and the truth."""
    model = Spoils()
    with torch.no_grad(), sp.Probe(model, "conv", copy=copy) as probe:
        for _ in range(2):
            model(IMAGES)
        model.spoil = write
        model(IMAGES)
        truth = model.conv(IMAGES)
    return probe.records[2], truth


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_writes_need_a_copy(name):
    """With `copy="always"` each record is right; shared ones show what was written, which is why the page says so."""
    record, truth = recorded(UNSEEN[name], "always")
    assert torch.equal(record.tensor, truth)
    record, truth = recorded(UNSEEN[name], "auto")
    assert not torch.equal(record.tensor, truth)


@pytest.mark.parametrize("name", SEEN)
def test_other_writes_are_seen(name):
    """Writes that torch's operators declare, through whatever view, are errors in a shared record."""
    record, _ = recorded(SEEN[name], "auto")
    with pytest.raises(sp.MutatedActivationError):
        record.tensor  # noqa: B018


def test_wrapper_subclasses_are_always_copied():
    """What writes to the tensors inside a wrapper is seen by no counter of its own: such outputs are never shared."""

    class Wraps(nn.Module):
        def forward(self, x):
            return Wrapper(x * 1)

    model = nn.Sequential(Wraps())
    with torch.no_grad(), sp.Probe(model, "0") as probe:
        for _ in range(3):
            model(IMAGES).inside.zero_()
    for record in probe.records:
        assert torch.equal(record.tensor.inside, IMAGES)
