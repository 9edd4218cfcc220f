"""How a model is followed: left as it was, on meta tensors or not, with several inputs, sources and gates."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth
from zoo import ZOO

import spatialprobe as sp
from fields.perturbation import hulls, seen


def state(model):
    """All that must be as it was: attributes of every module, values, modes, hooks."""
    return [
        (
            {k: (id(v), v._version) if isinstance(v, torch.Tensor) else repr(v) for k, v in vars(m).items()},
            {name: (id(p), p._version, p.grad) for name, p in m._parameters.items() if p is not None},
            {name: (id(b), b.clone().tolist()) for name, b in m._buffers.items() if b is not None},
            m.training,
        )
        for m in model.modules()
    ]


class Cached(nn.Module):
    """Keeps what it computed, in an attribute, a list and a dictionary, as anchor generators do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.last = None
        self.history = []
        self.by_shape = {}
        self.calls = 0

    def forward(self, x):
        self.last = self.conv(x)
        self.history.append(self.last)
        self.by_shape[tuple(x.shape)] = self.last
        self.calls += 1
        self.made_here = True
        return self.last


class Reads(nn.Module):
    """Looks at values, which meta tensors do not have."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x):
        y = self.conv(self.norm(x))
        return y * 2 if y.sum().item() > 0 else y


class Raises(nn.Module):
    """Runs a layer, and fails."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x):
        self.conv(x)
        raise KeyError("the model's own trouble")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Cached, (1, 3, 8, 8)),
        (Reads, (1, 1, 8, 8)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)), (2, 1, 8, 8)),
        (ZOO["in-place"].make, (1, 3, 8, 8)),
    ],
)
def test_model_is_as_it_was(make, shape, train):
    """Attributes, caches, statistics, modes, hooks, gradients and random state: all untouched."""
    model = make().train(train)
    before, random = state(model), torch.get_rng_state()
    sp.receptive_fields(model, shape)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert not hasattr(model, "made_here")


def test_model_that_raises():
    """The error names the model and its inputs, has the model's own as its cause, and leaves no hooks."""
    model = Raises()
    before = state(model)
    with pytest.raises(sp.ForwardError, match=r"Raises raised KeyError on an input of \(1, 1, 8, 8\)") as caught:
        sp.receptive_fields(model, (1, 1, 8, 8))
    assert isinstance(caught.value.__cause__, KeyError)
    assert state(model) == before


def test_plan_leaves_caches_alone():
    """A plan's pass on meta tensors is undone in the model's attributes too."""
    model = Cached()
    before = state(model)
    sp.plan(model, torch.zeros(1, 3, 8, 8))
    assert state(model) == before


def test_values_are_read_on_the_real_device():
    """A model that reads values is followed for real, and the result says why; boxes before that are the same."""
    fields = sp.receptive_fields(Reads().eval(), (1, 1, 8, 8))
    assert "item" in fields["conv"].fallback
    assert fields["conv"].box(0, 0) == (0, 0, 3, 3)
    assert fields["conv"].exact
    assert (fields[""].exact, fields[""].is_global) == (False, True)


def test_values_that_leave_torch():
    """What comes back from numpy, or out of a list, may depend on all of the input, and says so."""

    class Outside(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.numpy() * 2)

    class Listed(nn.Module):
        def forward(self, x):
            return x + torch.tensor(x.flatten().tolist()).reshape(x.shape)

    for model, word in ((Outside(), "numpy"), (Listed(), "tolist")):
        field = sp.receptive_fields(model, (1, 1, 4, 4))[""]
        assert field.box(1, 1) == (0, 0, 4, 4)
        assert not field.exact
        assert f"a value read into Python ({word})" in field.unknown


class First(nn.Module):
    """Takes images in a list, as detectors do."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, images):
        return self.conv(torch.stack(images) if images[0].ndim == len(self.conv.kernel_size) + 1 else images[0])


@pytest.mark.parametrize(
    ("conv", "shape", "size"),
    [
        (nn.Conv2d(3, 1, 3), (3, 8, 9), (3, 3)),
        (nn.Conv2d(3, 1, 3), (1, 3, 8, 9), (3, 3)),
        (nn.Conv1d(3, 1, 3), (1, 3, 9), (3,)),
        (nn.Conv1d(3, 1, 3), (3, 9), (3,)),
        (nn.Conv3d(1, 1, 2), (1, 4, 5, 6), (2, 2, 2)),
    ],
)
def test_images_in_a_list(conv, shape, size):
    """An image in a list has no batch axis, or has one: the axes of the model's convolutions tell which are spatial."""
    field = sp.receptive_fields(First(conv), ([torch.rand(shape)],))[""]
    assert (field.size, field.input_size, field.exact) == (size, shape[-len(size) :], True)


def test_images_in_a_list_in_doubt():
    """Where nothing tells which axes are spatial, they are to be named; of several images none is the input."""
    for image in (torch.rand(3, 8, 9), torch.rand(2, 9)):
        with pytest.raises(sp.ArgumentError, match=rf"a tensor of {image.ndim} dimensions in a list.*axes="):
            sp.receptive_fields(nn.Identity(), ([image],))
    with pytest.raises(sp.ArgumentError, match=r"holds 2\. Of a list of images, pass one image"):
        sp.receptive_fields(First(nn.Conv2d(3, 1, 3)), ([torch.rand(3, 8, 9)] * 2,))
    named = sp.receptive_fields(First(nn.Conv2d(3, 1, 3)), ([torch.rand(3, 8, 9)],), axes=(2,))[""]
    assert named.input_size == (9,)


class Branches(nn.Module):
    """Sees the whole image in training, as an auxiliary head or a sampling layer may."""

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True) if self.training else x


class Functional(nn.Module):
    """Asks functions for training instead of modules."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("var", torch.ones(2))

    def forward(self, x):
        x = F.batch_norm(x, self.mean, self.var, training=self.training)
        x = F.instance_norm(x, self.mean, self.var, use_input_stats=self.training)
        return F.dropout(x, 0.5, self.training)


class AlwaysTrains(nn.BatchNorm2d):
    """A batch norm that takes the statistics of the batch in evaluation too."""

    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


NORMS = {
    "batch norm": lambda: nn.BatchNorm2d(2),
    "instance norm with statistics": lambda: nn.InstanceNorm2d(2, track_running_stats=True, affine=True),
    "instance norm without": lambda: nn.InstanceNorm2d(2),
    "dropout": lambda: nn.Dropout2d(0.5),
    "random slope": lambda: nn.RReLU(),
    "stochastic depth": lambda: StochasticDepth(0.5, "row"),
    "branch": Branches,
    "functions": Functional,
}


@pytest.mark.parametrize("reads", [False, True], ids=["shapes", "values"])
@pytest.mark.parametrize("name", NORMS)
def test_fields_are_those_of_evaluation_mode(name, reads):
    """In whatever mode the model is found, its boxes are what perturbation shows in evaluation mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), NORMS[name](), nn.Conv2d(2, 2, 2))
    if reads:
        model.append(Tells())
    truth = seen(model.eval(), (1, 1, 7, 6))
    model.train()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    fields = sp.receptive_fields(model, (1, 1, 7, 6))
    assert (fields[""].fallback is not None) == reads
    for layer in fields if not reads else ["0", "1", "2"]:  # what comes after may depend on what was read
        boxes = hulls(truth[layer][0].any(axis=0), 2)
        np.testing.assert_array_equal(fields[layer].boxes(), boxes, err_msg=layer)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("norm", [AlwaysTrains(2), nn.BatchNorm2d(2, track_running_stats=False)])
@pytest.mark.parametrize("mode", [True, False])
def test_statistics_of_the_batch_in_evaluation(norm, mode):
    """A batch norm that takes them in evaluation too sees all of the image, found in any mode."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), norm).train(mode)
    fields = sp.receptive_fields(model, (2, 1, 7, 6))
    assert fields["1"].is_global
    assert not fields["0"].is_global


class Tells(nn.Module):
    """Reads a value, which changes nothing."""

    def forward(self, x):
        return x * float(x.isfinite().all().item())


def test_effective_field_of_a_model_in_training_mode():
    """An instance norm with running statistics does not widen the box of the effective field, found in any mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True), nn.ReLU())
    images = torch.rand(2, 3, 17, 17)
    found = [sp.effective_receptive_field(model.train(mode), images, "2") for mode in (True, False)]
    assert found[0].box == found[1].box == (7, 7, 10, 10)
    assert (found[0].map == found[1].map).all()


def test_large_models_are_not_copied():
    """Parameters of a model of a terabyte are never made: it lives on the meta device."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 2**18, 3), nn.Conv2d(2**18, 2**18, 1))
    assert sp.receptive_fields(model, (1, 3, 8, 8))["1"].size == (3, 3)
    with torch.device("meta"):
        unable = nn.Sequential(nn.Conv2d(1, 1, 3), Reads())
    with pytest.raises(sp.ForwardError, match=r"(?s)Sequential raised.*\nIts weights are on the meta device"):
        sp.receptive_fields(unable, (1, 1, 8, 8))
    with pytest.raises(sp.ForwardError, match=r"(?s)Sequential raised.*\nPass the shape"):
        sp.receptive_fields(unable, (1, 2, 8, 8))


class Two(nn.Module):
    """Two images, of which one is seen closely and one from afar."""

    def __init__(self):
        super().__init__()
        self.near = nn.Conv2d(1, 1, 3, padding=1)
        self.far = nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, a, b):
        return self.near(a) + self.far(b)


def test_inference_mode():
    """Fields are the same inside `torch.inference_mode`, and of a model that turns it on by itself."""

    class Inference(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = ZOO["chain"].model()

        @torch.inference_mode()
        def forward(self, x):
            return self.body(x)

    expected = sp.receptive_fields(ZOO["chain"].model(), (1, 3, 12, 12))
    with torch.inference_mode():
        inside = sp.receptive_fields(ZOO["chain"].model(), (1, 3, 12, 12))
        assert torch.is_inference_mode_enabled()
    own = sp.receptive_fields(Inference(), (1, 3, 12, 12))
    for name, field in expected.items():
        for other in (inside[name], own[f"body.{name}" if name else "body"]):
            assert other.exact
            assert (other.boxes() == field.boxes()).all()


def test_several_inputs():
    """Fields speak of the input that is asked for; layers that do not see it have empty ones."""
    shapes = ((1, 1, 8, 8), (1, 1, 8, 8))
    first = sp.receptive_fields(Two(), shapes)
    second = sp.receptive_fields(Two(), (torch.zeros(1, 1, 8, 8), (1, 1, 8, 8)), input=1)
    assert (first[""].size, second[""].size) == ((3, 3), (5, 5))
    assert first["far"].box(3, 3) is None
    assert second["far"].box(3, 3) == (1, 1, 6, 6)


def test_channels_last_and_tokens():
    """`axes` names the input's spatial axes, `unit_axes` those of outputs."""

    class Last(nn.Module):
        def forward(self, x):
            return F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)

    field = sp.receptive_fields(Last(), (1, 6, 8, 3), axes=(1, 2), unit_axes=(1, 2))[""]
    assert (field.output_size, field.size, field.stride) == ((3, 4), (2, 2), (2, 2))
    assert field.box(1, 2, channel=2) == (2, 4, 4, 6)
    tokens = nn.Sequential(nn.Conv2d(1, 5, 4, stride=4), nn.Flatten(2))
    tokens.add_module("turn", _Turned())
    field = sp.receptive_fields(tokens, (1, 1, 8, 12), unit_axes=(1,), layers="turn")["turn"]
    assert field.output_size == (6,)
    assert [field.box(unit) for unit in range(6)] == [
        (4 * (unit // 3), 4 * (unit % 3), 4 * (unit // 3) + 4, 4 * (unit % 3) + 4) for unit in range(6)
    ]


def _written(canvas, x):
    canvas[:, :1] = x
    return canvas


class Beside(nn.Module):
    """An image with something beside it, then a convolution."""

    def __init__(self, beside):
        super().__init__()
        self.beside, self.joined, self.conv = beside, nn.Identity(), nn.Conv2d(2, 2, 3)

    def forward(self, x):
        return self.conv(self.joined(self.beside(x)))


@pytest.mark.parametrize(
    "beside",
    [
        lambda x: torch.cat([x, torch.zeros_like(x)], 1),
        lambda x: torch.cat([torch.linspace(0, 1, x.shape[3]).expand(x.shape), x], 1),
        lambda x: torch.stack([x[:, 0], torch.ones_like(x[:, 0])], 1),
        lambda x: torch.zeros(len(x), 2, *x.shape[2:]).index_copy(1, torch.tensor([0]), x),
        lambda x: _written(torch.zeros(len(x), 2, *x.shape[2:]), x),
        lambda x: _written(torch.zeros(2, len(x), *x.shape[2:]).transpose(0, 1), x),
    ],
    ids=["zeros", "coordinates", "stack", "index_copy", "written", "written to a view"],
)
def test_constant_channels(beside):
    """Channels that do not depend on the input change nothing about the fields, in borders or without them."""
    fields = sp.receptive_fields(Beside(beside), (1, 1, 12, 16))
    for name, side in (("joined", 1), ("conv", 3)):
        field = fields[name]
        assert (field.size, field.stride, field.start) == ((side, side), (1, 1), (0, 0))
        assert field.box(4, 5) == field.box(4, 5, clip=False) == (4, 5, 4 + side, 5 + side)


class Attention(nn.Module):
    """A class token before the patches, and every token looking at all, beside a skip connection."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.embedded, self.mixed = nn.Identity(), nn.Identity()

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.embedded(torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1))
        return self.mixed(tokens + (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens)


def test_a_class_token_is_no_border():
    """It sees nothing, before attention, and does not make what sees all of the image see more than it."""
    fields = sp.receptive_fields(Attention(), (1, 1, 16, 24), unit_axes=(1,))
    tokens, mixed = fields["embedded"], fields["mixed"]
    assert tokens.box(0) is None
    assert (tokens.box(1), tokens.box(24), tokens.size) == ((0, 0, 4, 4), (12, 20, 16, 24), (4, 4))
    assert {mixed.box(unit) for unit in range(25)} == {(0, 0, 16, 24)}
    assert (mixed.size, mixed.start, mixed.period, mixed.is_global) == ((16, 24), (0, 0), (1, 1), True)


class _Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_source():
    """Fields in another layer's grid are those of what comes after it, and a skip around it does not count."""
    model = ZOO["chain"].model()
    fields = sp.receptive_fields(model, (1, 3, 12, 12), source="pool")
    assert list(fields) == ["pool", "conv2", "relu2", ""]
    assert fields["conv2"].box(1, 2) == (1, 2, 4, 5)
    assert fields["pool"].size == (1, 1)
    assert "units of 'pool'" in repr(fields)
    assert sp.receptive_fields(model, (1, 3, 12, 12), source=model.pool)["conv2"].input_size == (6, 6)
    with pytest.raises(sp.LayerNotFoundError, match=r"'conv1'.*ran before 'pool'"):
        fields["conv1"]
    with pytest.raises(sp.AmbiguousCallError, match="runs more than once"):
        sp.receptive_fields(ZOO["shared"].model(), (1, 3, 8, 8), source="conv")


class SqueezeExcite(nn.Module):
    """Squeeze and excite, in both common forms: it returns the gate alone, or the gated input."""

    def __init__(self, *, applied):
        super().__init__()
        self.scale = nn.Conv2d(2, 2, 1)
        self.applied = applied

    def forward(self, x):
        gate = torch.sigmoid(self.scale(x.mean((2, 3), keepdim=True)))
        return gate * x if self.applied else gate


class Gated(nn.Module):
    def __init__(self, *, applied):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.gate = SqueezeExcite(applied=applied)

    def forward(self, x):
        y = self.conv(x)
        return self.gate(y) if self.gate.applied else self.gate(y) * y


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("ignore", [[SqueezeExcite], ["SqueezeExcite"], "SqueezeExcite"])
def test_ignored_gates(applied, ignore):
    """A gate makes every unit see everything, unless it is ignored, which the result says."""
    model = Gated(applied=applied)
    assert sp.receptive_fields(model, (1, 1, 9, 9))[""].is_global
    field = sp.receptive_fields(model, (1, 1, 9, 9), ignore=ignore)[""]
    assert field.box(2, 3) == (2, 3, 5, 6)
    assert (field.size, field.ignored, field.exact) == ((3, 3), ("SqueezeExcite",), True)
    fields = sp.receptive_fields(model, (1, 1, 9, 9), ignore=ignore)
    said = "Ignored: SqueezeExcite. These modules count as constant gates, which add nothing to a field."
    assert fields.remarks == (said,)
    assert repr(fields).endswith(f"\n{fields.remarks[0]}")


@pytest.mark.parametrize("applied", [True, False])
def test_gates_are_named(applied):
    """Where an average makes all units see everything, the table says from where on, and what to ignore."""
    model = Gated(applied=applied)
    for layers in (None, nn.Conv2d):
        remark = repr(sp.receptive_fields(model, (1, 1, 9, 9), layers=layers)).splitlines()[-1]
        assert remark.startswith("From gate on each unit sees the whole image")
        assert "ignore=['SqueezeExcite']" in remark
    silent = (
        sp.receptive_fields(model, (1, 1, 9, 9), ignore=SqueezeExcite),
        sp.receptive_fields(nn.Sequential(nn.Conv2d(1, 2, 9, padding=8), model.gate.scale), (1, 1, 9, 9)),
    )
    assert not any("whole image" in repr(fields) for fields in silent)
    norm = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2))
    assert "ignore=['GroupNorm']" in repr(sp.receptive_fields(norm, (1, 1, 9, 9)))


def test_gates_that_the_model_lacks():
    """Lists of gates may be given to many models; what of them this one does not have stands under the table.

    Names that are close to Module, or to another in the list, are no misspellings.
    """
    model = Gated(applied=True)
    absent = ["Gaet", nn.SiLU, "SEModule", "SqueezeExcites"]
    table = repr(sp.receptive_fields(model, (1, 1, 9, 9), ignore=[*absent, SqueezeExcite]))
    assert table.endswith("\nNothing to ignore: the model has no module of type Gaet, SiLU, SEModule, SqueezeExcites.")
    assert "Nothing to ignore" not in repr(sp.receptive_fields(model, (1, 1, 9, 9), ignore=SqueezeExcite))


def test_chosen_layers():
    """`layers` selects as in a probe; what has no field is an error only if it was asked for."""
    model = ZOO["tuple"].model()
    assert list(sp.receptive_fields(model, (1, 3, 6, 6))) == ["block.conv", "head", ""]
    assert list(sp.receptive_fields(model, (1, 3, 6, 6), layers=nn.Conv2d)) == ["block.conv"]
    with pytest.raises(sp.UnsupportedOutputError, match="'block'.*returns a tuple"):
        sp.receptive_fields(model, (1, 3, 6, 6), layers="block")
    with pytest.raises(sp.LayerNotFoundError, match="'block'.*returns a tuple"):
        sp.receptive_fields(model, (1, 3, 6, 6))["block"]
    idle = nn.ModuleDict({"used": nn.Conv2d(1, 1, 1), "idle": nn.Conv2d(1, 1, 1)})
    idle.forward = lambda x: idle["used"](x)
    for exact in ("idle", ["used", "idle"], idle["idle"]):
        with pytest.raises(sp.LayerNotRunError, match="'idle'.*did not run"):
            sp.receptive_fields(idle, (1, 1, 4, 4), layers=exact)
    with pytest.raises(sp.LayerNotRunError, match="'idle'.*did not run"):
        sp.receptive_fields(idle, (1, 1, 4, 4), layers="idl*")
    fields = sp.receptive_fields(idle, (1, 1, 4, 4), layers=nn.Conv2d)
    assert (list(fields), list(fields.left_out)) == (["used"], ["idle"])
    assert "No field: idle" in repr(fields)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((1, 3, 2, 2), {}, r"Chain raised RuntimeError on an input of \(1, 3, 2, 2\)"),
        ((1, 4, 12, 12), {}, "Pass the shape that the model takes"),
        (((1, 3, 12, 12), (1, 3, 12, 12)), {}, "TypeError"),
        ((1, 3, 0, 12), {}, "holds nothing"),
        ("224", {}, "must be a shape.*not a str"),
        ((), {}, "must be a shape.*not an empty tuple"),
        ((None, 3, 12, 12), {}, r"\(None, 3, 12, 12\) holds None: pass any batch size"),
        ((1, 3, 12.0, 12.0), {}, r"integers, not \(1, 3, 12.0, 12.0\)"),
        ((3, 12, 12), {}, r"'conv1', a Conv2d, took the input \(3, 12, 12\) for one .* whole shape, \(1, 3, 12, 12\)"),
        (torch.zeros(1, 3, 12, 12).byte(), {}, r"The inputs are torch.uint8, the model's weights torch.float32"),
        ((1, 3, 12, 12), {"axes": (4,)}, r"no axes \(4,\)"),
        ((3, 12), {}, "no spatial axes"),
        ((1, 3, 12, 12), {"input": 3}, "There is no input 3"),
        ((1, 3, 12, 12), {"ignore": [3]}, "ignore takes module types"),
    ],
)
def test_bad_input(inputs, options, message):
    """Wrong shapes, numbers of inputs and axes are told apart, with the model unchanged."""
    model = ZOO["chain"].model()
    before = state(model)
    with pytest.raises((sp.ArgumentError, sp.ForwardError), match=message):
        sp.receptive_fields(model, inputs, **options)
    assert state(model) == before


def test_compiled_and_wrapped_models():
    """A wrapper's prefixes are left out of the names."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert list(sp.receptive_fields(wrapped, (1, 1, 5, 5))) == ["0", ""]
        assert list(sp.plan(wrapped, torch.zeros(1, 1, 5, 5))) == ["0"]


def test_copied_model_has_no_hooks():
    """A model copied while it is followed carries nothing of the tracer."""
    twins = []

    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            twins.append(copy.deepcopy(self.conv._forward_hooks))
            return self.conv(x)

    sp.receptive_fields(Copies(), (1, 1, 3, 3))
    assert all(hook(None, (), torch.zeros(1)) is None for hooks in twins for hook in hooks.values())


def test_batch_norm_without_statistics_of_its_own():
    """It takes those of the batch in evaluation too, so that every unit sees everything."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert sp.receptive_fields(model, (1, 1, 7, 7))["1"].is_global
    usual = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    assert sp.receptive_fields(usual, (1, 1, 7, 7))["1"].size == (3, 3)


def test_fields_know_their_source():
    """A field in units of a layer says so, and is not drawn on images."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3))
    inner = sp.receptive_fields(model, (1, 3, 9, 9), source="0")["1"]
    assert inner.source == "0"
    assert sp.receptive_fields(model, (1, 3, 9, 9))["1"].source is None
    with pytest.raises(sp.ArgumentError, match="in units of layer '0', not in pixels"):
        sp.receptive_field_overlay(torch.rand(3, 9, 9), inner, (3, 3))


def test_lazy_modules_elsewhere_do_not_matter():
    """On the real device all tensors there are count as known before the pass; those without memory are left out."""

    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.sum() > 0)

    elsewhere = nn.LazyConv2d(4, 3)
    field = sp.receptive_fields(nn.Sequential(nn.Conv2d(1, 1, 3), Reads()), torch.rand(1, 1, 8, 8))["0"]
    assert field.size == (3, 3)
    assert field.fallback
    assert isinstance(elsewhere.weight, nn.UninitializedParameter)


class Mixed(nn.Module):
    """One convolution of each kind: before a pooling and a ReLU, before a gate, before nothing."""

    def __init__(self):
        super().__init__()
        self.pooled, self.gated, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = torch.relu(torch.nn.functional.max_pool2d(self.pooled(x), 2))
        y = self.gated(x)
        return self.last(y * torch.sigmoid(y))


def test_fields_after_the_nonlinearity():
    """At "post_activation" a field has the units of the value after the nonlinearity, and so after a pooling."""
    model = Mixed()
    after = sp.receptive_fields(model, (1, 3, 16, 16), layers="pooled", at="post_activation")["pooled"]
    oracle = sp.receptive_fields(nn.Sequential(model.pooled, nn.MaxPool2d(2)), (1, 3, 16, 16))["1"]
    assert (after.at, after.output_size, after.size, after.stride) == ("post_activation", (7, 7), (4, 4), (2, 2))
    assert np.array_equal(after.boxes(), oracle.boxes())
    assert sp.receptive_fields(model, (1, 3, 16, 16))["pooled"].output_size == (14, 14)


def test_fields_that_no_nonlinearity_follows():
    """Layers without an activation of their own have no field there; chosen, they are an error that says why."""
    fields = sp.receptive_fields(Mixed(), (1, 3, 16, 16), at="post_activation")
    assert list(fields) == ["pooled"]
    assert "part of a gate" in fields.missing["gated"]
    with pytest.raises(sp.UnresolvedActivationError, match="after layer 'last'"):
        sp.receptive_fields(Mixed(), (1, 3, 16, 16), layers=["pooled", "last"], at="post_activation")
    with pytest.raises(sp.ArgumentError, match="at must be"):
        sp.receptive_fields(Mixed(), (1, 3, 16, 16), at="after")


def test_fields_after_each_run():
    """Runs of a shared layer keep their order, those that returned no tensor and those without a nonlinearity too."""
    conv = nn.Conv2d(2, 2, 3)

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return torch.relu(self.conv(torch.relu(self.conv(x))))

    runs = sp.receptive_fields(Shared(), (1, 2, 9, 9), layers="conv", at="post_activation").calls("conv")
    assert [one.size for one in runs] == [(3, 3), (5, 5)]
    assert [one.call for one in runs] == [0, 1]


def test_own_reads_are_no_uses():
    """What the library itself reads of an output is not named among what took it."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
    with pytest.raises(sp.UnresolvedActivationError, match="follows '2': its output was taken by nothing"):
        sp.receptive_fields(model, (1, 1, 8, 8), layers="2", at="post_activation")
