"""A training with a monitor ends as one without: weights, buffers, optimizer, losses and random states, bit for bit."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp

REDUCERS = {"moments": sp.Moments, "dead": sp.Dead, "histogram": sp.Histogram}


class Net(nn.Module):
    """In-place nonlinearities, batch statistics, dropout, a layer that runs twice, and a view that is written to."""

    def __init__(self, checkpointed=None):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.twice = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.drop, self.flatten, self.head = nn.Dropout(0.3), nn.Flatten(), nn.Linear(6 * 36, 4)
        self.checkpointed = checkpointed

    def middle(self, x):
        x = F.relu(self.conv2(x), inplace=True)
        return self.drop(F.relu_(self.twice(torch.tanh(self.twice(x)))))

    def forward(self, x):
        x = F.relu_(self.norm(self.conv1(x)))
        middle = self.middle if self.checkpointed is None else partial(checkpoint, self.middle)
        x = middle(x, **{} if self.checkpointed is None else {"use_reentrant": self.checkpointed})
        x = self.flatten(x)
        x.mul_(2.0)
        return self.head(x)


def plain(model, optimizer, batches):
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def accumulated(model, optimizer, batches):
    for images, labels in batches:
        optimizer.zero_grad()
        for part in range(2):
            loss = F.cross_entropy(model(images[part::2]), labels[part::2])
            loss.backward()
        optimizer.step()
        yield loss


def several_forwards(model, optimizer, batches):
    """Two forwards before one backward pass, and an evaluation in between, as for a contrastive loss."""
    for images, labels in batches:
        one = model(images)
        model.eval()
        with torch.no_grad():
            target = model(images)
        model.train()
        loss = F.cross_entropy(model(images + torch.rand_like(images)), labels) + F.mse_loss(one, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def mixed_precision(model, optimizer, batches):
    for images, labels in batches:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images), labels) + F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def penalized(model, optimizer, batches):
    """Second derivatives, through `autograd.grad` with a graph."""
    for images, labels in batches:
        images = images.clone().requires_grad_()
        loss = F.cross_entropy(model(images), labels)
        (slope,) = torch.autograd.grad(loss, images, create_graph=True)
        optimizer.zero_grad()
        (loss + slope.square().sum()).backward()
        optimizer.step()
        yield loss


def train(loop, *, checkpointed=None, frozen=False, monitored=None):
    """Return all that a training leaves, and its monitor if it had one."""
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    model = Net(checkpointed)
    for parameter in model.conv1.parameters() if frozen else ():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [(torch.rand(8, 3, 6, 6), torch.randint(4, (8,))) for _ in range(4)]
    before = hooks_of(model)
    if monitored is None:
        monitor, losses = None, [loss.detach() for loss in loop(model, optimizer, batches)]
    else:
        with sp.Monitor(model, REDUCERS, layers="*", images=batches[0][0][:2], **monitored) as monitor:
            losses = [loss.detach() for loss in loop(model, optimizer, batches)]
    assert hooks_of(model) == before
    states = [torch.get_rng_state(), np.random.get_state()[1], random.getstate()]
    moments = [value for state in optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    return [*losses, *model.state_dict().values(), *gradients, *moments, *states, *modes], monitor


def hooks_of(model):
    return [dict(vars(module)[name]) for module in model.modules() for name in vars(module) if name.endswith("_hooks")]


def assert_identical(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
            assert a.dtype == b.dtype
        else:
            np.testing.assert_equal(a, b)


LOOPS = {
    "plain": (plain, {}),
    "accumulated": (accumulated, {}),
    "several forwards": (several_forwards, {}),
    "mixed precision": (mixed_precision, {}),
    "penalized": (penalized, {}),
    "checkpoint": (plain, {"checkpointed": False}),
    "reentrant checkpoint": (plain, {"checkpointed": True}),
    "checkpoint, accumulated": (accumulated, {"checkpointed": False}),
    "frozen": (plain, {"frozen": True}),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch says so of any evaluation
@pytest.mark.parametrize("at", ["output", "post_activation"])
@pytest.mark.parametrize("name", LOOPS)
def test_weights_are_bit_identical(name, at):
    """Every kind of loop, with every kind of watching, at every second step."""
    loop, options = LOOPS[name]
    bare, _ = train(loop, **options)
    watched, monitor = train(loop, **options, monitored={"every": 2, "gradients": True, "at": at})
    assert_identical(bare, watched)
    assert len(monitor.history.steps) == -(-monitor.forwards // 2)
    assert len(monitor.history.evolution("conv1").frames) == len(monitor.history.steps)


def test_a_difference_would_show():
    """The comparison above sees a single random number more."""
    bare, _ = train(plain)

    def disturbed(model, optimizer, batches):
        for loss in plain(model, optimizer, batches):
            torch.rand(1)
            yield loss

    with pytest.raises(AssertionError):
        assert_identical(bare, train(disturbed)[0])


def test_recomputation_is_no_step():
    """A model that is checkpointed whole runs twice for each step, and counts once."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with sp.Monitor(model, {"moments": sp.Moments}, every=1) as monitor:
        for use_reentrant in (False, True):
            images = torch.rand(2, 3, 6, 6, requires_grad=True)
            checkpoint(model, images, use_reentrant=use_reentrant).sum().backward()
    assert monitor.history.steps == (0, 1)
    assert all(row.result.count.eq(2 * 16).all() for row in monitor.history)
