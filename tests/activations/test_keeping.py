"""How values are kept: gradients, graphs, transforms, devices, dtypes and budgets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
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
    with pytest.raises(sp.ArgumentError, match="modified the output of layer 'conv1' in place"):
        with sp.Probe(model, transform=lambda x: x.relu_()):
            model(images)


def test_device_and_dtype():
    """Values are kept where and how the user says."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with torch.no_grad(), sp.Probe(model, "conv1", dtype=torch.float64, device="cpu") as probe:
        model(images)
        expected = model.conv1(images).double()
    assert torch.equal(probe["conv1", 0].tensor, expected)
    with pytest.raises(sp.ArgumentError, match="device cannot be 'meta', where tensors have no values"):
        sp.Probe(model, "conv1", device="meta")


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
    with pytest.raises(sp.ArgumentError, match="max_bytes must be a number of bytes.*not -1"):
        sp.Probe(model, max_bytes=-1)


@pytest.mark.parametrize("at", ["output", "post_activation"])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", ZOO)
def test_budget_of_just_what_is_kept(name, runs, at):
    """A bound equal to the bytes of all records is enough, in the first pass and in later ones, and never exceeded."""
    model, images = ZOO[name].model(), ZOO[name].images()

    def probed(**options):
        with torch.no_grad(), sp.Probe(model, nn.Module, at=at, missing="ignore", **options) as probe:
            for _ in range(runs):
                model(images)
        return probe

    try:
        free = probed()
    except sp.UnsupportedOutputError:
        pytest.skip("the model has layers that return no tensor")
    total = sum(record.nbytes for record in free.records)
    if at == "output":
        assert total == runs * sp.plan(model, images, layers=nn.Module).nbytes
    bounded = probed(max_bytes=total)
    for mine, other in zip(bounded.records, free.records, strict=True):
        assert torch.equal(mine.tensor, other.tensor)
    if total:
        with pytest.raises(sp.MemoryBudgetError):
            probed(max_bytes=total - 1)


class Parts(nn.Module):
    """Two layers that return halves of one tensor."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()

    def forward(self, x):
        y = x * 1
        return self.first(y[:, :1]) + self.second(y[:, 1:])


def test_budget_of_parts_of_a_larger_tensor():
    """Where sharing would hold more memory than a copy takes, a bounded probe copies, on later passes too."""
    model, images = Parts(), torch.rand(2, 2, 4, 4)
    with torch.no_grad(), sp.Probe(model, nn.Identity, max_bytes=3 * images.nbytes) as probe:
        for _ in range(3):
            model(images)
    assert all(record.tensor.untyped_storage().nbytes() == record.nbytes for record in probe.records[2:])
    assert torch.equal(probe["second", 2].tensor, images[:, 1:])


def test_a_bounded_probe_learns_of_writes():
    """What the model modifies in place is copied on later passes too, and only the copies count against the bound."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1))
    images = torch.randn(1, 1, 4, 4)
    with torch.no_grad():
        expected = model[0](images)
        with sp.Probe(model, nn.Conv2d, max_bytes=4 * expected.nbytes) as probe:
            model(images)
            model(images)
    assert torch.equal(probe["0", 0].tensor, expected)
    assert torch.equal(probe["0", 1].tensor, expected)


@pytest.mark.parametrize("transform", [None, lambda value: value], ids=["plain", "returned by a transform"])
def test_a_copied_output_is_watched_without_its_memory(transform):
    """While the first pass goes on, the model's own memory of a layer's output is freed as without a probe."""
    model, images = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(3)]), torch.rand(1, 1, 64, 64)
    seen = []
    model[1].register_forward_pre_hook(lambda module, args: seen.append(StorageWeakRef(args[0].untyped_storage())))
    model[2].register_forward_hook(lambda module, args, output: seen.append(seen[0].expired()))
    with torch.no_grad():
        sp.capture(model, images, transform=transform)
    assert seen[1]


def test_watching_leaves_a_transforms_own_tensors_alone():
    """A tensor that the transform has kept for itself keeps its values while the output is watched."""
    own = []
    record = sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 4, 4), transform=lambda value: own.append(value) or value)[
        ""
    ]
    assert torch.equal(own[0], record.tensor)


class Sealed(torch.Tensor):
    """A subclass that knows how to be detached and cloned, and refuses all else."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ not in ("detach", "clone", "__get__", "is_inference", "_is_zerotensor"):
            raise TypeError(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_watching_asks_nothing_of_a_subclass():
    """The output of a subclass that refuses most operators is recorded, and writes to its memory are noticed."""
    model = nn.Sequential(nn.Identity(), nn.Identity())
    values = torch.rand(2, 3)
    model[1].register_forward_pre_hook(lambda module, args: (values.mul_(2), None)[1])
    with sp.Probe(model, "0") as probe:
        for _ in range(3):
            model(values.as_subclass(Sealed))
    assert [type(record.tensor) for record in probe.records] == [Sealed] * 3
    first = values / 8
    for record, factor in zip(probe.records, (1, 2, 4), strict=True):
        assert torch.equal(record.tensor.as_subclass(torch.Tensor), first * factor)


@pytest.mark.parametrize("options", [{"keep_graph": True}, {"transform": torch.clone}, {}], ids=" ".join)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_budget_counts_the_dtype_that_is_kept(dtype, options):
    """The bytes counted are those of the kept values, in the dtype asked for."""
    model, images = nn.Conv2d(1, 2, 1), torch.rand(1, 1, 8, 8)
    kept = 2 * 8 * 8 * dtype.itemsize
    record = sp.capture(model, images, dtype=dtype, max_bytes=kept, **options)[""]
    assert record.nbytes == kept
    with pytest.raises(sp.MemoryBudgetError, match=f"takes {kept / 1024:.1f} KiB|takes {kept} B"):
        sp.capture(model, images, dtype=dtype, max_bytes=kept - 1, **options)


@pytest.mark.parametrize("keep_graph", [False, True])
def test_budget_of_sparse_outputs(keep_graph):
    """A sparse output takes the bytes of its values and indices, and no more."""

    class Sparse(nn.Module):
        def forward(self, x):
            return (x * 1).to_sparse()

    image = torch.zeros(1, 1, 100, 100, requires_grad=True)
    image.data[0, 0, 3, 4] = 2.0
    size = 4 + 4 * 8  # one value, and four numbers that say where
    record = sp.capture(nn.Sequential(Sparse()), image, layers="0", max_bytes=size, keep_graph=keep_graph)["0"]
    assert record.nbytes == size
    assert record.numpy().sum() == 2.0
    with pytest.raises(sp.MemoryBudgetError, match="takes 36 B"):
        sp.capture(nn.Sequential(Sparse()), image, layers="0", max_bytes=size - 1, keep_graph=keep_graph)


@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint4x2, torch.bits8])
def test_dtypes_that_hold_no_values_by_themselves(dtype):
    """A dtype that torch converts nothing to is refused before the model runs."""
    with pytest.raises(sp.ArgumentError, match=f"dtype cannot be {dtype}"):
        sp.Probe(nn.Conv2d(1, 1, 1), dtype=dtype)
