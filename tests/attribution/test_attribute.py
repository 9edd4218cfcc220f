"""Attributions beside plain loops and hand-made gradients, on models with every trait that breaks hooks."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from explained_models import CLASSES, images, make, vgg
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp

METHODS = ["gradient_x_activation", "grad_cam", "integrated_gradients", "ablation"]


class Shared(nn.Module):
    """One convolution that runs twice, each time with a ReLU in place behind it."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x, edit=None):
        x = torch.tanh(self.first(x))
        for call in range(2):
            x = self.shared(x).relu_()
            if edit is not None:
                x = edit(call, x)
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Channels last: a layer norm, a linear layer and a GELU on (N, H, W, C)."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.mlp = nn.Conv2d(3, 6, 2, stride=2), nn.LayerNorm(6), nn.Linear(6, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = F.gelu(self.mlp(self.norm(self.stem(x).permute(0, 2, 3, 1))))
        return self.head(x.mean((1, 2)))


def seeded(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def batch(count=3, dtype=torch.float32):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)


def test_ablation_is_the_plain_loop():
    """Each channel's number is the score less the score of a forward pass with that channel set, however batched."""
    model, pictures = make("vgg"), images("vgg")
    found = sp.attribute(model, pictures, 2, layers="3", method="ablation", baseline=0.25, batch_size=6)["3"]
    expected = torch.zeros(2, 8)
    with torch.no_grad():
        for channel in range(8):
            front = model[:5](pictures)
            changed = front.clone()
            changed[:, channel] = 0.25
            expected[:, channel] = (model[5:](front.clone()) - model[5:](changed))[:, 2]
    torch.testing.assert_close(found.channels, expected, rtol=1e-5, atol=1e-7)
    assert found.values is None
    assert found.map is None


@pytest.mark.parametrize("call", [0, 1])
def test_ablation_replaces_one_run(call):
    """Of a layer that runs twice, the run that the attribution is of is replaced, and no other."""
    model, pictures = seeded(Shared), batch()
    found = sp.attribute(model, pictures, 1, layers="shared", method="ablation")["shared", call]
    with torch.no_grad():
        whole = model(pictures)[:, 1]
        for channel in range(4):
            keep = torch.ones(4)
            keep[channel] = 0
            left = model(pictures, lambda run, x, keep=keep: x * keep[:, None, None] if run == call else x)[:, 1]
            torch.testing.assert_close(found.channels[:, channel], whole - left, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_gradients_of_each_run(at):
    """The runs of a shared layer are apart, in their order; values are activation times gradient."""
    model, pictures = seeded(Shared), batch()
    found = sp.attribute(model, pictures, 1, layers="shared", at=at)
    assert len(found) == 1
    assert [one.call for one in found.calls("shared")] == [0, 1]
    kept = []
    x = torch.tanh(model.first(pictures))
    for _ in range(2):
        y = model.shared(x)
        x = y.relu()
        kept.append(y if at == "output" else x)
    gradients = torch.autograd.grad(model.head(x.mean((2, 3)))[:, 1].sum(), kept)
    for one, value, gradient in zip(found.calls("shared"), kept, gradients, strict=True):
        torch.testing.assert_close(one.values, (value * gradient).detach())
    with pytest.raises(sp.AmbiguousCallError, match="ran 2 times"):
        found["shared"]


@pytest.mark.parametrize("method", METHODS)
def test_complete_where_the_rest_is_linear(method):
    """Behind the last nonlinearity the model is linear: contributions add up to the score less that of the baseline."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(4, 3, bias=False))
    found = sp.attribute(model, batch(), "predicted", method=method)["0"]
    assert torch.equal(found.target, model(batch()).argmax(1))
    torch.testing.assert_close(found.score, model(batch()).max(1).values.detach())
    torch.testing.assert_close(found.channels.sum(1), found.score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smooth", [nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus])
def test_integrated_gradients_are_complete(smooth):
    """On smooth models 64 steps leave a residual below one percent of the score's change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = vgg(smooth).eval()
    pictures = images("vgg").float()
    for found in sp.attribute(model, pictures, 1, method="integrated_gradients", steps=64).values():
        change = found.channels.sum(1) + found.residual
        assert (found.residual.abs() < 0.01 * change.abs() + 1e-6).all()
        assert change.abs().min() > 1e-4


def test_residual_is_what_is_missing():
    """With one step on a curved path, values and residual together are the measured change of the score."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(128, 3), nn.Tanh()).eval()
    found = sp.attribute(model, batch(), 0, layers="0", method="integrated_gradients", steps=1)["0"]
    with torch.no_grad():
        before = model[2:](torch.zeros(3, 2, 8, 8))[:, 0]
    torch.testing.assert_close(found.channels.sum(1) + found.residual, found.score - before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_channels_last(method, at):
    """Channels are the last axis of such layers, and the second of what is returned."""
    model, pictures = seeded(Tokens), batch()
    found = sp.attribute(model, pictures, 1, layers="mlp", at=at, method=method)["mlp"]
    assert found.channels.shape == (3, 10)
    front = model.mlp(model.norm(model.stem(pictures).permute(0, 2, 3, 1)))
    value = (front if at == "output" else F.gelu(front)).detach().requires_grad_()

    def rest(value):
        return model.head((F.gelu(value) if at == "output" else value).mean((1, 2)))[:, 1]

    (gradient,) = torch.autograd.grad(rest(value).sum(), value)
    if method == "gradient_x_activation":
        torch.testing.assert_close(found.values, (value * gradient).detach().movedim(-1, 1))
    elif method == "grad_cam":
        torch.testing.assert_close(found.values, (value * gradient.mean((1, 2), keepdim=True)).detach().movedim(-1, 1))
    elif method == "ablation":
        keep = torch.ones(10)
        keep[7] = 0
        torch.testing.assert_close(
            found.channels[:, 7], (rest(value) - rest(value * keep)).detach(), atol=1e-6, rtol=1e-4
        )
    else:
        torch.testing.assert_close(
            found.channels.sum(1), (rest(value) - rest(0 * value)).detach(), atol=1e-5, rtol=1e-3
        )


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_frozen_and_trainable_models_agree(method, frozen):
    """Where nothing requires a gradient, inside no_grad and inference mode, the numbers are the same."""
    model, pictures = make("mobilenet"), images("mobilenet")
    layers = ["features.0.0", "features.2.conv.0.0"]
    expected = sp.attribute(model, pictures, 2, layers=layers, at="output", method="gradient_x_activation")
    if frozen:
        model.requires_grad_(False)
    with torch.inference_mode():
        found = sp.attribute(model, pictures, 2, layers=layers, at="output", method=method, steps=2)
    for layer in layers:
        if method == "gradient_x_activation":
            torch.testing.assert_close(found[layer].values, expected[layer].values)
        assert found[layer].channels.abs().sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_halves(method):
    """A model in bfloat16 gives float32 contributions, as near to those in float32 as its numbers are."""
    model = make("vgg").float()
    pictures = images("vgg").float()
    exact = sp.attribute(model, pictures, 2, method=method)["5"].channels
    found = sp.attribute(model.bfloat16(), pictures.bfloat16(), 2, method=method)["5"].channels
    assert found.dtype is torch.float32
    assert (found - exact).abs().max() < 0.05 * exact.abs().max() + 0.02


@pytest.mark.parametrize("method", METHODS)
def test_views_modified_in_place(method):
    """A convolution whose output is reshaped and then modified in place, as a view of the same memory."""

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

        def forward(self, x):
            y = self.conv(x)
            y.view(len(y), -1).mul_(2.0).add_(1.0)
            return self.head(F.softplus(y).flatten(1))

    model = seeded(Views)
    found = sp.attribute(model, batch(), 1, layers="conv", at="output", method=method)["conv"]
    value = model.conv(batch()).detach().requires_grad_()
    score = model.head(F.softplus(2 * value + 1).flatten(1))[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), value)
    if method == "gradient_x_activation":
        torch.testing.assert_close(found.values, (value * gradient).detach())
    elif method == "ablation":
        keep = torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None]
        left = model.head(F.softplus(2 * keep * value + 1).flatten(1))[:, 1]
        torch.testing.assert_close(found.channels[:, 1], (score - left).detach(), rtol=1e-4, atol=1e-6)
    else:
        assert found.values.shape == value.shape


def test_any_output_and_any_batch():
    """A mapping goes in by `forward`, another comes out and is read by `target`; the batch is repeated right."""

    class Wraps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make("vgg").float()

        def forward(self, pixels, scale):
            return {"logits": (self.net(pixels * scale), None)}

    model, pictures = Wraps().eval(), images("vgg").float()
    given = {"pixels": pictures, "scale": torch.tensor(1.0), "labels": torch.tensor([1, 2])}

    def forward(model, batch):
        return model(batch["pixels"], batch["scale"])

    def target(output):
        return output["logits"][0][range(len(output["logits"][0])), 1]

    for method in METHODS:
        plain = sp.attribute(model.net, pictures, 1, layers="5", method=method, batch_size=4)["5"]
        found = sp.attribute(model, given, target, layers="net.5", method=method, forward=forward, batch_size=4)
        torch.testing.assert_close(found["net.5"].channels, plain.channels, rtol=1e-4, atol=1e-6)
        assert found["net.5"].target.tolist() == [-1, -1]


class Patches(nn.Module):
    """A class token before 2 x 2 patches, mixed by attention; its batches are mappings."""

    def __init__(self):
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 6, 4, stride=4), nn.MultiheadAttention(6, 2, batch_first=True)
        self.mlp, self.head = nn.Linear(6, 7), nn.Linear(7, 3)
        self.token, self.norm = nn.Parameter(torch.randn(1, 1, 6)), nn.LayerNorm(6)

    def forward(self, pixels, scale=1.0):
        x = self.stem(pixels * scale).flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1))
        x = self.mlp(x + self.mix(x, x, x)[0])
        return self.head((x[:, 0] + x[:, 1:].mean(1)).tanh())


@pytest.mark.parametrize("forward", [None, lambda model, batch: model(batch["pixels"], batch["scale"])])
def test_tokens_are_a_grid_in_mappings_too(forward):
    """Of a mapping the model gets what it names; tokens lie in their grid, the class token apart, and both count."""
    model, pixels = seeded(Patches), batch()
    given = {"labels": torch.tensor([0, 1, 2]), "pixels": pixels, "scale": torch.tensor(2.0)}
    value = model.mix(*[with_token(model, pixels)] * 3)[0] + with_token(model, pixels)
    value = model.mlp(value).detach().requires_grad_()
    score = model.head((value[:, 0] + value[:, 1:].mean(1)).tanh())[:, 2]
    (gradient,) = torch.autograd.grad(score.sum(), value)
    for method in METHODS:
        options = {"layers": "mlp", "at": "output", "method": method, "forward": forward, "steps": 8, "batch_size": 6}
        found = sp.attribute(model, given, 2, **options)["mlp"]
        torch.testing.assert_close(found.score, score.detach())
        assert found.layout == sp.Tokens(2, 2, leading=1)
        if method == "ablation":
            for channel in range(7):
                less = torch.where(torch.arange(7) == channel, 0.0, value.detach())
                left = model.head((less[:, 0] + less[:, 1:].mean(1)).tanh())[:, 2]
                torch.testing.assert_close(found.channels[:, channel], (score - left).detach(), rtol=1e-4, atol=1e-6)
            continue
        assert (found.values.shape, found.leading.shape, found.map.shape) == ((3, 7, 2, 2), (3, 1, 7), (3, 2, 2))
        total = found.values.sum((2, 3)) + found.leading.sum(1)
        torch.testing.assert_close(found.channels, total)
        if method == "integrated_gradients":
            assert found.residual.abs().max() < 1e-4
            continue
        weight = gradient.clone()
        if method == "grad_cam":
            weight[:, 1:] = gradient[:, 1:].mean(1, keepdim=True)
        expected = (value * weight).detach()
        torch.testing.assert_close(found.leading, expected[:, :1])
        torch.testing.assert_close(found.values.flatten(2), expected[:, 1:].transpose(1, 2))
    again = sp.evidence.channel_deletion(model, given, found, k=1)
    torch.testing.assert_close(torch.from_numpy(again.values).float(), found.channels.max(1).values)


def with_token(model, pixels):
    """Return the tokens before attention, of pixels that are scaled by 2."""
    x = model.stem(pixels * 2).flatten(2).transpose(1, 2)
    return model.norm(torch.cat([model.token.expand(len(x), -1, -1), x], dim=1))


def test_tables():
    """As text and in a notebook: a row a run, the strongest channels with their numbers, and what is left out."""
    model, pictures = make("vgg"), images("vgg")
    found = sp.attribute(model, pictures, 2, layers="*")
    first = int(found["0"].top(1)[0, 0])
    text, html = repr(found), found._repr_html_()
    assert f"{first} ({float(found['0'].channels[0, first]):+.3g})" in text
    for words in (text, html):
        assert "Left out: " in words
        assert "gradient_x_activation, post_activation, of 2 images" in words
    assert html.count("<img") == sum(one.map.ndim == 3 for layer in found for one in found.calls(layer))
    assert "on one scale for all layers" in html
    measured = sp.attribute(model, pictures, 2, layers="0", method="ablation")._repr_html_()
    assert "<img" not in measured
    assert "channel_deletion" in measured


def test_a_function_gets_the_images_alone():
    """A target function that knows the number of images, such as one with their labels, needs no other number."""
    model, pictures, labels = make("vgg"), images("vgg"), torch.tensor([1, 3])
    for method in METHODS:
        found = sp.attribute(model, pictures, lambda out: out[torch.arange(2), labels], layers="5", method=method)["5"]
        expected = sp.attribute(model, pictures, labels, layers="5", method=method)["5"]
        torch.testing.assert_close(found.channels, expected.channels)
        torch.testing.assert_close(found.channels, sp.attribute(model, pictures, [1, 3], method=method)["5"].channels)


def test_left_out_and_by_name():
    """What cannot be attributed is left out with its reason, and is an error where it was chosen by name."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.silent = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.bare, self.head = nn.Conv2d(4, 3, 1), nn.Identity()

        def forward(self, x):
            self.unused(x).relu()
            return self.bare(self.used(x).relu()).mean((2, 3))

    model = seeded(Odd)
    found = sp.attribute(model, batch(), 0)
    assert list(found) == ["used"]
    assert {name: why.split(".")[0] for name, why in found.left_out.items()} == {
        "unused": "The scores do not depend on layer 'unused': what follows it is not used, is detached, or is "
        "computed under torch",
        "silent": "Layer 'silent' did not run on these images",
        "bare": "No single nonlinearity follows layer 'bare': its output was taken by mean",
    }
    assert "Left out: silent, bare, unused" in repr(found)
    for method in METHODS:
        assert list(sp.attribute(model, batch(), 0, method=method)) == ["used"]
        with pytest.raises(sp.ProbeStateError, match="do not depend on layer 'unused'"):
            sp.attribute(model, batch(), 0, layers="unused", method=method)
    with pytest.raises(sp.LayerNotRunError, match="'silent' did not run"):
        sp.attribute(model, batch(), 0, layers=["used", "silent"])
    with pytest.raises(sp.UnresolvedActivationError, match=r"follows layer 'bare'.*at='output'"):
        sp.attribute(model, batch(), 0, layers=model.bare)
    with pytest.raises(sp.LayerNotFoundError, match="did not run on these images"):
        found["silent"]
    with pytest.raises(sp.UnsupportedOutputError, match="All layers are left out"):
        sp.attribute(model, batch(), 0, layers=lambda name, module: name == "silent")


def test_layers_that_return_no_maps():
    """Layers of other outputs, found by a pattern, are left out; by name they are an error."""

    class Pair(nn.Module):
        def forward(self, x):
            return x, x.mean()

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pair, self.head = nn.Conv2d(3, 4, 1), Pair(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.pair(self.conv(x))[0].mean((2, 3)))

    found = sp.attribute(seeded(Wrapped), batch(), 1, layers="*", at="output")
    assert list(found) == ["conv", "head", ""]
    assert "no single tensor but a tuple" in found.left_out["pair"]
    with pytest.raises(sp.UnsupportedOutputError, match="no single tensor but a tuple"):
        sp.attribute(seeded(Wrapped), batch(), 1, layers="pair", at="output")


class Answers(nn.Module):
    """A classifier that returns its scores in a container, under a name."""

    def __init__(self, model, kind, scores="logits"):
        super().__init__()
        self.model, self.kind, self.scores = model, kind, scores

    def forward(self, x):
        scores = self.model(x)
        named = {"hidden": scores[:, :, None]} if self.scores is None else {"hidden": x, self.scores: scores}
        return self.kind(**named)


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_named_logits(kind):
    """Classes are found in the `logits` of a mapping or an object, as Hugging Face's models return them."""
    model, pictures = make("vgg"), images("vgg")
    named, plain = (sp.attribute(one, pictures, layers="*0") for one in (Answers(model, kind).eval(), model))
    assert torch.equal(named["model.0"].values, plain["0"].values)
    assert torch.equal(named["model.0"].target, plain["0"].target)


def test_wrong_targets():
    """Classes that do not exist, scores that are not (N,), outputs that are no logits."""
    model, pictures = make("vgg"), images("vgg")
    cases = {
        "has classes 0 to 4: there is no class 5": CLASSES,
        "there is no class -1": -1,
        "target holds 3 classes for 2 images": [0, 1, 2],
        r"target returned torch.float64 \(2, 5\): it must return one": lambda out: out,
        "target returned a float": lambda out: 1.0,
        "target must be 'predicted', a class index": "best",
        "target must be 'predicted'": 1.5,
    }
    for match, target in cases.items():
        with pytest.raises(sp.ArgumentError, match=match):
            sp.attribute(model, pictures, target)
    with pytest.raises(sp.ArgumentError, match="them as its logits"):
        sp.attribute(Answers(model, dict, scores=None), pictures)
    with pytest.raises(sp.ArgumentError, match=r"returned a dict with \['maps'\].*target=lambda output"):
        sp.attribute(make("unet"), images("unet"))
    with pytest.raises(sp.NonFiniteActivationError, match="The score of image 1 is infinite or NaN"):
        sp.attribute(model, torch.stack([pictures[0], pictures[1] * float("nan")]), 1)
    with pytest.raises(sp.ForwardError, match="raised RuntimeError"):
        sp.attribute(model, pictures[:, :2], 1)
    with pytest.raises(sp.ArgumentError, match=r"baseline \(3,\) does not broadcast to the values \(2, 6, 16, 16\)"):
        sp.attribute(model, pictures, 1, layers="0", method="integrated_gradients", baseline=torch.zeros(3))


def test_models_without_gradients():
    """Scores that are detached, or computed without gradients, are an error that names the way out."""

    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make("vgg")

        def forward(self, x):
            return self.net(x).detach()

    class NoGrad(Detached):
        @torch.no_grad()
        def forward(self, x):
            return self.net(x)

    for method in ("gradient_x_activation", "integrated_gradients"):
        with pytest.raises(sp.ProbeStateError, match="method='ablation' needs no gradient"):
            sp.attribute(Detached(), images("vgg"), 1, layers="net.5", method=method)
        with pytest.raises(sp.ProbeStateError, match="gradient"):
            sp.attribute(NoGrad(), images("vgg"), 1, layers="net.5", method=method)
    for kind in (Detached, NoGrad):
        assert sp.attribute(kind(), images("vgg"), 1, layers="net.5", method="ablation")["net.5"].channels.any()


def test_checkpoints():
    """Layers inside an activation checkpoint: right where they are recomputed, and refused where one is replaced."""

    class Saves(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make("vgg")

        def forward(self, x):
            return self.net[7:](checkpoint(self.net[:7], x, use_reentrant=False))

    model, pictures = Saves(), images("vgg")
    for at in ("output", "post_activation"):
        found = sp.attribute(model, pictures, 1, layers="net.3", at=at)["net.3"]
        torch.testing.assert_close(found.values, sp.attribute(model.net, pictures, 1, layers="3", at=at)["3"].values)
    removed = sp.attribute(model, pictures, 1, layers="net.3", method="ablation")["net.3"]
    plain = sp.attribute(model.net, pictures, 1, layers="3", method="ablation")["3"]
    torch.testing.assert_close(removed.channels, plain.channels)
    with pytest.raises(sp.ProbeStateError, match="inside an activation checkpoint"):
        sp.attribute(model, pictures, 1, layers=model.net[3], method="integrated_gradients")


def test_grads_of_parameters_stay():
    """`.grad` of parameters and of the caller's images is untouched, whether there was one or none."""
    model, pictures = make("vgg"), images("vgg").requires_grad_()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    for method in METHODS:
        sp.attribute(model, pictures, 1, method=method)
    assert (model[0].weight.grad == 1).all()
    assert all(parameter.grad is None for parameter in list(model.parameters())[1:])
    assert pictures.grad is None


def test_top_is_ordered_by_signed_contribution():
    """The largest contribution comes first, negative ones last; equal ones by their number."""
    found = sp.attribute(make("vgg"), images("vgg"), 2)["3"]
    order = found.top(8)
    assert (found.channels.gather(1, order).diff(dim=1) <= 0).all()
    assert torch.equal(found.top(3), order[:, :3])
    with pytest.raises(sp.ArgumentError, match="k=9 is more than layer '3' has: 8 channels"):
        found.top(9)


def test_progress(capsys):
    """The slow methods show a bar where asked for, the quick ones have none."""
    sp.attribute(make("vgg"), images("vgg"), 2, layers="3", method="ablation", progress=True)
    assert "ablation" in capsys.readouterr().err
    sp.attribute(make("vgg"), images("vgg"), 2, layers="3", method="ablation")
    sp.attribute(make("vgg"), images("vgg"), 2, layers="3", progress=True)
    assert capsys.readouterr().err == ""


class Named(nn.Module):
    """A model that takes its images by name, and one more method than `forward`."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def features(self, x):
        return torch.tanh(self.conv(x))

    def forward(self, pixel_values, labels=None):
        return {"logits": self.head(self.features(pixel_values).mean((2, 3)))}


@dataclass
class Pair:
    pixel_values: torch.Tensor
    label: torch.Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: {"labels": y, "pixel_values": x},
        lambda x, y: UserDict(pixel_values=x, labels=y),
        Pair,
        lambda x, y: (x, y),
        lambda x, y: ({"pixel_values": x}, y),
    ],
    ids=["dict", "mapping", "dataclass", "tuple", "tuple of a dict"],
)
def test_batches_are_read_as_everywhere(form):
    """Attribution, its repeated batches and its check read a batch as a sweep does, without `forward=`."""
    model, x = seeded(Named), batch()
    given = form(x, torch.zeros(3))
    score = lambda output: output["logits"][:, 1]  # noqa: E731
    for method in METHODS:
        found = sp.attribute(model, given, score, method=method, batch_size=6)["conv"]
        assert torch.equal(found.channels, sp.attribute(model, x, score, method=method, batch_size=6)["conv"].channels)
    assert sp.evidence.channel_deletion(model, given, found, k=1).values.shape == (3,)
    with pytest.raises(sp.ArgumentError, match=r"forward=lambda model, batch: model\(batch\['image'\]\)"):
        sp.attribute(model, {"image": x}, score)


def test_other_methods_than_forward():
    """A function may call another method: what that returns is scored, what follows it is no layer's activation."""
    model, x = seeded(Named), batch()
    score = lambda output: output.relu().sum((1, 2, 3))  # noqa: E731
    forward = lambda model, batch: model.features(batch)  # noqa: E731
    found = sp.attribute(model, x, score, forward=forward)["conv"]
    value = model.features(x).detach()
    torch.testing.assert_close(found.channels, value.relu().sum((2, 3)))
    outside = lambda model, batch: model.conv(batch)  # noqa: E731
    with pytest.raises(sp.UnsupportedOutputError, match="taken by nothing"):
        sp.attribute(model, x, score, forward=outside)
    assert sp.evidence.channel_deletion(model, x, found, k=1).values.shape == (3,)
