"""Pictures of layers whose channels come last: refused where it is in doubt, equal to permuting by hand once said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from turned import TURNED, made
from zoo import ZOO

import spatialprobe as sp


def pictures(record):
    """Return each picture of one record, as a function."""
    return (
        lambda: sp.feature_maps(record).array,
        lambda: np.asarray(record.plot().axes[0].get_images()[0].get_array()),
        lambda: sp.activation_histogram(record).counts,
        lambda: sp.evolution([record, record], channels=[0]).array,
    )


@pytest.mark.parametrize("name", TURNED)
def test_doubt_is_refused(name):
    """No picture takes a token, a row or a column for a channel; the message says what to write, and that works."""
    model, images, layers = made(name)
    for record in sp.capture(model, images, layers=list(layers)).records:
        for picture in pictures(record):
            with pytest.raises(sp.ArgumentError, match="holds the channels.*layout='channels_last'"):
                picture()
        said = replace(record, layout="channels_last")
        by_hand = replace(record, tensor=record.tensor.movedim(-1, 1), layout="channels_first")
        for one, other in zip(pictures(said), pictures(by_hand), strict=True):
            assert np.array_equal(one(), other())


def test_a_transform_says_it():
    """What a transform returns is read as (N, C, *units)."""
    model, images, _ = made("swin")
    turned = sp.capture(model, images, layers="5", transform=lambda output: output.movedim(-1, 1))["5"]
    assert "16 of 16 channels shown" in sp.feature_maps(turned).caption


def test_a_gallery_names_what_it_leaves_out():
    """Of several records those in doubt are left out by name."""
    model, images, _ = made("mixer")
    gallery = sp.feature_maps(sp.capture(model, images, layers=["0", "2"]))
    assert list(gallery) == ["0"]
    assert "holds the channels" in gallery.left_out["2"]


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_false_doubt(name):
    """In channels-first networks each record has its layout, whatever the layer."""
    model = ZOO[name].model()
    names = [name for name, module in model.named_modules() if not isinstance(module, nn.Linear)]
    outputs = sp.capture(
        model,
        ZOO[name].images(),
        layers=names,
        missing="ignore",
        pick=lambda out: out if isinstance(out, torch.Tensor) else out[0],
    )
    assert {record.layout for record in outputs.records} == {"channels_first"}
