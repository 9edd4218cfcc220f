"""Changed copies: kernels lose their arrangement and nothing else; frozen kernels are drawn anew and do not train."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
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
    """An averaged kernel is a box filter of its mean: the same as blurring first, then weighing colours."""
    conv, images = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 10, 10)
    colours = conv.weight.detach().sum((2, 3), keepdim=True)
    expected = F.conv2d(F.avg_pool2d(images, 3, 1), colours, conv.bias)
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
    with pytest.raises(sp.ArgumentError, match="make them plain first"):
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
