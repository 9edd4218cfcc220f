"""Gradients of records: autograd's, whatever shares memory, is modified in place, is frozen or was picked."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from aliasing import Program, gradients_of, random_program
from torch import nn

import spatialprobe as sp


class Then(nn.Module):
    """A module whose output is given to a function."""

    def __init__(self, module, follow):
        super().__init__()
        self.module, self.follow = module, follow

    def forward(self, x):
        return self.follow(self.module(x))


class Chain(nn.Module):
    """A first layer, the layer that is probed, and what comes after it."""

    def __init__(self, layer, successor):
        super().__init__()
        self.first, self.layer, self.successor = nn.Conv2d(3, 3, 1), layer, successor

    def forward(self, x):
        return self.successor(self.layer(self.first(x)))


def plus_times(y):
    y += 1
    y *= 1.5
    return y


def set_first(y):
    y[:, 0] = 0.5
    return y


def through_a_view(y):
    y[1:].mul_(3)
    return y


def through_the_base(y):
    (y._base if y._is_view() else y).mul_(2)
    return y


def read_then_write(y):
    before = (y * 3).sum()
    return before + y.relu_().sum()


class Tripled(torch.autograd.Function):
    """An in-place function of somebody's own, whose first argument is not the one that it modifies."""

    @staticmethod
    def forward(ctx, other, x):
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx, gradient):
        return None, 3 * gradient


LAYERS = {
    "conv": lambda: nn.Conv2d(3, 4, 3),
    "instance norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)),
    "linear on four axes": lambda: nn.Linear(6, 5),
    "identity": nn.Identity,
    "dropout": lambda: nn.Dropout(0.5).eval(),
    "group norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)),
    "max-pool": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)),
}
VIEWS = {
    "itself": lambda y: y,
    "flat": lambda y: y.flatten(1),
    "transposed": lambda y: y.transpose(-1, -2),
    "channels last": lambda y: y.movedim(1, -1),
    "tail": lambda y: y[:, 1:],
    "every other": lambda y: y[..., ::2],
    "diagonal": lambda y: y.diagonal(0, -1, -2),
    "windows": lambda y: y.unfold(-1, 2, 2),
    "view of a view": lambda y: y.mT[:, :1].unsqueeze(0),
}
SUCCESSORS = {
    "none": lambda y: y,
    "relu_": lambda y: y.relu_(),
    "functional": lambda y: F.elu(y, inplace=True),
    "operators": plus_times,
    "index": set_first,
    "through a view": through_a_view,
    "through the base": through_the_base,
    "read, then written": read_then_write,
    "custom": lambda y: Tripled.apply(y.detach().sum(), y),
}


def chain(layer, view, successor, *, frozen):
    torch.manual_seed(0)
    return Chain(Then(LAYERS[layer](), VIEWS[view]), SUCCESSORS[successor]).double().requires_grad_(not frozen)


def weighted(output):
    return (output.flatten() * torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype)).square().sum()


def expected_gradient(model, images):
    """That of a clone of the layer's output, which shares no memory with anything."""
    taken = []

    def take(module, args, output):
        taken.append(output.detach().clone().requires_grad_())
        return taken[0].clone()

    handle = model.layer.register_forward_hook(take)
    gradient = torch.autograd.grad(weighted(model(images)), taken[0])[0]
    handle.remove()
    return gradient


IMAGES = torch.randn(2, 3, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("successor", SUCCESSORS)
@pytest.mark.parametrize("layer", LAYERS)
def test_views_and_in_place_successors(layer, successor, frozen):
    """For every kind of view the gradient is that of a clone in the output's place; all else is as without a probe."""
    for view in VIEWS:
        bare = chain(layer, view, successor, frozen=frozen)
        output = bare(IMAGES.clone())
        model = chain(layer, view, successor, frozen=frozen)
        with sp.Probe(model, "layer", gradients=True) as probe:
            probed = model(IMAGES.clone())
        assert torch.equal(probed, output), view
        weighted(probed).backward()
        expected = expected_gradient(chain(layer, view, successor, frozen=True), IMAGES.clone())
        assert torch.allclose(probe["layer"].gradient, expected), view
        if not frozen:
            weighted(output).backward()
            for one, other in zip(model.parameters(), bare.parameters(), strict=True):
                assert torch.equal(one.grad, other.grad), view


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64, torch.complex128])
@pytest.mark.parametrize("frozen", [False, True])
def test_dtypes(dtype, frozen):
    """Gradients have the dtype and shape of the value recorded, complex ones too, and parts of complex tensors."""
    weight = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).to(dtype).requires_grad_(not frozen)
    model = Then(Then(nn.Identity(), lambda x: (x * weight).mT), lambda y: y.mul_(2))
    images = torch.linspace(0.5, 2, 12).reshape(3, 4).to(dtype)
    with sp.Probe(model, "module", gradients=True) as probe:
        output = model(images)
    (output.real * torch.arange(12.0).reshape(4, 3)).sum().backward()
    gradient = probe["module"].gradient
    assert (gradient.dtype, gradient.shape) == (dtype, (4, 3))
    assert torch.equal(gradient, (2 * torch.arange(12.0).reshape(4, 3)).to(dtype))


@pytest.mark.parametrize("part", ["real", "imag", "conj", "view_as_real"])
def test_parts_of_complex_tensors(part):
    """The gradient of a real or imaginary part is found through a write in place, too."""
    views = {
        "real": lambda y: y.real,
        "imag": lambda y: y.conj().imag,
        "conj": lambda y: y.conj(),
        "view_as_real": torch.view_as_real,
    }
    weight = torch.randn(3, 4, dtype=torch.complex128, requires_grad=True)
    model = Chain(Then(nn.Identity(), lambda x: views[part](x * weight)), lambda y: y.mul_(2))
    model.first = nn.Identity()
    images = torch.randn(3, 4, dtype=torch.complex128)
    with sp.Probe(model, "layer", gradients=True) as probe:
        output = model(images)
    factors = torch.randn_like(output)
    (output * factors).real.sum().backward()
    assert torch.allclose(probe["layer"].gradient, 2 * factors.conj().resolve_conj())


class Refused(Exception):
    """Torch does not differentiate a program: it modifies what a gradient needs."""


def run_program(steps, x, weight, given, layers=()):
    """What the program computes, what it leaves in its input, the weight's gradient, and the records' gradients."""
    model = Program(steps, weight if given == "weight" else None)
    images = x.clone().requires_grad_() * 1 if given == "graph" else x.clone()
    probe = sp.Probe(model, list(layers) or nn.Module, gradients=bool(layers), missing="ignore")
    try:
        if layers:
            with probe:
                output = model(images)
        else:
            output = model(images)
        if output.requires_grad:
            output.backward()
    except RuntimeError as error:
        if isinstance(error, sp.SpatialProbeError) or "modified by an inplace operation" not in str(error):
            raise
        raise Refused from error
    return output.detach(), images.detach(), given == "weight" and model.weight.grad, probe


def gradient_or_none(record):
    """The gradient of a record; None where it is refused."""
    try:
        return record.gradient
    except sp.MutatedActivationError:
        return None


def same(found, expected):
    """Whether two gradients are equal, None standing for zeros."""
    if found is None or expected is None:
        return all(one is None or not one.any() for one in (found, expected))
    return torch.allclose(found, expected)


@pytest.mark.parametrize("first", range(0, 240, 40))
@pytest.mark.parametrize("given", ["frozen", "graph", "weight"])
def test_random_programs(given, first):
    """Of programs whose tensors share memory, all stays bit for bit; gradients are an interpreter's, or refused.

    Where a layer returns the tensor it was given, the gradient of that tensor is summed in two parts.
    """
    right, refused = 0, 0
    for seed in range(first, first + 40):
        steps, generator = random_program(seed, 4 + seed % 8), torch.Generator().manual_seed(seed)
        x, weight = (torch.randn(4, 3, dtype=torch.double, generator=generator) for _ in range(2))
        layers = [f"layers.{number}" for number, step in enumerate(steps) if step.is_layer]
        try:
            bare = run_program(steps, x, weight, given)
            run_program(steps, x, weight, "graph")
        except Refused:
            continue
        *probed, probe = run_program(steps, x, weight, given, layers)
        assert torch.equal(probed[0], bare[0]), seed
        assert torch.equal(probed[1], bare[1]), seed
        if given == "weight":
            summed_apart = any(step.kind == "same" and step.is_layer for step in steps)
            assert (torch.allclose if summed_apart else torch.equal)(probed[2], bare[2]), seed
        _, expected = gradients_of(steps, x, weight if given == "weight" else None, frozen=given == "frozen")
        for number, gradient in expected.items():
            found = gradient_or_none(probe[f"layers.{number}"])
            is_refused = found is None and gradient is not None and gradient.any()
            assert not is_refused or given == "frozen", (seed, number)
            assert is_refused or same(found, gradient), (seed, number)
            right, refused = right + (not is_refused), refused + is_refused
    assert right > 20 * refused


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "layer", [nn.Identity(), nn.Dropout(0.5), nn.Sequential(), nn.Flatten(1), nn.Flatten(0, 0)], ids=str
)
def test_layers_that_return_what_they_are_given(layer, frozen):
    """The gradient of a shortcut is that of the shortcut alone, in a frozen model too; edits confirm it."""

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.branch, self.layer = nn.Linear(3, 4), nn.Linear(4, 4), layer

        def forward(self, x):
            x = self.first(x)
            before = (x * 5).sum()
            y = self.branch(x)
            y += self.layer(x)
            return (y.square() * torch.arange(1.0, 5)).sum() + before + (x * 7).sum()

    torch.manual_seed(0)
    model, images = Shortcut().eval().double().requires_grad_(not frozen), torch.rand(2, 3, dtype=torch.double)
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(images).backward()
    gradient, step = probe["layer"].gradient, 1e-6
    for place in ((0, 0), (1, 2)):
        moved = torch.zeros(2, 4, dtype=torch.double)
        moved[place] = step
        with torch.no_grad(), sp.edited(model, {"layer": lambda output, moved=moved: output + moved}):
            more = model(images)
        with torch.no_grad():
            assert torch.allclose((more - model(images)) / step, gradient[place], rtol=1e-4)


def test_in_place_layers_have_the_gradient_of_their_tensor():
    """A layer that modifies what it is given, and returns it, has the gradient of that tensor, whatever its name."""

    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layer = nn.Linear(3, 4), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.first(x)
            self.layer(x)  # what it returns is not used
            return (x * 3).sum()

    model = Dropped()
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(torch.rand(2, 3)).backward()
    assert probe["layer"].gradient.unique().tolist() == [3.0]


class Aliased(nn.Module):
    """Its parts share memory: what the layer returns is its input, which is modified in place afterwards."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        same = self.layer(x)
        return torch.relu_(x) + same


@pytest.mark.parametrize("before", [nn.Identity(), nn.Conv2d(3, 3, 1)], ids=["input", "conv"])
def test_frozen_parts_that_share_memory(before):
    """A frozen model computes what it computes without a probe, and the gradient knows of the shared memory."""
    model = nn.Sequential(before, Aliased()).requires_grad_(False).double()
    images, given = IMAGES.clone(), IMAGES.clone()
    expected = model(images)
    with sp.Probe(model, "1.layer", gradients=True) as probe:
        output = model(given)
    assert torch.equal(output, expected)
    assert torch.equal(given, images)
    assert given.is_leaf
    assert not given.requires_grad
    output.sum().backward()
    assert torch.equal(probe["1.layer"].gradient, 2.0 * (probe["1.layer"].tensor > 0))


def test_late_writes_are_errors():
    """What is done in place to an output that is a view, after the forward, is an error when the gradient is read."""
    model = nn.Sequential(nn.Linear(6, 5))
    with sp.Probe(model, "0", gradients=True) as probe:
        output = model(torch.rand(2, 3, 6))
    output *= 2
    output.sum().backward()
    with pytest.raises(sp.MutatedActivationError, match="gradient of layer '0' is not known: the output is a view"):
        _ = probe["0"].gradient
    with sp.Probe(model, "0", gradients=True) as probe:
        model(torch.rand(2, 3, 6)).mul_(2).sum().backward()
    with pytest.raises(sp.MutatedActivationError, match="outside the model's forward pass"):
        _ = probe["0"].gradient
    with sp.Probe(model, "0", gradients=True) as probe:
        (model(torch.rand(2, 3, 6)) * 2).sum().backward()
    assert probe["0"].gradient.unique().tolist() == [2.0]


def test_layers_run_by_hand():
    """Outside the model's own forward, gradients are right, and in-place operations found when another layer runs."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 3)).double()
    for write, message in ((lambda y: y * 2, None), (lambda y: y.mul_(2), "run the whole model inside the block")):
        with sp.Probe(model, ["0", "1"], gradients=True) as probe:
            normalized = write(model[1](model[0](IMAGES)))
            normalized.square().sum().backward()
        if message is None:
            assert torch.allclose(probe["1"].gradient, 8 * probe["1"].tensor)
        else:
            with pytest.raises(sp.MutatedActivationError, match=message):
                _ = probe["1"].gradient
    with sp.Probe(model, ["1", "2"], gradients=True) as probe:
        model[2](model[1](model[0](IMAGES)).mul_(2)).sum().backward()
    expected = F.conv_transpose2d(torch.ones(2, 2, 2, 2, dtype=torch.double), model[2].weight)
    assert torch.allclose(probe["1"].gradient, 2 * expected)


def test_overlapping_elements():
    """Where elements of an output share a position in memory that is modified in place, there is no one gradient."""
    model = Chain(Then(nn.Conv2d(3, 4, 3), lambda y: y[:, :, None].expand(-1, -1, 2, -1, -1)), lambda y: y.sum())
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(IMAGES.float()).backward()
    assert probe["layer"].gradient.unique().tolist() == [1.0]
    model.successor = lambda y: (y._base.mul_(2), y.sum())[1]
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(IMAGES.float()).backward()
    with pytest.raises(sp.MutatedActivationError, match="several elements of the output share one position"):
        _ = probe["layer"].gradient


@pytest.mark.parametrize("given", ["leaf", "graph", "parameter"])
def test_tensors_of_the_user_get_no_hooks(given):
    """What a layer returns, be it the model's input or a parameter, keeps no hook; later passes change no record."""
    own = torch.rand(2, 3, requires_grad=True)
    given_to_it = own * 1 if given == "graph" else own
    layer = nn.Identity()
    if given == "parameter":
        layer = Then(nn.Identity(), lambda x: own)
    model = nn.Sequential(layer, nn.Linear(3, 2))
    for _ in range(2):
        with sp.Probe(model, "0", gradients=True) as probe:
            output = model(given_to_it)
        output.sum().backward(retain_graph=True)
        once = probe["0"].gradient.clone()
        assert torch.allclose(once, model[1].weight.sum(0).expand(2, 3))
        assert not own._backward_hooks
        own.grad = None
        (given_to_it * 3).sum().backward(retain_graph=True)
        model(given_to_it).sum().backward(retain_graph=True)
        assert torch.equal(probe["0"].gradient, once)
        assert torch.allclose(own.grad, once + 3)
    output.sum().backward()
    assert torch.allclose(probe["0"].gradient, 2 * once)


class Holds(nn.Module):
    """A model of which a layer returns what outlives the forward pass."""

    def __init__(self, kind):
        super().__init__()
        self.layer = Then(nn.Identity(), lambda x: self.held(kind)[: len(x)])
        self.weight = nn.Parameter(torch.rand(4, 3), requires_grad=False)
        self.register_buffer("table", torch.rand(4, 3))
        self.attribute, self.listed = torch.rand(4, 3), [torch.rand(4, 3)]

    def held(self, kind):
        return self.listed[0] if kind == "listed" else getattr(self, kind)

    def forward(self, x):
        return x * self.layer(x)


@pytest.mark.parametrize("kind", ["weight", "table", "attribute", "listed"])
def test_state_of_a_frozen_model_stays_out_of_the_graph(kind):
    """Parameters, buffers and attributes of a frozen model need no gradient afterwards; the record has one."""
    model, images = Holds(kind), torch.rand(2, 3)
    with sp.Probe(model, "layer", gradients=True) as probe:
        output = model(images)
    output.sum().backward()
    assert torch.equal(probe["layer"].gradient, images)
    held = model.held(kind)
    assert held.is_leaf
    assert not held.requires_grad
    with sp.Probe(model, "layer", gradients=True) as probe:
        model.layer.follow = lambda x: held[:2].mul_(2)
        model(images).sum().backward()
    assert torch.equal(probe["layer"].gradient, images)
    model.forward = lambda x: (x * model.layer(x), held.add_(1))[0]
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(images).sum().backward()
    with pytest.raises(sp.MutatedActivationError, match="used elsewhere, and its memory was modified in place"):
        _ = probe["layer"].gradient


def test_inputs_that_share_memory():
    """Of a frozen model's inputs that are views of one tensor, a write through one is known to the others."""

    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, whole, *, row):
            same = self.layer(row)
            whole.mul_(3)
            return same.sum()

    images = torch.rand(2, 3)
    model = TwoInputs()
    with sp.Probe(model, "layer", gradients=True) as probe:
        model(images, row=images[0]).backward()
    assert probe["layer"].gradient.tolist() == [3.0, 3.0, 3.0]
    assert not images.requires_grad


@dataclass(frozen=True)
class Result:
    """What a block returns: no container that torch knows."""

    maps: torch.Tensor
    name: str = "maps"


class Opaque:
    """An output that shows its tensor by a property alone."""

    __slots__ = ("_hidden",)

    def __init__(self, maps):
        self._hidden = maps

    @property
    def maps(self):
        return self._hidden


class Returns(nn.Module):
    """A block that returns its maps in something, inside a model that uses the maps."""

    def __init__(self, wrap, unwrap):
        super().__init__()
        self.block = Then(nn.Conv2d(3, 4, 3), wrap)
        self.unwrap = unwrap

    def forward(self, x):
        return weighted(self.unwrap(self.block(x)))


CONTAINERS = {
    "tuple": (lambda y: (y, 1), lambda out: out[0]),
    "dictionary": (lambda y: {"maps": [y]}, lambda out: out["maps"][0]),
    "dataclass": (Result, lambda out: out.maps),
    "nested": (lambda y: {"result": [Result(y)]}, lambda out: out["result"][0].maps),
    "object": (Opaque, lambda out: out.maps),
}
PARTS = {
    "whole": lambda maps: maps,
    "tail": lambda maps: maps[:, 1:],
    "one channel": lambda maps: maps[:, 2],
    "every other, transposed": lambda maps: maps[..., ::2].mT,
    "flat": lambda maps: maps.flatten(1),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_picked_tensors(container, part, frozen):
    """What is picked from an output, whole or in part, has its part of the gradient; the model's own pass works."""
    wrap, unwrap = CONTAINERS[container]
    model = Returns(wrap, unwrap).double().requires_grad_(not frozen)
    with sp.Probe(model, "block", gradients=True, pick=lambda out: PARTS[part](unwrap(out))) as probe:
        loss = model(IMAGES)
    loss.backward()
    maps = model.block.module(IMAGES).detach().requires_grad_()
    weighted(maps).backward()
    assert torch.equal(probe["block"].tensor, PARTS[part](maps.detach()))
    assert torch.allclose(probe["block"].gradient, PARTS[part](maps.grad))


def test_picked_from_views_that_are_modified():
    """A part of a view that the model modifies in place afterwards has its gradient, too."""
    model = Returns(lambda y: (y.mT, y.sum()), lambda out: out[0].mul_(2)).double()
    with sp.Probe(model, "block", gradients=True, pick=lambda out: out[0][:, 1:]) as probe:
        model(IMAGES).backward()
    maps = model.block.module(IMAGES).mT.detach().requires_grad_()
    weighted(maps * 2).backward()
    assert torch.allclose(probe["block"].gradient, maps.grad[:, 1:])


@pytest.mark.parametrize("pick", [lambda out: out[0] * 2, lambda out: out[0].mean(1), lambda out: out[0][:, [0, 2]]])
def test_what_was_computed_has_no_gradient(pick):
    """A new tensor that the picking function makes is no part of the model, which is said at once."""
    model = Returns(lambda y: (y,), lambda out: out[0])
    with pytest.raises(sp.UnsupportedOutputError, match=r"returned a new tensor \(.*\) for layer 'block'"):
        with sp.Probe(model, "block", gradients=True, pick=pick):
            model(IMAGES.float())


def test_aliases_in_containers():
    """Where a frozen block returns the model's input in a dataclass, an alias takes its place there."""
    model = nn.Sequential(Then(nn.Identity(), Result), Then(nn.Identity(), lambda result: result.maps * 3))
    images = torch.rand(2, 3)
    with sp.Probe(model, "0", gradients=True, pick=lambda out: out.maps) as probe:
        model(images).sum().backward()
    assert probe["0"].gradient.unique().tolist() == [3.0]
    assert not images.requires_grad


def test_copied_records_hold_their_gradients():
    """A copied or pickled record has the gradient of that moment."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with sp.Probe(model, gradients=True) as probe:
        loss = model(IMAGES.float()).sum()
    loss.backward(retain_graph=True)
    copies = [copy.deepcopy(probe["0"]), pickle.loads(pickle.dumps(probe["0"]))]
    loss.backward()
    for one in copies:
        assert one.gradient.unique().tolist() == [1.0]
    assert probe["0"].gradient.unique().tolist() == [2.0]


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_keeps_tensors_alive(frozen):
    """With gradients, too, all tensors go with the probe and the loss, without the garbage collector."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    model.requires_grad_(not frozen)
    outputs = []
    for layer in model:
        layer.register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    gc.disable()
    try:
        with sp.Probe(model, nn.Module, gradients=True) as probe:
            loss = model(torch.rand(2, 3, 8, 8)).sum()
        loss.backward()
        assert all(record.gradient is not None for record in probe.records)
        del probe, loss
        assert [output() for output in outputs] == [None] * 4
    finally:
        gc.enable()


class Sliced(nn.Module):
    """A layer whose output is a part of a larger tensor, which the model modifies in place afterwards."""

    def __init__(self):
        super().__init__()
        self.part = nn.Identity()

    def forward(self, x):
        whole = x * 3
        part = self.part(whole[:, 1:])
        part.mul_(2)
        return whole


def one_after_the_other(output, images, rows):
    """The gradients of the images by one backward pass for each row."""
    return torch.stack([torch.autograd.grad(output, images, row, retain_graph=True)[0] for row in rows])


def at_once(output, images, rows):
    """The same by one batched backward pass."""
    return torch.autograd.grad(output, images, rows, is_grads_batched=True, retain_graph=True)[0]


def mapped(output, images, rows):
    """The same under `vmap`."""
    return torch.vmap(lambda row: torch.autograd.grad(output, images, row, retain_graph=True)[0])(rows)


@pytest.mark.parametrize("batched", [at_once, mapped])
@pytest.mark.parametrize(
    ("model", "layer"),
    [(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3)), "0"), (Sliced(), "part")],
    ids=["chain", "view"],
)
def test_many_gradients_at_once(model, layer, batched):
    """A batched backward pass gives what it gives without a probe; reading what has no sum is a clear error."""
    images = torch.rand(1, 2, 6, 6, requires_grad=True)
    with sp.Probe(model, layer, gradients=True) as probe:
        output = model(images)
        rows = torch.eye(output.numel()).reshape(-1, *output.shape)
        found = batched(output, images, rows)
    plain = model(images)
    torch.testing.assert_close(found, one_after_the_other(plain, images, rows))
    with pytest.raises(sp.UnsupportedOutputError, match="batched gradients"):
        probe[layer].gradient  # noqa: B018
    assert probe[layer].tensor.shape[0] == 1
    with sp.Probe(model, layer, gradients=True) as probe:
        one_after_the_other(model(images), images, rows)
    assert probe[layer].gradient.shape == probe[layer].shape
