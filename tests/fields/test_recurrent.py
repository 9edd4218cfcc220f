"""Recurrent layers, followed as one operator: each step sees those before it, backwards those after it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from fields.perturbation import hulls, seen_alone
from spatialprobe.fields.recurrent import RecurrentLayers

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Sequence(nn.Module):
    """A convolution, a recurrent layer, and a look at all that it returns."""

    def __init__(self, kind, *, bidirectional=False, batch_first=True, layers=2, reads=False, **options):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(2, 3, 3, stride=2)
        self.rnn = kind(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first, **options)
        self.steps, self.last, self.cells = nn.Identity(), nn.Identity(), nn.Identity()
        self.reads = reads

    def results(self, x):
        tokens = self.conv(x).permute(0, 2, 1) if self.rnn.batch_first else self.conv(x).permute(2, 0, 1)
        if self.reads and x.is_meta:
            raise NotImplementedError("values are needed")
        steps, states = self.rnn(tokens)
        steps = steps if self.rnn.batch_first else steps.transpose(0, 1)
        last, cells = states if isinstance(states, tuple) else (states, states)
        return steps, last.transpose(0, 1), cells.transpose(0, 1)  # the batch comes first in all of them

    def forward(self, x):
        steps, last, cells = self.results(x)
        self.steps(steps), self.last(last), self.cells(cells)
        return steps


def assert_seen(model, shape=(1, 2, 13)):
    """The boxes of every result are those that changing each pixel of the input shows."""
    fields = sp.receptive_fields(model, shape, unit_axes=(1,), layers=["steps", "last", "cells"])
    checked = Sequence.results
    double = model.double().eval()
    for place, name in enumerate(fields):
        changed = seen_alone(lambda x, place=place: checked(double, x)[place].detach(), shape)  # (units, C, pixels)
        truth = hulls(changed.any(1), 1)
        assert np.array_equal(fields[name].boxes(), truth), name
    model.float()
    return fields


@pytest.mark.parametrize(
    ("kind", "bidirectional", "batch_first"), list(product(KINDS, (False, True), (False, True))), ids=str
)
def test_layers(kind, bidirectional, batch_first):
    """Steps, last states and cells of two layers, forwards and backwards, see what perturbation shows."""
    fields = assert_seen(Sequence(KINDS[kind], bidirectional=bidirectional, batch_first=batch_first))
    assert all(field.fallback is None for field in fields.values())


def test_directions_apart():
    """Channels of one layer that run forwards see what came before, the others what comes after."""
    field = sp.receptive_fields(
        Sequence(nn.LSTM, bidirectional=True, layers=1), (1, 2, 13), unit_axes=(1,), layers="steps"
    )["steps"]
    assert field.boxes(channel=0).tolist() == [[0, 2 * step + 3] for step in range(6)]
    assert field.boxes(channel=7).tolist() == [[2 * step, 13] for step in range(6)]
    assert field.exact


def test_projections():
    """An LSTM whose outputs have fewer channels than its cells."""
    assert_seen(Sequence(nn.LSTM, bidirectional=True, proj_size=2))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_values(bidirectional):
    """Where a model needs values, an LSTM runs on its device, by an operator of its own."""
    fields = assert_seen(Sequence(nn.LSTM, bidirectional=bidirectional, reads=True))
    assert all(field.fallback is not None for field in fields.values())


class Initial(nn.Module):
    """A layer whose first state comes from the image, or is so large that it saturates every gate."""

    def __init__(self, large=False):
        super().__init__()
        self.rnn, self.large, self.end = nn.GRU(2, 4, batch_first=True), large, nn.Identity()

    def forward(self, x):
        state = torch.full((1, 1, 4), 1e6) if self.large else x[:, :, -2:].reshape(1, 1, 4)
        return self.end(self.rnn(x[:, :, :4].transpose(1, 2).contiguous(), state)[0])


def test_first_state():
    """All steps see the first state; one that hides what is read makes an upper bound."""
    field = sp.receptive_fields(Initial(), (1, 2, 9), unit_axes=(1,), layers="end")["end"]
    assert field.boxes().tolist() == [[0, 9]] * 4
    assert not sp.receptive_fields(Initial(large=True), (1, 2, 9), unit_axes=(1,), layers="end")["end"].exact


def test_one_operator(monkeypatch):
    """A layer of many steps is followed without its steps."""
    followed = []
    follow = RecurrentLayers._follow
    monkeypatch.setattr(
        RecurrentLayers, "_follow", lambda self, *args, **named: followed.append(1) or follow(self, *args, **named)
    )
    field = sp.receptive_fields(Sequence(nn.LSTM), (1, 2, 4001), unit_axes=(1,), layers="steps")["steps"]
    assert followed == [1]
    assert field.box(1999) == sp.receptive_fields(nn.Conv1d(2, 2, 4001), (1, 2, 4001))[""].box(0)
