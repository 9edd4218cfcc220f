"""Changed copies: kernels lose their arrangement and nothing else; frozen kernels are drawn anew and do not train."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.evidence import frozen_copy, kernel_surgery

KERNELS = [
    nn.Conv1d(2, 3, 5),
    nn.Conv2d(3, 4, 3),
    nn.Conv2d(4, 4, (1, 3), groups=2),
    nn.Conv3d(1, 2, 3),
    nn.ConvTranspose2d(3, 2, 2),
]


@pytest.mark.parametrize("conv", KERNELS, ids=lambda conv: f"{type(conv).__name__} {conv.kernel_size}")
@pytest.mark.parametrize("how", ["mean", "shuffle"])
def test_sums_of_kernels_are_kept(conv, how):
    """Each kernel's sum for each input channel stays, and so do the bias and the model itself."""
    before = conv.weight.detach().clone()
    changed = kernel_surgery(conv, "", how=how)
    taps = before.flatten(2)
    assert torch.equal(conv.weight, before)
    assert not torch.equal(changed.weight, before)
    assert torch.allclose(changed.weight.flatten(2).sum(2), taps.sum(2), atol=1e-5)
    assert torch.equal(changed.bias, conv.bias)
    assert changed.weight.requires_grad
    assert isinstance(changed.weight, nn.Parameter)


def test_mean_leaves_no_pattern():
    """An averaged kernel is a box filter of its mean: the same as blurring first, then weighing colors."""
    conv, images = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 10, 10)
    colors = conv.weight.detach().sum((2, 3), keepdim=True)
    expected = F.conv2d(F.avg_pool2d(images, 3, 1), colors, conv.bias)
    assert torch.allclose(kernel_surgery(conv, "", how="mean")(images), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_shuffle_is_one_order_for_all_kernels(seed):
    """All kernels of a layer get their taps in the same order, which is not the one they had."""
    conv = nn.Conv2d(2, 3, 2)
    conv.weight.data.copy_(torch.arange(4.0).reshape(2, 2) + 10 * torch.arange(6.0).reshape(3, 2, 1, 1))
    shuffled = kernel_surgery(conv, "", how="shuffle", seed=seed).weight.detach() % 10
    assert torch.equal(shuffled, shuffled[:1, :1].expand_as(shuffled))
    assert shuffled[0, 0].flatten().tolist() != [0, 1, 2, 3]
    assert sorted(shuffled[0, 0].flatten().tolist()) == [0, 1, 2, 3]
    again = kernel_surgery(conv, "", how="shuffle", seed=seed)
    assert torch.equal(again.weight % 10, shuffled)


def test_only_the_chosen_layers_change():
    """One layer by name, or several by a selector; all else is bit for bit what it was."""
    model = ZOO["chain"].model()
    one = kernel_surgery(model, "conv2")
    assert torch.equal(one.conv1.weight, model.conv1.weight)
    assert not torch.equal(one.conv2.weight, model.conv2.weight)
    both = kernel_surgery(model, nn.Conv2d)
    assert not torch.equal(both.conv1.weight, model.conv1.weight)


def test_tied_weights_are_untied():
    """A layer that shares the changed kernels keeps them."""
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    changed = kernel_surgery(model, "0")
    assert torch.equal(changed[1].weight, model[1].weight)
    assert not torch.equal(changed[0].weight, model[0].weight)


def test_parametrized_kernels():
    """Kernels that are computed from others are refused, and the model still computes them."""
    conv = parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    before = conv.weight.clone()
    with pytest.raises(sp.ArgumentError, match="Make them plain first"):
        kernel_surgery(conv, "")
    assert torch.equal(conv.weight, before)


@pytest.mark.parametrize(
    ("layer", "how", "message"),
    [
        ("fc", "mean", "is a Linear, which has no kernels"),
        ("point", "shuffle", "have one tap"),
        ("conv", "median", "must be one of 'mean', 'shuffle'"),
    ],
)
def test_layers_without_a_pattern_are_refused(layer, how, message):
    """What has no pattern to take away is not returned unchanged."""
    model = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 3), "point": nn.Conv2d(1, 1, 1), "fc": nn.Linear(1, 1)})
    with pytest.raises(sp.ArgumentError, match=message):
        kernel_surgery(model, layer, how=how)
    with pytest.raises(sp.LayerNotFoundError, match="Did you mean 'conv'"):
        kernel_surgery(model, "covn")
    with pytest.raises(sp.ArgumentError, match="nn.Module"):
        kernel_surgery("model", "conv")


def test_frozen_kernels_are_new_and_do_not_train():
    """The copy's chosen layers are drawn anew from the seed, and keep these weights while the rest trains."""
    model = ZOO["chain"].model()
    frozen = frozen_copy(model, "conv1", seed=4)
    assert not torch.equal(frozen.conv1.weight, model.conv1.weight)
    assert torch.equal(frozen.conv2.weight, model.conv2.weight)
    assert all(parameter.requires_grad for parameter in model.parameters())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    optimizer = torch.optim.Adam(frozen.parameters())
    frozen(ZOO["chain"].images()).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"conv2.weight", "conv2.bias"}


def test_frozen_weights_are_drawn_as_torch_draws_them():
    """The same weights as a new layer made under the seed; the program's own random state is left alone."""
    torch.manual_seed(5)
    expected = nn.Conv2d(3, 6, 3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    frozen = frozen_copy(nn.Sequential(nn.Conv2d(3, 6, 3)), seed=5)
    torch.manual_seed(1)
    nn.Conv2d(3, 6, 3)
    assert torch.equal(frozen[0].weight, expected.weight)
    assert torch.equal(frozen[0].bias, expected.bias)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    model = nn.Sequential(nn.Conv2d(3, 6, 3))
    before = torch.get_rng_state()
    frozen_copy(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_that_cannot_be_drawn_are_refused():
    """A layer without weights, or with weights that are computed, is named."""
    with pytest.raises(sp.ArgumentError, match="is a ReLU, which has no weights"):
        frozen_copy(nn.Sequential(nn.ReLU()), "0")
    with pytest.raises(sp.ArgumentError, match="parametrized"):
        frozen_copy(parametrizations.weight_norm(nn.Conv2d(2, 3, 3)))
    with pytest.raises(sp.LayerNotFoundError, match="no module of type Conv2d"):
        frozen_copy(nn.Linear(2, 2))


def test_modules_of_the_model_and_ties():
    """A layer may be given itself, though the copy is changed; layers that share kernels share the new ones."""
    one, other, third = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    other.weight = one.weight
    model = nn.Sequential(one, other, third)
    changed = sp.evidence.kernel_surgery(model, nn.Conv2d, "shuffle")
    assert changed[0].weight is changed[1].weight
    assert not torch.equal(changed[0].weight, one.weight)
    alone = sp.evidence.kernel_surgery(model, one)
    assert torch.equal(alone[2].weight, third.weight)
    assert not torch.equal(alone[0].weight, one.weight)
    assert not any(p.requires_grad for p in sp.evidence.frozen_copy(model, [third])[2].parameters())


def pruned(conv):
    prune.random_unstructured(conv, "weight", 0.5)
    prune.l1_unstructured(conv, "bias", 1)
    return conv


def spectral(conv):
    return nn.utils.spectral_norm(conv)


def weight_normed(conv):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older torch calls it deprecated
        return nn.utils.weight_norm(conv)


def weight_normed_as_one(conv):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(conv, dim=None)


def pruned_under_weight_norm(conv):
    conv = weight_normed(conv)
    prune.random_unstructured(conv, "weight_v", 0.5)
    return conv


HOOKED = [pruned, spectral, weight_normed, weight_normed_as_one, pruned_under_weight_norm]


def effective(conv, x):
    """The kernels that a convolution really uses in evaluation mode, read off its output."""
    used = {}
    conv.eval()
    with torch.no_grad():
        conv(x)
        used["weight"], used["bias"] = conv.weight.detach().clone(), conv.bias.detach().clone()
        assert torch.allclose(conv(x), F.conv2d(x, used["weight"], used["bias"]), atol=1e-6)
    return used


def trained(model, x, *, steps=2):
    """Train a model a little, so that its weights and what its hooks keep have moved."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model.train()(x).square().mean().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("wrap", HOOKED)
def test_frozen_copies_under_hooks(wrap):
    """The kernels that the copy computes with are new, as the layer draws them, under its own norm or mask."""
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    model = trained(nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 3)), x)
    before = copy_of(model.state_dict())
    frozen = frozen_copy(model, "0", seed=5)
    assert copy_of(model.state_dict()).keys() == before.keys() == frozen.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    torch.manual_seed(5)
    drawn = nn.Conv2d(3, 4, 3)
    weight, bias = drawn.weight.detach(), drawn.bias.detach()
    if wrap is pruned:
        weight, bias = weight * model[0].weight_mask, bias * model[0].bias_mask
    if wrap is spectral:
        weight = weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
    if wrap is pruned_under_weight_norm:
        norms = weight.flatten(1).norm(dim=1)[:, None, None, None]
        masked = weight * model[0].weight_v_mask
        weight = masked * norms / masked.flatten(1).norm(dim=1)[:, None, None, None]
    used = effective(frozen[0], x)
    assert torch.allclose(used["weight"], weight, atol=1e-6)
    assert torch.allclose(used["bias"], bias)
    assert not any(parameter.requires_grad for parameter in frozen[0].parameters())
    last = frozen[2].weight.detach().clone()
    trained(frozen, x)
    assert torch.allclose(effective(frozen[0], x)["weight"], weight, atol=1e-5)
    assert not torch.equal(frozen[2].weight, last)


@pytest.mark.parametrize("wrap", HOOKED)
@pytest.mark.parametrize("how", ["mean", "shuffle"])
def test_surgery_under_hooks(wrap, how):
    """The kernels that the copy computes with are those of the model, rearranged; the model is as it was."""
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    model = trained(wrap(nn.Conv2d(3, 4, 3)), x)
    model(x)  # leaves a weight in a graph behind
    before, hooks = copy_of(model.state_dict()), list(model._forward_pre_hooks)
    changed = kernel_surgery(model, "", how=how)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert list(model._forward_pre_hooks) == hooks
    assert model.training
    assert isinstance(changed.weight, nn.Parameter)
    assert changed.weight.requires_grad
    found, truth = effective(changed, x), effective(model, x)
    assert torch.allclose(found["bias"], truth["bias"])
    taps, old = found["weight"].flatten(2), truth["weight"].flatten(2)
    assert not torch.allclose(taps, old)
    if how == "mean":
        assert torch.allclose(taps, old.mean(2, keepdim=True).expand_as(old), atol=1e-6)
    else:
        assert torch.allclose(taps.sort(dim=2).values, old.sort(dim=2).values)


def test_other_layers_under_hooks_are_copied():
    """A layer that is not chosen keeps its hook and its weights in the copy, also after a forward with gradients."""
    x = torch.rand(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), *(wrap(nn.Conv2d(3, 3, 1)) for wrap in HOOKED))
    model.train()(x)
    for changed in (frozen_copy(model, "0"), kernel_surgery(model, "0")):
        for mine, theirs in zip(model[1:], changed[1:], strict=True):
            assert mine.state_dict().keys() == theirs.state_dict().keys()
            assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in mine.state_dict().items())
            assert torch.equal(mine.eval()(x), theirs.eval()(x))
            assert all(parameter.requires_grad for parameter in theirs.parameters())


def copy_of(state):
    return {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize("chosen", ["0", ["0", "1"]])
def test_frozen_copies_of_tied_weights(chosen):
    """A layer that shares weights with a chosen one keeps them and trains on; chosen ones share the new weights."""
    one, other, third = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    other.weight, third.weight = one.weight, one.weight
    model = nn.Sequential(one, other, third)
    frozen = frozen_copy(model, chosen, seed=3)
    assert not torch.equal(frozen[0].weight, one.weight)
    assert not frozen[0].weight.requires_grad
    assert (frozen[1].weight is frozen[0].weight) == (len(chosen) == 2)
    assert torch.equal(frozen[2].weight, one.weight)
    assert frozen[2].weight.requires_grad
    assert frozen[2].bias.requires_grad
    assert (frozen[1].weight is frozen[2].weight) == (len(chosen) == 1)


def test_surgery_of_tied_weights_under_hooks():
    """Layers that share what their kernels are computed from share the new ones."""
    one, other = weight_normed(nn.Conv2d(3, 3, 3)), weight_normed(nn.Conv2d(3, 3, 3))
    other.weight_g, other.weight_v = one.weight_g, one.weight_v
    changed = kernel_surgery(nn.Sequential(one, other), nn.Conv2d, "shuffle")
    assert changed[0].weight is changed[1].weight


def test_models_that_cannot_be_copied():
    """The error names what cannot, and where; what a forward has kept in a graph can."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    model[1].kept = {"last": [model(torch.rand(1, 3, 8, 8))]}
    assert not frozen_copy(model)[1].kept["last"][0].requires_grad
    model[1].lock = threading.Lock()
    for make in (frozen_copy, lambda model: kernel_surgery(model, "0")):
        with pytest.raises(sp.ArgumentError, match=r"cannot pickle .*lock.*because of the attribute 'lock' of '1'"):
            make(model)


def test_weights_that_another_hook_computes():
    """A hook of one's own that computes the weight would undo the change: it is refused."""

    class Halved(nn.Conv2d):
        def __init__(self):
            super().__init__(1, 1, 3)
            self.raw = self.weight
            del self._parameters["weight"]
            self.weight = self.raw / 2
            self.register_forward_pre_hook(lambda module, args: setattr(module, "weight", module.raw / 2))

    for make in (frozen_copy, lambda model: kernel_surgery(model, "0")):
        with pytest.raises(sp.ArgumentError, match="'0' has 'weight' as a plain tensor instead of a parameter"):
            make(nn.Sequential(Halved()))
