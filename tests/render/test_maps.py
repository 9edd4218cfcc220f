"""Pictures of layers whose channels come last: refused where it is in doubt, equal to permuting by hand once said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from turned import TURNED, made, turn
from zoo import ZOO

import spatialprobe as sp


def pictures(record, **layout):
    """Return each picture of one record, as a function."""
    return (
        lambda: sp.feature_maps(record, **layout).array,
        lambda: sp.feature_maps({"layer": record}, **layout)["layer"].array,
        lambda: np.asarray(record.plot(**layout).axes[0].get_images()[0].get_array()),
        lambda: sp.activation_histogram(record, **layout).counts,
        lambda: sp.evolution([record, record], channels=[0], **layout).array,
        lambda: record.maps(**layout).values.numpy(),
    )


def probed(model, images, layers):
    """Return the records of a probe, which makes no pass of its own."""
    with torch.no_grad(), sp.Probe(model, list(layers)) as probe:
        model(images)
    return probe


@pytest.mark.parametrize("name", TURNED)
def test_doubt_is_refused(name):
    """No picture takes a token, a row or a column for a channel; the message says what to write, and that works."""
    model, images, layers = made(name)
    for record in probed(model, images, layers).records:
        for picture in pictures(record):
            with pytest.raises(sp.ArgumentError, match="holds the channels.*layout='channels_last' or layout=sp.Tok"):
                picture()
        layout = sp.Tokens(4, 6, leading=1) if name == "tokens" else "channels_last"
        said = replace(record, layout=layout)
        found = sp.capture(model, images, layers=record.layer)[record.layer]
        assert found.layout == layout
        by_hand = replace(record, tensor=turn(name, record.tensor), layout="channels_first")
        ways = zip(pictures(record, layout=layout), pictures(said), pictures(found), pictures(by_hand), strict=True)
        for one, other, third, expected in ways:
            assert np.array_equal(one(), expected())
            assert np.array_equal(other(), expected())
            assert np.array_equal(third(), expected())


def test_leading_tokens_come_apart():
    """A class token is no unit of a map: it comes as `leading`, in the memory of the record."""
    model, images, _ = made("tokens")
    record = sp.capture(model, images, layers="0.norm")["0.norm"]
    maps = record.maps()
    assert torch.equal(maps.leading, record.tensor[:, :1])
    assert torch.equal(maps.values[:, :, 2, 3], record.tensor[:, 1 + 2 * 6 + 3])
    assert maps.values.untyped_storage().data_ptr() == record.tensor.untyped_storage().data_ptr()
    flat = record.maps(layout="channels_last")
    assert (flat.values.shape, flat.leading) == ((2, 6, 25), None)
    assert sp.capture(model, images, layers="0.patches")["0.patches"].maps().values.shape == (2, 6, 4, 6)


def test_layouts_that_do_not_fit():
    """Tokens of another number are refused by a record, and left out of a gallery by name."""
    model, images, _ = made("tokens")
    records = sp.capture(model, images, layers=["0.patches", "0.norm"])
    for picture in pictures(records["0.norm"], layout=sp.Tokens(5, 4)):
        with pytest.raises(sp.ArgumentError, match=r"output \(2, 25, 6\) of layer '0.norm' does not have the layout"):
            picture()
    gallery = sp.feature_maps(records, layout=sp.Tokens(4, 6, 1))
    assert list(gallery) == ["0.norm"]
    assert "does not have the layout" in gallery.left_out["0.patches"]
    for picture in pictures(records["0.norm"], layout="rows"):
        with pytest.raises(sp.ArgumentError, match="layout must be 'auto'"):
            picture()
    swept = sp.sweep(model, images, {"bins": sp.Histogram}, layers="0.norm", progress=False)["0.norm"]["bins"]
    with pytest.raises(sp.ArgumentError, match="layout= are for records"):
        sp.activation_histogram(swept, layout="channels_last")


def test_capture_makes_no_pass_without_doubt_or_through_hooks(monkeypatch):
    """Convolutions are captured in one pass; the user's own hooks are not run by a second one."""
    model, images, _ = made("mixer")
    ran = []
    handle = model[1].register_forward_hook(lambda *_: ran.append(1))
    record = sp.capture(model, images, layers="2")["2"]
    handle.remove()
    assert (record.layout, ran) == (None, [1])
    monkeypatch.setattr("spatialprobe.fields.layout.layouts_of", lambda *_, **__: pytest.fail("a pass was followed"))
    assert sp.capture(model, images)["0"].layout == "channels_first"
    assert sp.capture(ZOO["chain"].model(), torch.rand(ZOO["chain"].shape), layers="*").records


def test_a_transform_says_it():
    """What a transform returns is read as (N, C, *units)."""
    model, images, _ = made("swin")
    turned = sp.capture(model, images, layers="5", transform=lambda output: output.movedim(-1, 1))["5"]
    assert "16 of 16 channels shown" in sp.feature_maps(turned).caption


def test_a_gallery_names_what_it_leaves_out():
    """Of several records those in doubt are left out by name."""
    model, images, _ = made("mixer")
    gallery = sp.feature_maps(probed(model, images, ["0", "2"]))
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
