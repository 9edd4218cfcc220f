"""Edits: made where and when they should be, seen by probes, and gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from turned import made
from zoo import ZOO

import spatialprobe as sp


@pytest.fixture
def chain():
    return ZOO["chain"].model(), ZOO["chain"].images()


def test_ablate(chain):
    """Ablated channels have the value given, the others stay, and the rest of the model computes with it."""
    model, images = chain
    with torch.no_grad():
        plain = model.conv1(images)
        with sp.edited(model, {"conv1": sp.ablate([0, 2], value=[0.5, -1.0])}), sp.Probe(model, "conv1") as probe:
            output = model(images)
        expected = plain.clone()
        expected[:, 0], expected[:, 2] = 0.5, -1.0
        assert torch.equal(probe["conv1"].tensor, expected)
        assert torch.equal(output, model.relu2(model.conv2(model.pool(model.relu1(expected)))))
        assert torch.equal(model.conv1(images), plain)


@pytest.mark.parametrize("probe_first", [True, False])
@pytest.mark.parametrize("by_hand", [True, False])
def test_edits_come_before_probes(chain, probe_first, by_hand):
    """A probe records what the layer hands on, whichever was entered first, also when it is run by hand."""
    model, images = chain
    probe, edit = sp.Probe(model, "conv1"), sp.edited(model, {"conv1": lambda out: out * 0 + 7})
    first, second = (probe, edit) if probe_first else (edit, probe)
    with torch.no_grad(), first, second:
        (model.conv1 if by_hand else model)(images)
    assert probe["conv1"].tensor.unique().tolist() == [7]


def test_edits_come_after_the_users_hooks(chain):
    """An edit replaces what the layer would have output, with the user's own hooks."""
    model, images = chain
    model.conv1.register_forward_hook(lambda module, args, output: output * 0 + 1)
    with sp.edited(model, {nn.Conv2d: lambda out: out + 1}):
        assert model.conv1(images).unique().tolist() == [2]


def test_replace(chain):
    """A tensor takes the place of the output; one of another shape is refused with both shapes."""
    model, images = chain
    patch = torch.rand(2, 4, 12, 12, dtype=torch.float64)
    with sp.edited(model, {"conv1": sp.replace(patch)}):
        assert torch.equal(model.conv1(images), patch.float())
    with pytest.raises(sp.ArgumentError, match=r"edit of layer 'conv1' does not fit.*\(1, 2\).*\(2, 4, 12, 12\)"):
        with sp.edited(model, {"conv1": sp.replace(torch.rand(1, 2))}):
            model(images)


def test_gradients_flow_through_edits(chain):
    """Gradients reach the channels that were left, and not those that were ablated."""
    model, images = chain
    with sp.edited(model, {"conv1": sp.ablate(1)}):
        model(images).sum().backward()
    gradient = model.conv1.weight.grad
    assert gradient[1].abs().sum() == 0
    assert gradient[0].abs().sum() > 0


def test_several_edits_in_order(chain):
    """Edits of one layer are made in the order given."""
    model, images = chain
    with sp.edited(model, {"conv1": lambda out: out * 0 + 2, nn.Conv2d: lambda out: out * 5}):
        assert model.conv1(images).unique().tolist() == [10]


def test_edits_are_gone_after_an_error(chain):
    """Whatever happens in the block, the model hands on its own values afterwards."""
    model, images = chain
    plain = model(images)
    with pytest.raises(ZeroDivisionError), sp.edited(model, {"conv1": sp.ablate(0, 9.0)}):
        1 / 0  # noqa: B018
    assert torch.equal(model(images), plain)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"conv1": sp.ablate(4)}, "has channels 0 to 3, not 4"),
        ({"conv1": sp.ablate(0, axis=5)}, "axis 5 is out of range"),
        ({"conv1": lambda out: None}, "returned None"),
        ({"conv1": lambda out: out[:1]}, r"returned float32 \(1, 4, 12, 12\), but the layer returns float32 \(2, 4,"),
        ({"conv1": lambda out: out.double()}, "returned float64 .* a tensor of that shape and dtype"),
        ({"conv1": lambda out: out.detach().numpy()}, "returned an ndarray: it must return a tensor"),
        ({"conv1": sp.ablate}, r"channels must be integers, .* not a Tensor \(2, 4, 12, 12\)"),
        ({"conv1": sp.replace}, "returned a function: it must return a tensor"),
        ({"conv1": 3.0}, "is a float, not a function"),
        (["conv1"], "edits is a list: pass a mapping"),
    ],
)
def test_edits_that_do_not_fit(chain, edits, message):
    """An edit that cannot be made is refused with the layer's name."""
    model, images = chain
    with pytest.raises(sp.ArgumentError, match=message):
        with sp.edited(model, edits):
            model(images)


def test_values_that_do_not_fit():
    """Values are one number or one per channel; unknown layers are told as in a probe."""
    with pytest.raises(sp.ArgumentError, match="one for each of the 2 channels"):
        sp.ablate([0, 1], [1.0, 2.0, 3.0])
    with pytest.raises(sp.ArgumentError, match="channels must be integers, .* not '0'"):
        sp.ablate("0")
    for mask in ([True, False, True], torch.tensor([True, False])):
        with pytest.raises(sp.ArgumentError, match="channels must be integers, and these are booleans"):
            sp.ablate(mask)
    with pytest.raises(sp.ArgumentError, match="takes a tensor, not a list"):
        sp.replace([1.0])
    with pytest.raises(sp.LayerNotFoundError, match="Did you mean 'conv1'"):
        with sp.edited(ZOO["chain"].model(), {"covn1": sp.ablate(0)}):
            pass


def test_what_is_handed_on_instead_stays_as_it_was():
    """A model that writes over what `replace` hands on writes over a copy: records stay true, and calls repeat."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    images = torch.randn(2, 3, 8, 8)
    record = sp.capture(model, images)["0"]
    before = record.tensor.clone()
    spread = record.tensor[:1].expand(2, -1, -1, -1)
    for given in (record.tensor, spread):
        with torch.no_grad(), sp.edited(model, {"0": sp.replace(given)}):
            assert torch.equal(model(images), model(images))
    assert torch.equal(record.tensor, before)
    assert before.min() < 0


def test_fields_behind_an_ablation():
    """What an edited model sees is what it saw, but for the channels that are gone: at most that."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    plain = sp.receptive_fields(model, (1, 3, 10, 10))
    with sp.edited(model, {"0": sp.ablate([0])}):
        edited = sp.receptive_fields(model, (1, 3, 10, 10))
    for layer in plain:
        assert (edited[layer].size, edited[layer].stride) == (plain[layer].size, plain[layer].stride)


def test_the_channel_axis_of_an_ablation_is_not_guessed():
    """Where the channels may come last `axis=` must say so, and then does; other layers need no axis."""
    model, images, layers = made("mixer")
    for layer in layers:
        with pytest.raises(sp.ArgumentError, match=rf"of layer '{layer}' holds the channels.*Pass axis=1 or axis=-1"):
            with sp.edited(model, {layer: sp.ablate([1])}):
                model(images)
    with sp.edited(model, {"2": sp.ablate([1], axis=-1)}), sp.Probe(model, "2") as probe:
        model(images)
    assert (probe["2"].tensor[..., 1] == 0).all()
    assert (probe["2"].tensor[..., 0] != 0).any()
    with sp.edited(model, {"0": sp.ablate([1])}), sp.Probe(model, "0") as probe:
        model(images)
    assert (probe["0"].tensor[:, 1] == 0).all()
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.Dropout(), nn.Flatten(), nn.Linear(24, 2)
    )
    with sp.edited(plain, {"1": sp.ablate(0), "2": sp.ablate(1), "": sp.ablate(1), "4": sp.ablate(0)}):
        assert plain(torch.rand(1, 3, 4, 5)).tolist() == [[0, 0]]
