"""Attributions beside those of captum, layer by layer, on networks of the usual kinds."""

from __future__ import annotations

import pytest
import torch
from explained_models import KINDS, images, make, without_writes
from torch import nn

import spatialprobe as sp

attr = pytest.importorskip("captum.attr")

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
CLASS = 3


def score(output):
    """Return a score for each image, of classes or of the U-Net's maps."""
    return output["maps"][:, CLASS].mean((1, 2)) if isinstance(output, dict) else output[:, CLASS]


def layers_of(model):
    """Return some convolutions by name, from all depths."""
    names = [name for name, module in model.named_modules() if isinstance(module, CONVOLUTIONS)]
    return names[:: max(1, len(names) // 4)]


def close(found, expected):
    expected = expected.float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()) + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_x_activation(kind):
    """All convolutions in one pass give what captum gives for each."""
    model, batch = make(kind), images(kind)
    found = sp.attribute(model, batch, score, layers=CONVOLUTIONS, at="output")
    plain = without_writes(make(kind))
    for name in layers_of(plain):
        peer = attr.LayerGradientXActivation(lambda x: score(plain(x)), plain.get_submodule(name))
        close(found[name].values, peer.attribute(batch).detach())
        assert found[name].channels.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_grad_cam(kind):
    """The sum over channels is captum's map, without the ReLU."""
    model, batch = make(kind), images(kind)
    found = sp.attribute(model, batch, score, layers=CONVOLUTIONS, at="output", method="grad_cam")
    plain = without_writes(make(kind))
    for name in layers_of(plain):
        peer = attr.LayerGradCam(lambda x: score(plain(x)), plain.get_submodule(name))
        close(found[name].map, peer.attribute(batch, relu_attributions=False)[:, 0].detach())


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_gradients(kind):
    """From the layer's output on black images, captum's path, the same values at the same points."""
    model, batch = make(kind), images(kind)
    plain, black = without_writes(make(kind)), torch.zeros_like(batch)
    for name in layers_of(plain)[:2]:
        start = sp.capture(model, black, layers=name)[name].tensor
        found = sp.attribute(
            model, batch, score, layers=name, at="output", method="integrated_gradients", baseline=start, steps=12
        )
        peer = attr.LayerIntegratedGradients(lambda x: score(plain(x)), plain.get_submodule(name))
        close(found[name].values, peer.attribute(batch, black, n_steps=12).detach())


@pytest.mark.parametrize("method", ["gradient_x_activation", "grad_cam", "integrated_gradients"])
def test_after_the_nonlinearity(method):
    """Of the value of a ReLU in place, captum's attribution to the ReLU that is not."""
    model, batch = make("vgg"), images("vgg")
    found = sp.attribute(model, batch, CLASS, method=method, steps=12)
    plain = without_writes(make("vgg"))
    for conv, nonlinearity in (("0", "1"), ("3", "4"), ("5", "6")):
        layer = plain.get_submodule(nonlinearity)
        if method == "integrated_gradients":
            peer = attr.IntegratedGradients(lambda value, layer=nonlinearity: behind(plain, layer, value))
            value = sp.capture(plain, batch, layers=nonlinearity)[nonlinearity].tensor
            close(found[conv].values, peer.attribute(value, n_steps=12).detach())
        elif method == "grad_cam":
            peer = attr.LayerGradCam(plain, layer)
            close(found[conv].map, peer.attribute(batch, CLASS)[:, 0].detach())
        else:
            close(found[conv].values, attr.LayerGradientXActivation(plain, layer).attribute(batch, CLASS).detach())


def behind(model, layer, value):
    """Return the score of what a sequence makes of the value of one of its layers."""
    for module in list(model)[int(layer) + 1 :]:
        value = module(value)
    return score(value)


def test_tokens_of_a_transformer():
    """Layers whose channels come last give captum's values, with the channels second."""
    model, batch = make("vit"), images("vit")
    names = ["encoder.layers.encoder_layer_0.mlp", "encoder.layers.encoder_layer_0.ln_2"]
    found = sp.attribute(model, batch, CLASS, layers=names, at="output")
    plain = without_writes(make("vit"))
    for name in names:
        peer = attr.LayerGradientXActivation(plain, plain.get_submodule(name)).attribute(batch, CLASS)
        close(found[name].values, peer.detach()[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1))
        close(found[name].leading, peer.detach()[:, :1])
        close(found[name].channels, peer.detach().sum(1))  # the class token is part of the answer
        assert found[name].layout == sp.Tokens(4, 4, leading=1)
        assert found[name].map.shape == (2, 4, 4)
        line = sp.attribute(model, batch, CLASS, layers=name, at="output", layout="channels_last")[name]
        close(line.values, peer.detach().movedim(-1, 1))
        assert line.leading is None
    with pytest.raises(sp.UnsupportedOutputError, match="does not have the layout"):
        sp.attribute(model, batch, CLASS, layers=names[0], at="output", layout=sp.Tokens(4, 4))
