"""capture() and plan(): one call, early stop, and the need known beforehand."""

from __future__ import annotations

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from zoo import CONVOLUTIONS, ZOO

import spatialprobe as sp


class Counting(nn.Module):
    """Counts its own runs."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x


def staged(swallow=()):
    """conv, counter, conv, counter; the first conv runs inside a try that swallows what it is told to."""

    class Staged(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)
            self.between, self.after = Counting(), Counting()

        def forward(self, x):
            try:
                y = self.conv1(x)
            except swallow:
                y = x
            y = torch.relu(self.between(y))
            return self.after(torch.relu(self.conv2(y)))

    return Staged()


IMAGES = torch.rand(1, 1, 8, 8)


@pytest.mark.parametrize("name", ZOO)
def test_capture_equals_a_probe(name):
    """One call gives what a probe gives, without gradients, and what the model returned."""
    model, images = ZOO[name].model(), ZOO[name].images()
    with torch.no_grad(), sp.Probe(model, CONVOLUTIONS) as probe:
        expected = model(images)
    captured = sp.capture(model, images, layers=CONVOLUTIONS)
    assert [r.layer for r in captured.records] == [r.layer for r in probe.records]
    for one, other in zip(captured.records, probe.records, strict=True):
        assert torch.equal(one.tensor, other.tensor)
    assert torch.equal(captured.output, expected)
    assert not captured.output.requires_grad


def test_inputs_by_name_and_gradients():
    """Inputs may be given by name; with gradients the output can be differentiated."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    captured = sp.capture(model, kwargs={"x": images}, gradients=True)
    captured.output.sum().backward()
    assert captured["conv1"].gradient.shape == captured["conv1"].shape


@pytest.mark.parametrize("swallow", [(), Exception, BaseException])
@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_stop_early(swallow, at):
    """Later layers do not run, whatever the model swallows; no hook stays behind."""
    model = staged(swallow)
    captured = sp.capture(model, IMAGES, layers="conv1", at=at if swallow == () else "output", stop_early=True)
    assert list(captured) == ["conv1"]
    assert (model.between.runs, model.after.runs) == ((1, 0) if at == "post_activation" and swallow == () else (0, 0))
    assert captured.output is None
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_stop_early_with_a_compiled_part():
    """A part that is compiled to TorchScript, which takes no hooks of its own, does not run after the stop either."""

    class Swallowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)
            self.norm = torch.jit.script(nn.BatchNorm2d(1))

        def forward(self, x):
            with contextlib.suppress(BaseException):
                x = self.conv(x)
            return self.norm(x)

    model = Swallowing()
    captured = sp.capture(model, IMAGES, layers="conv", stop_early=True)
    assert list(captured) == ["conv"]
    assert captured.output is None
    assert model.norm.num_batches_tracked == 0
    assert sp.capture(model, IMAGES, layers="conv")["conv"].tensor.equal(captured["conv"].tensor)
    assert model.norm.num_batches_tracked == 1


def test_a_stop_is_for_its_own_thread():
    """While the forward of one thread is stopped, another runs the same modules to the end."""
    model, ran = staged(BaseException), []
    run = model.forward

    def forward(x):
        try:
            return run(x)
        except BaseException:  # what was raised in place of the next module, when the model had swallowed the stop
            with ThreadPoolExecutor(1) as pool:
                ran.append(pool.submit(run, IMAGES).result().shape)
            raise

    model.forward = forward
    sp.capture(model, IMAGES, layers="conv1", stop_early=True)
    assert ran == [(1, 1, 4, 4)]


def test_stop_after_the_last_executed():
    """The pass goes on until all layers have run, in whichever order they were named, and `calls` times each."""
    model = staged()
    captured = sp.capture(model, IMAGES, layers=["conv2", "conv1"], stop_early=True)
    assert list(captured) == ["conv1", "conv2"]
    assert (model.between.runs, model.after.runs) == (1, 0)
    shared = ZOO["shared"].model()
    assert len(sp.capture(shared, ZOO["shared"].images(), stop_early=True).records) == 1
    assert len(sp.capture(shared, ZOO["shared"].images(), stop_early=True, calls=2).records) == 2
    assert len(sp.capture(shared, ZOO["shared"].images(), stop_early=True, calls=3).records) == 2
    with pytest.raises(sp.ArgumentError, match="calls must be at least 1"):
        sp.capture(shared, ZOO["shared"].images(), calls=0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions take no notes")
def test_an_image_without_a_batch_is_noted():
    """The model's own error says on which shapes it was called, and how one image becomes a batch."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    with pytest.raises(RuntimeError) as caught:
        sp.capture(model, torch.rand(3, 8, 8))
    assert caught.value.__notes__ == [
        "Sequential was called on (3, 8, 8). If that is one image, pass a batch of it, image[None]."
    ]
    with pytest.raises(RuntimeError) as caught:
        sp.capture(model, torch.rand(1, 4, 8, 8))
    assert caught.value.__notes__ == ["Sequential was called on (1, 4, 8, 8)."]
    with pytest.raises(sp.MemoryBudgetError) as caught:
        sp.capture(model, torch.rand(1, 3, 8, 8), max_bytes=1)
    assert not hasattr(caught.value, "__notes__")


def test_model_that_raises():
    """The model's own exception passes through capture."""
    with pytest.raises(RuntimeError, match="channels"):
        sp.capture(ZOO["chain"].model(), torch.rand(1, 1, 8, 8), stop_early=True)


@pytest.mark.parametrize("name", ZOO)
def test_plan_equals_what_is_captured(name):
    """Shapes, dtypes, bytes and runs are those of the real capture, computed on meta tensors."""
    model, images = ZOO[name].model(), ZOO[name].images()
    planned = sp.plan(model, images, layers=CONVOLUTIONS)
    captured = sp.capture(model, images, layers=CONVOLUTIONS)
    assert planned.fallback is None
    assert list(planned) == list(captured)
    for layer, need in planned.items():
        runs = captured.calls(layer)
        assert (need.shape, need.dtype, need.calls) == (runs[0].shape, runs[0].dtype, len(runs))
        assert need.nbytes == sum(run.nbytes for run in runs)
    assert planned.nbytes == sum(record.nbytes for record in captured.records)


def test_plan_leaves_no_trace():
    """A model in training mode keeps its batch-norm statistics and the random state, also where it reads values."""

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.drop = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()

        def forward(self, x):
            y = self.drop(self.norm(self.conv(x)))
            return y if y.sum().item() > 0 else -y

    model = Reads().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    planned = sp.plan(model, IMAGES)
    assert "no values" in planned.fallback
    assert planned["conv"].shape == (1, 2, 6, 6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert model.training
