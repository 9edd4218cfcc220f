"""Passes that begin behind a layer give what whole passes give, on every kind of network, and leave no trace."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from explained_models import KINDS, images, make
from torch import nn

import spatialprobe as sp
from spatialprobe.attribution import forwards

WHOLE = 10**9  # passes that are too few for a prefix
# The layer whose channels are removed, one by one; of other networks the last convolution, which has few.
LAYERS = {"resnet": "layer2.0.conv2", "mobilenet": "features.17.conv.2", "vit": "encoder.layers.encoder_layer_0.mlp"}


def attribute(monkeypatch, few, *args, **options):
    monkeypatch.setattr(forwards, "_FEW_PASSES", few)
    return sp.attribute(*args, method="ablation", **options)


@contextmanager
def rows_of(monkeypatch, module_type):
    """Note how many rows modules of a type compute in a block, run by run."""
    rows, compute = [], module_type.forward

    def forward(self, x, *rest):
        rows.append(len(x))
        return compute(self, x, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(module_type, "forward", forward)
        yield rows


@pytest.mark.parametrize(("kind", "at"), [*((kind, "output") for kind in KINDS), ("vgg", "post_activation")])
def test_as_whole_passes(monkeypatch, kind, at):
    """The same numbers as whole passes, where fewer convolutions run, and the model keeps no attribute of it."""
    model, batch = make(kind), images(kind)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    layer = LAYERS.get(kind, names[-1])

    def score(output):
        return output["maps"][:, 3].mean((1, 2)) if isinstance(output, dict) else output[:, 3]

    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    counts, found = [], []
    for few in (0, WHOLE):
        with rows_of(monkeypatch, nn.Conv2d) as rows:
            one = attribute(monkeypatch, few, model, batch, score, layers=layer, at=at, batch_size=16)
        counts.append(sum(rows))
        found.append(one[layer].channels)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert counts[0] < counts[1]
    assert {name: dict(module.__dict__) for name, module in model.named_modules()} == before


class Odd(nn.Module):
    """A model with a stem, something odd behind it, and the layer `last`."""

    def __init__(self, odd):
        super().__init__()
        self.stem, self.last, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3), nn.Linear(5, 3)
        self.norm, self.relu, self.odd = nn.BatchNorm2d(4), nn.ReLU(inplace=True), odd
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x):
        x = self.odd(self, self.stem(x))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class Counts(nn.Module):
    """Adds the number of its runs to its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x):
        self.runs += 1
        return x * self.runs


class Told(nn.Module):
    """Returns a copy, and leaves a note of the input's mean that another part of the model reads."""

    def __init__(self):
        super().__init__()
        self.note = None

    def forward(self, x):
        self.note = x.mean((1, 2, 3), keepdim=True)
        return 2 * x


def ignored_in_place(model, x):
    model.relu(x)  # what it returns is not used: it modifies x
    return model.norm(x) + x


def added_in_place(model, x):
    y = model.norm(x)
    y += x
    return y


ODD = {
    "in place and ignored": ignored_in_place,
    "added in place": added_in_place,
    "view": lambda model, x: model.flat(x).view_as(x).relu_(),
    "counts": lambda model, x: model.count(x),
    "random": lambda model, x: x + torch.rand(()) * model.norm(x),
    "notes": lambda model, x: model.told(x) + model.told.note,
    "sequence first": lambda model, x: model.norm(x) + model.first(x.mean((2, 3))[:, None].expand(-1, 3, -1)),
}


class First(nn.Module):
    """Returns (3, N, C) summed to rows: samples along the second axis of what a module inside returns."""

    def __init__(self):
        super().__init__()
        self.inner, self.turn = nn.Linear(4, 4), Turn()

    def forward(self, x):
        return self.inner(self.turn(x)).sum(0)[..., None, None]


class Turn(nn.Module):
    """Puts the second axis first."""

    def forward(self, x):
        return x.transpose(0, 1) * 1.0


@pytest.mark.parametrize("name", ODD)
def test_odd_models(monkeypatch, name):
    """Writes in place, views, notes, numbers of runs and samples on another axis: as whole passes, or these instead."""
    torch.manual_seed(0)
    model = Odd(ODD[name])
    model.flat, model.count, model.told, model.first = nn.Flatten(), Counts(), Told(), First()
    model.eval()
    batch = torch.rand(3, 3, 7, 7)
    found = [
        attribute(monkeypatch, few, model, batch, 1, layers="last", at="output", batch_size=6)["last"].channels
        for few in (0, WHOLE)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert float(model.count.runs) == 0
    assert "forward" not in model.stem.__dict__


@pytest.mark.parametrize("call", [0, 1, 2])
def test_one_run_of_several(monkeypatch, call):
    """Earlier runs of the same layer are computed, so that the right one is replaced."""
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 4, 3, padding=1)
    block = nn.Sequential(shared, nn.ReLU(inplace=True))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), block, shared, nn.Tanh(), block, nn.Flatten(), nn.Linear(196, 3)).eval()
    batch = torch.rand(2, 3, 7, 7)
    found = [
        attribute(monkeypatch, few, model, batch, 1, layers="1.0", batch_size=2)["1.0", call] for few in (0, WHOLE)
    ]
    torch.testing.assert_close(found[0].channels, found[1].channels, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_and_deletion(monkeypatch):
    """Other methods that replace one run begin behind it, too, with the same results."""
    model, batch = make("resnet"), images("resnet")
    results = []
    for few in (0, WHOLE):
        monkeypatch.setattr(forwards, "_FEW_PASSES", few)
        name = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][-2]
        found = sp.attribute(model, batch, 1, layers=name, at="output", method="integrated_gradients", steps=8)[name]
        results.append((found.values, torch.from_numpy(sp.evidence.channel_deletion(model, batch, found, k=2).values)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_an_error_in_the_model_is_told_and_leaves_nothing(monkeypatch):
    """A model that fails in later passes says so, and no module keeps another forward."""
    model, batch = make("vgg"), images("vgg")
    passes = [0]

    def fail(module, inputs, output):
        passes[0] += 1
        if passes[0] > 3:
            raise RuntimeError("no more")

    handle = model[-1].register_forward_hook(fail)
    with pytest.raises(sp.ForwardError, match="no more"):
        attribute(monkeypatch, 0, model, batch, 1, layers="5", batch_size=2)
    handle.remove()
    assert all("forward" not in module.__dict__ for module in model.modules())
