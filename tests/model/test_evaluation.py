"""Evaluation mode for a while: all that a forward pass changes comes back, whenever and however the block ends."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from interrupts import interrupted, points_of
from stateful import Stateful, everything, same
from torch import nn

import spatialprobe as sp
import spatialprobe.model
from spatialprobe.model.evaluation import EvaluationMode, Restored

SOURCE = Path(spatialprobe.model.__file__).parent
IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def differences(before, after):
    return [key for key in before if not same(before[key], after[key])]


@pytest.mark.parametrize("make", [EvaluationMode, Restored, lambda model: EvaluationMode(model, gradients=True)])
def test_everything_comes_back(make):
    """After several forward passes that change all that can be changed, nothing is another object or value."""
    model = Stateful()
    before = everything(model)
    with make(model):
        model(IMAGES.clone())
        model(IMAGES.clone())
        assert len(differences(before, everything(model))) > 5
    assert differences(before, everything(model)) == []


def test_everything_comes_back_after_an_error():
    """The same where the forward raises half-way; the error passes through."""
    model = Stateful()
    model.norm.register_forward_hook(lambda *_: 1 / 0)
    before = everything(model)
    with pytest.raises(ZeroDivisionError), EvaluationMode(model):
        model(IMAGES.clone())
    assert differences(before, everything(model)) == []


def test_modes():
    """Inside every module evaluates, without gradients unless asked for; outside each is in the mode that it was in."""
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
    model[1].eval()
    model[1][1].train()
    modes = [module.training for module in model.modules()]
    with EvaluationMode(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    with torch.no_grad(), EvaluationMode(model, gradients=True):
        assert torch.is_grad_enabled()
    with Restored(model):
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


def test_blocks_nest():
    """An inner block gives back what the outer one set, and the outer one what was there."""
    model = Stateful()
    before = everything(model)
    with EvaluationMode(model):
        with EvaluationMode(model, gradients=True):
            model(IMAGES.clone())
        assert not torch.is_grad_enabled()
        assert not model.training
        assert model.calls == 0
        model(IMAGES.clone())
    assert differences(before, everything(model)) == []


@dataclass
class Cache:
    """What a model may keep its state in."""

    layers: list = field(default_factory=list)
    filled: int = 0


class Slotted:
    """The same, in slots."""

    __slots__ = ("count", "never_set")

    def __init__(self):
        self.count = 0


class Inner:
    """An object inside of an object."""

    def __init__(self):
        self.values = torch.zeros(2)


def fill(held, key, value):
    held[key] = value


HOLDERS = {
    "number": (lambda: 0, lambda m: setattr(m, "held", 1)),
    "list in a dict": (lambda: {"a": []}, lambda m: m.held["a"].append(1)),
    "dict in a list": (lambda: [{}], lambda m: fill(m.held[0], 1, 2)),
    "another order": (lambda: {1: 1, 2: 2}, lambda m: fill(m.held, 1, m.held.pop(1))),
    "ordered dict": (lambda: OrderedDict(a=1, b=2), lambda m: m.held.move_to_end("a")),
    "default dict": (lambda: defaultdict(list), lambda m: m.held["x"].append(1)),
    "counter": (lambda: Counter("aab"), lambda m: m.held.update("aab")),
    "deque": (lambda: deque([1, 2], maxlen=2), lambda m: m.held.append(3)),
    "set": (lambda: {1}, lambda m: m.held.add(2)),
    "list in a tuple": (lambda: ([1],), lambda m: m.held[0].clear()),
    "tensor": (lambda: torch.zeros(3), lambda m: m.held.add_(1)),
    "tensor behind its back": (lambda: torch.zeros(3), lambda m: m.held.data.add_(1)),
    "tensor of another shape": (lambda: torch.zeros(2, 3), lambda m: m.held.unsqueeze_(0)),
    "tensor with other memory": (lambda: torch.zeros(3), lambda m: setattr(m.held, "data", torch.ones(3))),
    "tensor with NaN": (lambda: torch.full((3,), torch.nan), lambda m: m.held.zero_()),
    "float8": (lambda: torch.zeros(3).to(torch.float8_e4m3fn), lambda m: m.held.copy_(torch.ones(3))),
    "scalar": (lambda: torch.zeros((), dtype=torch.complex128), lambda m: m.held.add_(1j)),
    "tensors in a list": (lambda: [torch.zeros(3)], lambda m: m.held[0].add_(1)),
    "array": (lambda: np.zeros(3), lambda m: fill(m.held, 0, 1.0)),
    "object": (Cache, lambda m: (m.held.layers.append(1), setattr(m.held, "filled", 1))),
    "namespace": (lambda: SimpleNamespace(n=0), lambda m: setattr(m.held, "n", 1)),
    "slots": (Slotted, lambda m: setattr(m.held, "count", 1)),
    "tensor in an object in an object": (lambda: Cache([Inner()]), lambda m: m.held.layers[0].values.add_(1)),
    "unregistered module": (lambda: [nn.BatchNorm1d(2)], lambda m: m.held[0](torch.rand(3, 2))),
    "torch generator": (torch.Generator, lambda m: torch.rand(1, generator=m.held)),
    "numpy generator": (lambda: np.random.default_rng(0), lambda m: m.held.random()),
    "numpy state": (lambda: np.random.RandomState(0), lambda m: m.held.rand()),
    "python generator": (lambda: random.Random(0), lambda m: m.held.random()),
}


class Holder(nn.Module):
    """Holds one thing and changes it in each forward."""

    def __init__(self, held, change):
        super().__init__()
        self.held = held
        self.change = change

    def forward(self, x):
        self.change(self)
        return x


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_holds_the_state(name):
    """State is restored in whatever it is held, and the very same object holds it."""
    make, change = HOLDERS[name]
    model = Holder(make(), change)
    held, before = model.held, everything(model)
    with EvaluationMode(model):
        model(IMAGES)
        assert differences(before, everything(model)) != []
    assert model.held is held
    assert differences(before, everything(model)) == []


@pytest.mark.parametrize("write", [lambda p: p.data.add_(1), lambda p: p.detach().add_(1)], ids=["silent", "counted"])
def test_every_run_begins_in_the_same_state(write):
    """`reset` puts everything back between runs, also what no version counter shows, as often as it is asked."""

    class Drifts(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 2, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            write(self.bias)
            return super().forward(x) * self.calls + torch.rand(()) + random.random() + np.random.rand()

    model = Drifts()
    before = everything(model)
    with EvaluationMode(model) as mode:
        first = model(IMAGES)
        for _ in range(3):
            mode.reset()
            assert torch.equal(model(IMAGES), first)
    assert differences(before, everything(model)) == []


def test_what_was_not_changed_is_not_touched():
    """Version counters stand still, so that a graph which the user holds can still be run backward; NaN too."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].running_mean.fill_(torch.nan)
    tensors = [*model.parameters(), *model.buffers()]
    loss = model(IMAGES).sum()
    versions = [tensor._version for tensor in tensors]
    with EvaluationMode(model):
        model(IMAGES)
    assert [tensor._version for tensor in tensors] == versions
    loss.backward()


def test_state_in_a_graph():
    """State that the input was added to while gradients were on is out of the graph again."""

    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(()))
            self.state = torch.zeros(())

        def forward(self, x):
            self.total += x.mean()
            self.state += x.mean()
            return x

    model = Adds()
    with EvaluationMode(model, gradients=True):
        model(IMAGES.clone().requires_grad_())
        assert model.total.requires_grad
        assert model.state.requires_grad
    assert not model.total.requires_grad
    assert not model.state.requires_grad
    assert (model.total, model.state) == (0, 0)


def test_gradients_and_flags():
    """`requires_grad` and `.grad` are what they were, also of a model that runs a backward pass of its own."""

    class Trains(nn.Conv2d):
        def forward(self, x):
            with torch.enable_grad():
                super().forward(x).sum().backward()
            self.bias.requires_grad_(False)
            return super().forward(x)

    model = Trains(3, 2, 3)
    with EvaluationMode(model):
        model(IMAGES)
        assert model.weight.grad is not None
    assert model.weight.grad is None
    assert model.bias.requires_grad


def test_hooks():
    """Hooks that a forward puts on come off; those that were there stay, and what they hold is the user's."""

    class Hooks(nn.Conv2d):
        def forward(self, x):
            self.register_forward_hook(lambda *_: None)
            return super().forward(x)

    class Recorder:
        def __init__(self):
            self.shapes = []

        def __call__(self, module, args, output):
            self.shapes.append(output.shape)

    model, recorder = Hooks(3, 2, 3), Recorder()
    model.register_forward_hook(recorder)
    before = dict(model._forward_hooks)
    with EvaluationMode(model):
        model(IMAGES)
        assert len(model._forward_hooks) == 2
    assert dict(model._forward_hooks) == before
    assert len(recorder.shapes) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules():
    """State that TorchScript holds is restored as well."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.seen = [0]
            self.state = torch.zeros(2)
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x):
            self.calls += 1
            self.seen.append(self.calls)
            self.state = self.state + 1
            self.total += 1
            return x

    model = nn.Sequential(torch.jit.script(Counts()))
    with EvaluationMode(model):
        assert not model[0].training
        model(IMAGES)
        assert model[0].calls == 1
    assert model[0].training
    assert (model[0].calls, model[0].seen) == (0, [0])
    assert model[0].state.tolist() == model[0].total.tolist() == [0, 0]


class Modeless(nn.Module):
    """A module without `training`, as some wrappers and conversions leave it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.9)
        del self.training

    def forward(self, x):
        return self.drop(self.conv(x))


USES = {
    "capture": lambda model: sp.capture(model, IMAGES),
    "plan": lambda model: sp.plan(model, IMAGES),
    "fields": lambda model: sp.receptive_fields(model, IMAGES),
    "effective field": lambda model: sp.effective_receptive_field(model, IMAGES, "conv"),
    "sweep": lambda model: sp.sweep(model, IMAGES, {"moments": sp.Moments}, progress=False),
    "frozen copy": sp.evidence.frozen_copy,
    "surgery": lambda model: sp.evidence.kernel_surgery(model, "conv"),
    "footprint": lambda model: sp.evidence.footprint(model, IMAGES, "conv", pixel=(3, 3)),
}


@pytest.mark.parametrize("use", USES)
def test_modules_without_a_mode(use):
    """A module that has no `training` is run as it is, the others in evaluation mode, and it gets no mode."""
    model = Modeless()
    USES[use](model)
    assert "training" not in vars(model)
    assert model.conv.training
    with EvaluationMode(model):
        assert not model.drop.training
    assert model.drop.training


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_hooks_of_modules_without_a_mode():
    """Weights that a hook computes are refreshed in a module without a mode, which has none afterwards."""
    model = torch.nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    del model.training
    copy = sp.evidence.frozen_copy(model)
    assert "training" not in vars(copy)
    assert not torch.equal(copy.weight_v, model.weight_v)


def test_a_mode_that_cannot_be_set():
    """A mode that is read-only is an error that names the layer; nothing runs in training mode unseen."""

    class Always(nn.Module):
        def __init__(self):
            vars(self)["mutable"] = True
            super().__init__()
            vars(self)["mutable"] = False

        @property
        def training(self):
            return True

        @training.setter
        def training(self, mode):
            if not vars(self)["mutable"]:
                raise AttributeError("read-only")

        def forward(self, x):
            return x

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Always())
    with pytest.raises(sp.ArgumentError, match=r"mode of layer '1', an Always, cannot be set"):
        sp.receptive_fields(model, IMAGES)
    assert model[0].training


def test_what_cannot_run():
    """A model without weights is refused, and left as it is."""
    with pytest.raises(sp.ArgumentError, match="on the meta device"), EvaluationMode(nn.Conv2d(1, 1, 1, device="meta")):
        pass
    lazy = nn.Sequential(nn.LazyConv2d(1, 1))
    with pytest.raises(sp.ArgumentError, match="not initialized yet: run it once"), EvaluationMode(lazy):
        pass
    assert lazy[0].training
    with EvaluationMode(nn.Conv2d(1, 1, 1, device="meta"), values=False):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what arrives in a `__del__`
def test_an_interrupt_at_any_point():
    """Ctrl-C at any call, line or return, also while things are being restored, leaves the model as it was."""
    model = Stateful()
    before = everything(model)

    def run():
        with EvaluationMode(model, gradients=True) as mode:
            model(IMAGES.clone())
            mode.reset()

    run()  # what is remembered of types is known from now on, so that every run comes by the same points
    points = [point for point in points_of(run, visits=2) if str(SOURCE) in point.file]
    assert len(points) > 300
    for point in points:
        assert interrupted(run, point) is not None
        assert differences(before, everything(model)) == [], str(point)
