"""Activation checkpointing: what is recomputed is what was computed, wherever and whenever the backward pass runs."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp


class Block(nn.Module):
    """Two convolutions, and functions that need their results for the gradient."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu().exp()).tanh()


class Checkpointed(nn.Module):
    """Two blocks, recomputed in one of several ways; "ways" are of the outer checkpoint and of one inside it."""

    def __init__(self, outer=None, inner=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)
        self.one, self.two = Block(), Block()
        self.outer, self.inner = outer, inner

    def forward(self, x):
        return self.head(recomputed(self.blocks, self.stem(x), self.outer))

    def blocks(self, x):
        return self.two(recomputed(self.one, x, self.inner))


class Own(torch.autograd.Function):
    """A checkpoint of somebody's own, which nobody else knows as one."""

    @staticmethod
    def forward(context, x, function):
        context.function = function
        context.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            torch.autograd.backward(context.function(again), gradient)
        return again.grad, None


def recomputed(function, x, way):
    if way is None:
        return function(x)
    return Own.apply(x, function) if way == "own" else checkpoint(function, x, use_reentrant=way == "reentrant")


WAYS = [
    ("reentrant", None),
    ("without reentry", None),
    ("without reentry", "without reentry"),
    ("without reentry", "reentrant"),
    ("reentrant", "reentrant"),
    ("reentrant", "without reentry"),
]
EDITS = {
    "ablate": {"one.first": sp.ablate([1], 2.0)},
    "saves more": {"two.first": lambda maps: maps * maps.sigmoid()},
    "several": {nn.Conv2d: lambda maps: maps.clamp(-0.4, 0.4)},
}
OTHER = {nn.Conv2d: lambda maps: maps * 3}
IMAGES = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def backward_inside(model, edits):
    with sp.edited(model, edits):
        model(IMAGES).square().sum().backward()


def backward_after(model, edits):
    with sp.edited(model, edits):
        loss = model(IMAGES).square().sum()
    loss.backward()


def backward_in_another_block(model, edits):
    with sp.edited(model, edits):
        loss = model(IMAGES).square().sum()
    with sp.edited(model, OTHER):
        loss.backward()


def backward_in_a_block_within(model, edits):
    with sp.edited(model, edits):
        loss = model(IMAGES).square().sum()
        with sp.edited(model, OTHER):
            loss.backward()


def backward_twice(model, edits):
    with sp.edited(model, edits):
        loss = model(IMAGES).square().sum()
    loss.backward(retain_graph=True)
    model.zero_grad()
    loss.backward()


def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


def assert_same_gradients(model, other):
    for one, two in zip(gradients(model), gradients(other), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(
    "run",
    [backward_inside, backward_after, backward_in_another_block, backward_in_a_block_within, backward_twice],
    ids=lambda run: run.__name__,
)
@pytest.mark.parametrize("edits", EDITS)
@pytest.mark.parametrize("ways", WAYS, ids=lambda ways: f"{ways[0]}, {ways[1]}")
def test_edits_are_recomputed(ways, edits, run):
    """Gradients are those of the edited model, wherever the backward pass runs; afterwards no hook is left."""
    model, plain = Checkpointed(*ways), Checkpointed()
    run(model, EDITS[edits])
    backward_inside(plain, EDITS[edits])
    assert_same_gradients(model, plain)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("ways", [*WAYS, ("own", None)], ids=lambda ways: f"{ways[0]}, {ways[1]}")
def test_what_was_not_edited_is_not_recomputed_with_edits(ways):
    """A backward pass inside a block, of a forward pass before it, has the gradients of the plain model."""
    model, plain = Checkpointed(*ways), Checkpointed()
    loss = model(IMAGES).square().sum()
    with sp.edited(model, OTHER):
        loss.backward()
    plain(IMAGES).square().sum().backward()
    assert_same_gradients(model, plain)


def test_functions_of_somebody_elses():
    """A function that recomputes in its own way does so rightly inside the block; after it, an error says why not."""
    model, plain = Checkpointed("own"), Checkpointed()
    backward_inside(model, EDITS["several"])
    backward_inside(plain, EDITS["several"])
    assert_same_gradients(model, plain)
    with pytest.raises(sp.ProbeStateError, match="'one.first' was edited inside OwnBackward, .* inside it"):
        backward_after(model, EDITS["ablate"])


def test_other_threads_see_no_edit():
    """While a checkpoint recomputes with an edit after its block, another thread's forward is not edited."""
    model, seen = Checkpointed("without reentry"), []

    def look(maps):
        if looking:
            thread = threading.Thread(target=lambda: seen.append(model.one.first(IMAGES)))
            thread.start()
            thread.join()
        return maps * 0

    looking = False
    with sp.edited(model, {"one.first": look}):
        loss = model(IMAGES).sum()
    looking = True
    loss.backward()
    assert torch.equal(seen[0], model.one.first(IMAGES))


@pytest.mark.parametrize("ways", [way for way in WAYS if "reentrant" not in way], ids=str)
@pytest.mark.parametrize("trained", ["all", "none", "stem", "one", "two"])
@pytest.mark.parametrize("after", [False, True])
def test_gradients_of_checkpointed_layers(trained, ways, after):
    """Whichever part of the model is frozen, records of recomputed layers have the gradients of the plain model."""
    layers = ["stem", "one.first", "one.second", "two.first", "head"]
    model, plain = Checkpointed(*ways), Checkpointed()
    if trained != "all":
        model.requires_grad_(False)
        if trained != "none":
            model.get_submodule(trained).requires_grad_(True)
    with sp.Probe(model, layers, gradients=True) as probe:
        loss = model(IMAGES).square().sum()
        if not after:
            loss.backward()
    if after:
        loss.backward()
    with sp.Probe(plain, layers, gradients=True) as expected:
        plain(IMAGES).square().sum().backward()
    for layer in layers:
        assert torch.allclose(probe[layer].gradient, expected[layer].gradient, atol=1e-6)
    for one, other in zip(gradients(model), gradients(plain), strict=True):
        assert one is None or torch.allclose(one, other, atol=1e-6)


def test_probes_begin_no_graph_in_what_others_recompute():
    """A backward pass inside a probe, of a forward pass before it, recomputes what was computed."""
    model = Checkpointed("without reentry").requires_grad_(False)
    model.two.requires_grad_(True)
    loss = model(IMAGES).square().sum()
    with sp.Probe(model, "one.first", gradients=True, missing="ignore"):
        loss.backward()
    plain = Checkpointed()
    plain(IMAGES).square().sum().backward()
    for one, other in zip(model.two.parameters(), plain.two.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_reentrant_checkpoints_have_no_gradients():
    """A reentrant checkpoint computes without gradients, which is said at once."""
    model = Checkpointed("reentrant")
    with pytest.raises(sp.ProbeStateError, match="Layer 'one.first' ran without gradients .*use_reentrant=True"):
        with sp.Probe(model, "one.first", gradients=True):
            model(IMAGES)


def test_differentiable_records_of_checkpointed_layers():
    """What a transform saves for its own gradient does not count among what the checkpoint computes again."""
    model, plain = Checkpointed("without reentry"), Checkpointed()
    for one in (model, plain):
        with sp.Probe(one, "one.first", keep_graph=True, transform=lambda maps: maps.exp().sigmoid()) as probe:
            loss = one(IMAGES).square().sum() + probe["one.first"].tensor.square().sum()
        loss.backward()
    assert_same_gradients(model, plain)


@pytest.mark.parametrize("backward", [False, True])
def test_edits_go_with_the_graph(backward):
    """What an edit holds is let go with the graph that may need it again, without the garbage collector."""
    model, patch = Checkpointed("without reentry"), torch.rand(2, 3, 5, 5)
    held = weakref.ref(patch)
    gc.disable()
    try:
        with sp.edited(model, {"one.first": lambda maps, patch=patch: maps + patch}):
            loss = model(IMAGES).square().sum()
        del patch
        assert held() is not None
        if backward:
            loss.backward()
        del loss
        assert held() is None
    finally:
        gc.enable()
