"""How values are kept: gradients, graphs, transforms, devices, dtypes and budgets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import ZOO

import spatialprobe as sp


def gradient_of(model, images, layer, loss):
    """The gradient of a layer's output by `torch.autograd.grad`, with the layer's output taken out of the graph."""
    taken = []

    def take(module, args, output):
        taken.append(output.clone().requires_grad_() if not output.requires_grad else output.clone())
        return taken[0].clone()  # so that what is written over is not what is taken

    handle = model.get_submodule(layer).register_forward_hook(take)
    value = loss(model(images))
    handle.remove()
    return torch.autograd.grad(value, taken[0])[0]


@pytest.mark.parametrize("name", ["chain", "residual", "in-place", "functional", "strided", "1-d", "3-d"])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_equal_autograd(name, frozen):
    """Every layer's gradient is autograd's, also before in-place operations and where everything is frozen."""
    model, images = ZOO[name].model(), ZOO[name].images()
    model.requires_grad_(not frozen)
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm2d)
    with sp.Probe(model, kinds, gradients=True) as probe:
        output = model(images)
    assert all(record.gradient is None for record in probe.records)
    output.square().sum().backward()
    model.requires_grad_(True)
    for record in probe.records:
        expected = gradient_of(model, images, record.layer, lambda out: out.square().sum())
        assert torch.allclose(record.gradient, expected, atol=1e-5), record.layer


def test_gradients_add_up():
    """Several backward passes add, as `.grad` does; transform and dtype leave the gradient alone."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with sp.Probe(model, "conv1", gradients=True, dtype=torch.float16, transform=lambda x: x.mean((2, 3))) as probe:
        loss = model(images).square().sum()
        loss.backward(retain_graph=True)
        once = probe["conv1"].gradient.clone()
        loss.backward()
    record = probe["conv1"]
    assert (record.shape, record.dtype) == ((2, 4), torch.float16)
    assert record.gradient.dtype == torch.float32
    assert record.gradient.shape == (2, 4, 12, 12)
    assert torch.allclose(record.gradient, 2 * once)


def test_gradient_of_the_activation():
    """After the nonlinearity, the gradient is that of the value recorded, also for an in-place ReLU."""
    model, images = ZOO["functional"].model(), ZOO["functional"].images()
    with sp.Probe(model, "conv1", at="post_activation", gradients=True) as probe:
        model(images).sum().backward()
    record = probe["conv1"]
    leaf = record.tensor.clone().requires_grad_()
    torch.sigmoid(model.conv2(F.avg_pool2d(leaf, 2))).sum().backward()
    assert torch.allclose(record.gradient, leaf.grad, atol=1e-6)


@pytest.mark.parametrize("options", [{"gradients": True}, {"keep_graph": True}])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradients_without_grad_mode(options, mode):
    """Asking for gradients where there can be none is a clear error."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with pytest.raises(sp.ProbeStateError, match="Layer 'conv1' ran without gradients"):
        with mode(), sp.Probe(model, **options):
            model(images)


def test_keep_graph():
    """A record in the graph can be differentiated, and is not changed by in-place operations after it."""
    model, images = ZOO["in-place"].model(), ZOO["in-place"].images()
    with sp.Probe(model, "norm1", keep_graph=True) as probe:
        model(images)
    (got,) = torch.autograd.grad(probe["norm1"].tensor.square().sum(), model.conv1.weight)
    (expected,) = torch.autograd.grad(model.norm1(model.conv1(images)).square().sum(), model.conv1.weight)
    assert torch.allclose(got, expected)


@pytest.mark.parametrize(
    "transform",
    [lambda x: x[:, :2], lambda x: x.mean((2, 3)), lambda x: F.max_pool2d(x, 2), lambda x: x],
    ids=["view", "mean", "pool", "identity"],
)
def test_transform(transform):
    """What the transform makes of the live tensor is kept, whatever is written over it later."""
    model, images = ZOO["in-place"].model(), ZOO["in-place"].images()
    with torch.no_grad():
        expected = transform(model.norm1(model.conv1(images)))
        with sp.Probe(model, "norm1", transform=transform) as probe:
            for _ in range(3):
                model(images)
    for record in probe.records:
        assert torch.equal(record.tensor, expected)


def test_bad_transforms():
    """A transform that returns no tensor, or writes over the model's, is refused."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with pytest.raises(sp.UnsupportedOutputError, match="transform= returned a float"):
        with sp.Probe(model, transform=lambda x: x.sum().item()):
            model(images)
    with pytest.raises(sp.ArgumentError, match="wrote over the output of layer 'conv1'"):
        with sp.Probe(model, transform=lambda x: x.relu_()):
            model(images)


def test_device_and_dtype():
    """Values are kept where and how the user says."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with torch.no_grad(), sp.Probe(model, "conv1", dtype=torch.float64, device="cpu") as probe:
        model(images)
        expected = model.conv1(images).double()
    assert torch.equal(probe["conv1", 0].tensor, expected)
    with torch.no_grad(), sp.Probe(model, "conv1", device="meta") as probe:
        model(images)
    assert probe["conv1"].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offload_from_cuda():
    """A move from CUDA to the CPU is pinned, and complete and right when it is read."""
    model, images = ZOO["in-place"].model().cuda(), ZOO["in-place"].images().cuda()
    with torch.no_grad():
        expected = model.norm1(model.conv1(images)).cpu()
        with sp.Probe(model, "norm1", device="cpu") as probe:
            model(images)
    assert probe["norm1"].tensor.is_pinned()
    assert torch.equal(probe["norm1"].tensor, expected)


def test_budget():
    """What would exceed the budget is refused before it is kept, with the figures and the ways out."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    first, second = 2 * 4 * 12 * 12 * 4, 2 * 5 * 4 * 4 * 4
    with torch.no_grad(), sp.Probe(model, max_bytes=first + second) as probe:
        model(images)
    assert sum(record.nbytes for record in probe.records) == first + second
    with pytest.raises(
        sp.MemoryBudgetError, match="'conv2' takes 640 B; 4.5 KiB are held and max_bytes allows 5.1 KiB"
    ):
        with torch.no_grad(), sp.Probe(model, max_bytes=first + second - 1):
            model(images)
    with torch.no_grad(), sp.Probe(model, "conv1", max_bytes=2 * first, copy="never") as probe:
        model(images)
        model(images)
        with pytest.raises(MemoryError):
            model(images)
    assert len(probe.records) == 2
    with pytest.raises(sp.ArgumentError, match="max_bytes is a number of bytes.*not -1"):
        sp.Probe(model, max_bytes=-1)
