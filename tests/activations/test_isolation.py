"""Isolation: threads, checkpoints, compiled models and functorch do not mix up what is recorded."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import ZOO

import spatialprobe as sp


def test_threads_probing_one_model_at_once():
    """Each thread's probe holds its own forwards and no other's, though all share the hooks' module."""
    model = ZOO["chain"].model()
    barrier = Barrier(4)

    def work(seed):
        images = ZOO["chain"].images(seed)
        tensors = []
        for _ in range(5):
            with torch.no_grad(), sp.Probe(model, "conv1") as probe:
                barrier.wait()
                model(images)
                barrier.wait()
                tensors.append(probe["conv1"].tensor)
        return images, tensors

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for images, tensors in results:
        with torch.no_grad():
            expected = model.conv1(images)
        assert len(tensors) == 5
        for tensor in tensors:
            assert torch.equal(tensor, expected)
    assert not model.conv1._forward_hooks


def test_all_threads():
    """With threads="all" the forwards of every thread are recorded, each under a number of its own."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with sp.Probe(model, threads="all") as probe, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: model(images), range(6)))
    assert len(probe.calls("conv1")) == 6
    assert sorted(record.forward for record in probe.calls("conv2")) == list(range(6))
    assert [record.order for record in probe.records] == list(range(12))


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_is_not_recorded(reentrant):
    """What a checkpoint computes again in the backward pass leaves no second record."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images().requires_grad_()

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    outer = Checkpointed()
    with sp.Probe(outer) as probe:
        outer(images).sum().backward()
    assert [record.layer for record in probe.records] == ["inner.conv1", "inner.conv2"]


@pytest.fixture
def counted():
    """A compiler backend that counts how often it compiles."""
    torch._dynamo.reset()
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    yield backend, compilations
    torch._dynamo.reset()


@pytest.mark.parametrize("way", ["torch.compile", "Module.compile", "original"])
def test_compiled_models(way, counted):
    """A compiled model is recorded although it was compiled before, and needs no second compilation after."""
    backend, compilations = counted
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    if way == "Module.compile":
        model.compile(backend=backend)
        called = probed = model
    else:
        called = torch.compile(model, backend=backend)
        probed = model if way == "original" else called
    with torch.no_grad():
        expected = called(images)
        before = len(compilations)
        with sp.Probe(probed) as outer, sp.Probe(probed, "conv1") as inner:
            assert torch.equal(called(images), expected)
        called(images)
    assert list(outer) == ["conv1", "conv2"]
    assert list(inner) == ["conv1"]
    assert before == len(compilations) >= 1


def test_compiler_stance_is_given_back():
    """Overlapping probes keep compiled models eager until the last is left."""
    model = ZOO["chain"].model()
    stance = lambda: torch._dynamo.eval_frame._stance.stance  # noqa: E731
    first, second = sp.Probe(model, missing="ignore"), sp.Probe(model, missing="ignore")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stance() == "force_eager"
    second.__exit__(None, None, None)
    assert stance() == "default"


def test_functorch_is_refused():
    """Inside vmap the outputs are wrappers that die with it: the error says so."""
    conv = nn.Conv2d(1, 2, 3)
    with pytest.raises(sp.UnsupportedOutputError, match="functorch transform"), sp.Probe(conv):
        torch.vmap(conv)(torch.rand(3, 1, 1, 5, 5))
    with pytest.raises(sp.UnsupportedOutputError, match="functorch transform"), sp.Probe(conv):
        conv(torch._to_functional_tensor(torch.rand(1, 1, 5, 5)))  # outside of `functionalize`


def test_functional_call_is_recorded():
    """Other weights by `torch.func.functional_call` are recorded like the model's own."""
    conv = nn.Conv2d(1, 2, 3)
    images = torch.rand(1, 1, 5, 5)
    weights = {name: value * 2 for name, value in conv.named_parameters()}
    with torch.no_grad(), sp.Probe(conv) as probe:
        torch.func.functional_call(conv, weights, (images,))
    with torch.no_grad():
        assert torch.allclose(probe[""].tensor, 2 * conv(images), atol=1e-5)


def test_dropped_probe_frees_its_tensors():
    """No reference cycle keeps the tensors alive: they go when the probe goes, without the garbage collector."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    gc.disable()
    try:
        for options in ({}, {"gradients": True}, {"at": "post_activation"}):
            with sp.Probe(model, **options) as probe:
                model(images)
            kept = weakref.ref(probe["conv1"].tensor)
            del probe
            assert kept() is None, options
    finally:
        gc.enable()


BLOCKS = {
    "probe": lambda model: sp.Probe(model, "0", gradients=True),
    "post-activation": lambda model: sp.Probe(model, "0", at="post_activation"),
    "edited": lambda model: sp.edited(model, {"0": sp.ablate([0])}),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_copies_made_inside_a_block(block):
    """A model that is copied or saved inside a block computes by itself, and its pickle does not name this library."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    images = torch.rand(1, 3, 8, 8)
    expected = model(images)
    with BLOCKS[block](model):
        model(images)
        copied, pickled, saved = copy.deepcopy(model), pickle.dumps(model), io.BytesIO()
        torch.save(model, saved)
    for written in (pickled, saved.getvalue(), pickle.dumps(copied)):
        assert b"spatialprobe" not in written
    for one in (copied, pickle.loads(pickled)):
        assert torch.equal(one(images), expected)
