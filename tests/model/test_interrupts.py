"""An interrupt leaves nothing behind: wherever it comes, model and process are bit by bit as they were."""

from __future__ import annotations

import gc
import random
from functools import partial

import pytest
import torch
import torch._dynamo  # so that there is a compiler whose stance could be left changed
import torch.nn.functional as F
from interrupts import differences, everything, interrupted, interrupted_after, points_of
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
QUIET = {"progress": False, "batch_size": 1}


class Small(nn.Module):
    """Two convolutions, one of them shared, with a batch norm of its own mode, modules and functions in place."""

    def __init__(self, reads=False):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.reads = reads
        self.notes = [1, {"a": 2}]
        self.eval().conv1.train()

    def forward(self, x):
        x = F.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
        return x * 2 if self.reads and x.sum() > 0 else x


def small(**options):
    torch.manual_seed(0)
    model = Small(**options)
    model.conv1.register_forward_hook(lambda module, args, output: None)
    return model


def probe(model):
    with sp.Probe(model) as found:
        model(IMAGES)
    assert len(found.records) == 2


def probe_of_activations(model):
    with sp.Probe(model, at="post_activation", transform=lambda maps: maps + 1) as found:
        model(IMAGES)
    assert len(found.records) == 2


def nested(model):
    with sp.edited(model, {"conv1": sp.ablate([0])}), sp.Probe(model), sp.Probe(model, "conv2"):
        model(IMAGES)


CONTEXTS = {
    "probe": probe,
    "post_activation": probe_of_activations,
    "nested": nested,
    "capture": lambda model: sp.capture(model, IMAGES, layers="conv1", stop_early=True),
}


class Watch:
    """Compares a model and the process with what they were, and what the model computes."""

    def __init__(self, model):
        self.model = model
        self.output = self.run()
        self.before = everything(model)

    def run(self):
        with torch.no_grad():
            return self.model(IMAGES)

    def left_by(self, interrupt):
        """What an interrupt, whose traceback is alive, left changed, or keeps from working."""
        left = differences(self.before, everything(self.model))
        return left if left or torch.equal(self.run(), self.output) else ["output"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what arrives in a `__del__`
@pytest.mark.parametrize("name", CONTEXTS)
def test_interrupts_leave_nothing_behind(name):
    """After an interrupt at any call, line or return, everything is as it was, and the model runs as before."""
    model = small()
    run = partial(CONTEXTS[name], model)
    run()
    watch, points = Watch(model), points_of(run)
    found = {str(point): watch.left_by(interrupted(run, point)) for point in points}
    gc.collect()
    assert {point: left for point, left in found.items() if left} == {}
    assert watch.left_by(None) == []  # now that no traceback is left
    assert len(points) > 400
    run()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CONTEXTS)
def test_signals_leave_nothing_behind(name):
    """The same after an alarm's signal at some moment of a run."""
    model, drawn = small(), random.Random(0)
    watch = Watch(model)

    def run():
        for _ in range(20):
            CONTEXTS[name](model)

    for _ in range(15):
        assert watch.left_by(interrupted_after(run, drawn.uniform(0.0001, 0.01))) == []
