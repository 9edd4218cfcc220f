"""The nonlinearity that follows: found as module, function, method and in place, or reported."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import ZOO

import spatialprobe as sp


class Then(nn.Module):
    """A conv whose output is given to a function."""

    def __init__(self, follow):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.follow = follow

    def forward(self, x):
        return self.follow(self.conv(x))


IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

NONLINEARITIES = {
    "function": F.relu,
    "torch function": torch.relu,
    "method": lambda y: y.relu(),
    "in-place function": lambda y: F.relu(y, inplace=True),
    "in-place torch function": torch.relu_,
    "in-place method": lambda y: y.relu_(),
    "module": nn.ReLU(),
    "in-place module": nn.ReLU(inplace=True),
    "leaky": lambda y: F.leaky_relu(y, 0.2),
    "gelu": nn.GELU(),
    "silu in place": nn.SiLU(inplace=True),
    "hardswish": nn.Hardswish(),
    "prelu": nn.PReLU(2),
    "sigmoid": torch.sigmoid,
    "clamp": lambda y: y.clamp(min=0),
    "softmax": nn.Softmax(dim=1),
}
THROUGH = {
    "batch norm": nn.BatchNorm2d(2),
    "group norm": nn.GroupNorm(1, 2),
    "instance norm": F.instance_norm,
    "dropout": nn.Dropout(0.0),
    "in-place dropout": nn.Dropout(0.0, inplace=True),
    "zero padding": nn.ZeroPad2d(1),
    "reflection padding": nn.ReflectionPad2d(1),
    "max-pool": nn.MaxPool2d(2),
    "max-pool with indices": lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
    "average pool": lambda y: F.avg_pool2d(y, 2),
    "adaptive pool": nn.AdaptiveAvgPool2d(3),
    "identity": nn.Identity(),
    "contiguous": lambda y: y.contiguous(),
}


def recorded(follow, **options):
    """The model's output, and the record of its conv."""
    torch.manual_seed(0)
    model = Then(follow)
    with sp.Probe(model, at="post_activation", **options) as probe:
        output = model(IMAGES)
    return output, probe


@pytest.mark.parametrize("inference", [False, True], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_kinds_of_nonlinearity(name, inference):
    """Whatever form the nonlinearity has, its value is the record."""
    with torch.inference_mode() if inference else torch.no_grad():
        output, probe = recorded(NONLINEARITIES[name])
    assert torch.equal(probe["conv"].tensor, output)
    assert probe["conv"].at == "post_activation"


@pytest.mark.parametrize("inference", [False, True], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("name", THROUGH)
def test_through_what_changes_no_meaning(name, inference):
    """Normalisation, dropout, padding and pooling between layer and nonlinearity are passed through."""
    with torch.inference_mode() if inference else torch.no_grad():
        output, probe = recorded(lambda y: F.relu_(THROUGH[name](y)))
    assert torch.equal(probe["conv"].tensor, output)


def test_value_is_kept_from_later_writes():
    """What is written over the activation afterwards does not reach the record."""
    with torch.no_grad():
        output, probe = recorded(lambda y: F.relu(y).mul_(0))
    assert output.abs().sum() == 0
    assert probe["conv"].tensor.abs().sum() > 0


def test_other_consumers_do_not_matter():
    """One consumer that leads to a nonlinearity is enough, beside others that do not."""
    output, probe = recorded(lambda y: (F.relu(y), y.mean(), y + 1)[0])
    assert torch.equal(probe["conv"].tensor, output)


@pytest.mark.parametrize("inference", [False, True], ids=["grad", "inference_mode"])
@pytest.mark.parametrize(
    ("follow", "message"),
    [
        (lambda y: y + 1, "'conv': its output was taken by add"),
        (lambda y: y.add_(1).relu_(), "'conv': its output was taken by add_"),
        (lambda y: y, "'conv': its output was taken by nothing"),
        (lambda y: F.relu(y) + F.gelu(y), "'conv': 2 took its output: relu, gelu"),
        (lambda y: F.relu(F.max_pool2d(y, 2)).mean() + F.relu(y).mean(), "2 took its output: relu, relu"),
    ],
)
def test_no_single_nonlinearity(follow, message, inference):
    """None, or two rival ones, are reported by name, not guessed."""
    with (
        pytest.raises(sp.UnresolvedActivationError, match=message),
        torch.inference_mode() if inference else torch.no_grad(),
    ):
        recorded(follow)


def test_left_out_where_the_user_says_so():
    """With missing="ignore" an unresolved layer has no record, and the others do."""
    model, images = ZOO["residual"].model(), ZOO["residual"].images()
    with sp.Probe(model, at="post_activation", missing="ignore") as probe:
        model(images)
    assert list(probe) == ["conv1"]
    with pytest.raises(sp.LayerNotRunError, match="It ran, but no single nonlinearity took its output"):
        probe["conv2"]
    with pytest.warns(UserWarning, match="'conv2': its output was taken by add"):
        with sp.Probe(model, at="post_activation", missing="warn"):
            model(images)


def test_rivals_leave_no_record():
    """A layer with two nonlinearities is left out, not recorded with the first."""
    _, probe = recorded(lambda y: F.relu(y) + F.gelu(y), missing="ignore")
    assert len(probe) == 0


def test_in_place_residual_is_not_taken_for_an_activation():
    """In a ResNet block the ReLU after `+=` is not the second conv's."""
    model, images = ZOO["in-place"].model(), ZOO["in-place"].images()
    with pytest.raises(sp.UnresolvedActivationError, match="'conv2': its output was taken by __iadd__|add_"):
        with sp.Probe(model, "conv2", at="post_activation"):
            model(images)
    with sp.Probe(model, at="post_activation") as probe:
        model(images)
    assert "conv2" not in probe
    assert "no" in probe.left_out["conv2"].lower()
    assert "conv2" in repr(probe)


class Codec(nn.Module):
    """A model with a method of its own beside `forward`, as a VAE's `encode` and timm's `forward_features`."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 1)

    def encode(self, x):
        return F.relu(self.encoder(x))

    def forward(self, x):
        return torch.sigmoid(self.decoder(self.encode(x)))


def test_other_methods_than_forward():
    """What `encode` runs has its nonlinearity, before and after a forward, in the order of execution."""
    model = Codec()
    with sp.Probe(model, at="post_activation") as probe:
        first = model.encode(IMAGES)
        model(IMAGES)
        with torch.device("cpu"):  # a mode that the user enters later and leaves earlier
            last = model.encode(IMAGES + 1)
    assert [record.layer for record in probe.records] == ["encoder", "encoder", "decoder", "encoder"]
    records = probe.calls("encoder")
    assert torch.equal(records[0].tensor, first)
    assert torch.equal(records[2].tensor, last)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_layer_called_by_hand():
    """A layer called by hand has the nonlinearity that its output then goes through; without one it is reported."""
    model = Codec()
    with sp.Probe(model, "encoder", at="post_activation") as probe:
        expected = F.elu(model.encoder(IMAGES))
    assert torch.equal(probe["encoder"].tensor, expected)
    with pytest.raises(sp.UnresolvedActivationError, match="'encoder': its output was taken by nothing"):
        with sp.Probe(model, "encoder", at="post_activation"):
            model.encoder(IMAGES)


def test_methods_that_fail():
    """After an exception in a method of the model nothing is left behind."""
    model = Codec()
    with pytest.raises(RuntimeError, match="channels"), sp.Probe(model, at="post_activation"):
        model.decoder(model.encoder(IMAGES).sum(1, keepdim=True))
    assert torch.overrides._get_current_function_mode_stack() == []


def test_several_forwards():
    """Each forward has its own records, in the order in which the layers ran."""
    model, images = ZOO["functional"].model(), ZOO["functional"].images()
    with sp.Probe(model, at="post_activation") as probe:
        model(images)
        model(images)
    assert [(r.layer, r.forward, r.order) for r in probe.records] == [
        ("conv1", 0, 0),
        ("conv2", 0, 1),
        ("conv1", 1, 2),
        ("conv2", 1, 3),
    ]
    assert (probe["conv1", 0].tensor >= 0).all()


def test_as_a_model_that_stores_its_own_maps():
    """The maps equal, bit for bit, those that a model keeps which stores `F.relu(conv(x)).detach()` itself."""
    from simple_cnn import SimpleCNN

    class Storing(SimpleCNN):
        def forward(self, images):
            self.maps1 = F.relu(self.conv1(images)).detach()
            x = F.max_pool2d(F.relu(self.conv1(images)), 2)
            self.maps2 = F.relu(self.conv2(x)).detach()
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    model, storing = SimpleCNN(), Storing()
    storing.load_state_dict(model.state_dict())
    images = torch.rand(4, 3, 32, 32)
    with sp.Probe(model, at="post_activation") as probe:
        logits = model(images)
    assert torch.equal(logits, storing(images))
    assert torch.equal(probe["conv1"].tensor, storing.maps1)
    assert torch.equal(probe["conv2"].tensor, storing.maps2)


def set_half(y):
    gate = torch.sigmoid(y)
    changed = y.clone()
    changed[:, :1] = gate[:, :1]
    return changed


def gate_a_view(y):
    gate = torch.sigmoid(y)
    y[:, :1] *= gate[:, :1]
    return y


GATES = {
    "silu": lambda y: y * torch.sigmoid(y),
    "silu, turned": lambda y: torch.sigmoid(y).mul(y),
    "in place": lambda y: y.mul_(y.tanh()),
    "into the gate": lambda y: y.sigmoid().mul_(y),
    "by name": lambda y: torch.mul(input=y, other=torch.sigmoid(y)),
    "method": lambda y: y.__mul__(y.softmax(1)),
    "mish": lambda y: y * torch.tanh(F.softplus(y)),
    "hard swish": lambda y: y * F.hardsigmoid(y),
    "scaled": lambda y: (2 * y) * torch.sigmoid(y),
    "shifted": lambda y: (y.clone() + 1).flatten() * (torch.sigmoid(y).clone() * 3).flatten(),
    "clone": lambda y: y.clone() * torch.sigmoid(y),
    "detached": lambda y: y.detach() * torch.sigmoid(y),
    "data": lambda y: y.data * torch.sigmoid(y),
    "detached gate": lambda y: y * torch.sigmoid(y).detach(),
    "pooled gate": lambda y: y * F.adaptive_avg_pool2d(y, 1).sigmoid(),
    "pooled after": lambda y: y * F.avg_pool2d(torch.sigmoid(y), 1),
    "mean": lambda y: y * torch.sigmoid(y).mean((2, 3), keepdim=True),
    "pooled output": lambda y: F.adaptive_avg_pool2d(y, 1) * torch.sigmoid(y),
    "normalized": lambda y: F.batch_norm(y, None, None, training=True) * torch.sigmoid(y),
    "transposed": lambda y: y.mT * torch.sigmoid(y).mT,
    "halves": lambda y: y[:, :1] * torch.sigmoid(y)[:, 1:],
    "einsum": lambda y: torch.einsum("nchw,nchw->nchw", y, torch.sigmoid(y)),
    "matmul": lambda y: y @ torch.sigmoid(y).mT,
    "addcmul": lambda y: torch.addcmul(torch.zeros_like(y), y, torch.sigmoid(y)),
    "addcdiv": lambda y: torch.addcdiv(torch.zeros_like(y), y, 1 + torch.sigmoid(y)),
    "where": lambda y: torch.where(y > 0, y, torch.tanh(y)),
    "lerp": lambda y: torch.lerp(y, torch.sigmoid(y), 0.3),
    "quotient": lambda y: y / (1 + F.softplus(y)),
    "sum": lambda y: y + torch.tanh(y),
    "leaky": lambda y: F.relu(y) - 0.1 * F.relu(-y),
    "two-sided": lambda y: torch.cat([F.relu(y), F.relu(-y)], 1),
    "stacked": lambda y: torch.stack([y, torch.sigmoid(y)]).prod(0),
    "mask": lambda y: F.relu(y) * (y > 0.5),
    "written": set_half,
    "written through a view": gate_a_view,
    "foreach": lambda y: torch._foreach_mul([y], [torch.sigmoid(y)])[0],
    "vmap": lambda y: torch.vmap(lambda one, gate: one * gate)(y, torch.sigmoid(y)),
}


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "stop_early"])
@pytest.mark.parametrize("name", GATES)
def test_half_of_a_gate_is_no_activation(name, how):
    """What the model goes on with is the product; half of it is never recorded, by whatever detour the other comes."""
    model = Then(GATES[name])
    with torch.inference_mode(how == "inference_mode"):
        with pytest.raises(sp.UnresolvedActivationError, match="'conv': its own .* is only part of a gate"):
            sp.capture(model, IMAGES, at="post_activation", stop_early=how == "stop_early")
        records = sp.capture(model, IMAGES, at="post_activation", missing="ignore", stop_early=how == "stop_early")
    assert not records.records


UNRESOLVED_GATES = {
    "gelu by tanh": lambda y: 0.5 * y * (1 + torch.tanh(0.79788 * (y + 0.044715 * y**3))),
    "gelu by erf": lambda y: 0.5 * y * (1 + torch.erf(y / 2**0.5)),
    "quick gelu": lambda y: y * torch.sigmoid(1.702 * y),
    "hard swish": lambda y: y * F.relu6(y + 3) / 6,
    "gated linear unit": lambda y: y.chunk(2, 1)[0] * torch.sigmoid(y.chunk(2, 1)[1]),
    "relu of a product": lambda y: F.relu(y * 2) * torch.sigmoid(y * 3),
}


@pytest.mark.parametrize("name", UNRESOLVED_GATES)
def test_gates_without_a_nonlinearity_of_their_own(name):
    """Where no nonlinearity takes the output itself, there is nothing that could be recorded."""
    with pytest.raises(sp.UnresolvedActivationError, match="'conv': its output was taken by"):
        sp.capture(Then(UNRESOLVED_GATES[name]), IMAGES, at="post_activation")


WHOLE = {
    "glu": lambda y: F.glu(y, 1),
    "scaled": lambda y: F.relu(y) * 3,
    "squared": lambda y: F.relu(y) ** 2,
    "gated by itself": lambda y: (lambda x: x * torch.sigmoid(x))(F.relu(y)),
    "dropout by hand": lambda y: F.relu(y) * (torch.rand_like(y) > 0.5),
    "shape of the output": lambda y: F.relu(y).view_as(y) + torch.zeros_like(y),
    "copied": lambda y: torch.empty_like(y).copy_(F.relu(y)),
    "in place": lambda y: y.relu_() * y.mean(),
    "residual around a layer": lambda y: y + F.conv2d(F.relu(y), torch.ones(2, 2, 1, 1)),
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_gate(name, early):
    """What follows the nonlinearity, and what another layer makes of it, leaves the activation what it is."""
    model = Then(WHOLE[name])
    nonlinearity = (lambda y: F.glu(y, 1)) if name == "glu" else F.relu
    with torch.no_grad():
        expected = nonlinearity(model.conv(IMAGES))
    assert torch.equal(sp.capture(model, IMAGES, at="post_activation", stop_early=early)["conv"].tensor, expected)


class Gated(nn.Module):
    """A convolution whose output is multiplied with something that was made of it."""

    def __init__(self, gate):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 3), gate

    def forward(self, x):
        return self.gate(self.conv(x))


def test_a_gate_for_another_tensor_is_an_activation():
    """Squeeze-and-excite: the activation of its last convolution is the sigmoid, which multiplies something else."""
    model = Gated(lambda y: y.relu() * y.relu().mean((2, 3), keepdim=True).tanh())
    with pytest.raises(sp.UnresolvedActivationError, match="2 took its output"):
        sp.capture(model, torch.rand(1, 3, 6, 6), at="post_activation")

    def excited(y):
        y = y.relu()
        return y * squeeze(y.mean((2, 3), keepdim=True)).sigmoid()

    squeeze = nn.Conv2d(4, 4, 1)
    model = Gated(excited)
    model.squeeze = squeeze
    records = sp.capture(model, torch.rand(1, 3, 6, 6), at="post_activation")
    assert torch.equal(records["conv"].tensor, records["conv"].tensor.relu())
    assert records["squeeze"].shape == (1, 4, 1, 1)
