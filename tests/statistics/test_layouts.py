"""Sweeps of layers whose channels come last: equal to permuting by hand, or refused and named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from turned import TURNED, made, turn
from zoo import ZOO

import spatialprobe as sp
from spatialprobe.statistics import layouts

quiet = partial(sp.sweep, progress=False)
REDUCERS = {
    "moments": sp.Moments,
    "histogram": sp.Histogram,
    "top": partial(sp.Exemplars, k=2),
    "covariance": sp.ChannelCovariance,
    "dead": sp.Dead,
}


class Doubtful(nn.Module):
    """Tokens mixed over all tokens, beside a convolution that leaves no doubt."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.mix = nn.Conv2d(3, 5, 4, stride=4), nn.LayerNorm(5), nn.Linear(6, 7)

    def forward(self, x):
        return self.mix(self.norm(self.conv(x).flatten(2).transpose(1, 2)).transpose(1, 2))


class Permuting:
    """A reducer of the user's own that permutes."""

    def __init__(self):
        self.inner = sp.Moments()

    def update(self, activation, samples):
        self.inner.update(activation.movedim(-1, 1), samples)

    def merge(self, other):
        self.inner.merge(other.inner)

    def result(self):
        return self.inner.result()


class Inherits(sp.Moments):
    """Another kind of the same reducer."""


def outputs(model, data, layer):
    """Return what a layer returns, cloned."""
    with torch.no_grad(), sp.Probe(model, layer, copy="always") as probe:
        model(data)
    return probe.calls(layer)[0].tensor


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("size", [2, 5])
def test_equal_to_permuting_by_hand(name, size):
    """Every reducer gives what it gives of the permuted output, whatever the batches."""
    model, images, layers = made(name)
    data = torch.rand(5, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    swept = quiet(model, data, REDUCERS, layers=list(layers), batch_size=size)
    for layer in layers:
        values = turn(name, outputs(model, data, layer))
        for reducer, make in REDUCERS.items():
            by_hand = make()
            by_hand.update(values, torch.arange(5))
            for field, expected in vars(by_hand.result()).items():
                if isinstance(expected, torch.Tensor):
                    found = getattr(swept[layer][reducer], field)
                    assert torch.allclose(found.double(), expected.double(), atol=1e-5, equal_nan=True), (layer, field)
    assert not swept.left_out


def test_exemplars_and_fields_fit():
    """Positions of a channels-last layer are rows and columns of its field, so that patches are cut where it looked."""
    model, images, _ = made("swin")
    data = torch.rand(6, *images.shape[1:])
    top = quiet(model, data, {"top": partial(sp.Exemplars, k=2)}, layers="5")["5"]["top"]
    field = sp.receptive_fields(model, data[:1])["5"]
    assert (top.values.shape, field.output_size) == ((16, 2), (4, 4))
    assert int(top.positions.max()) < 4
    sp.exemplar_patches(top, data, field, channels=[0, 15])
    sp.evidence.patch_coherence(top, data, field)


def test_own_reducers_see_the_output_as_it_is():
    """A reducer that permutes goes on working; one that inherits from a shipped one is given channels second."""
    model, images, _ = made("mixer")
    found = quiet(model, images, {"own": Permuting, "inherits": Inherits, "shipped": sp.Moments}, layers="2")["2"]
    assert torch.equal(found["own"].mean, found["shipped"].mean)
    assert torch.equal(found["inherits"].mean, found["shipped"].mean)
    assert quiet(Doubtful(), torch.rand(2, 3, 8, 12), {"own": Permuting}, layers="mix")["mix"]["own"].mean.shape == (7,)


def test_post_activation():
    """The value after the nonlinearity has the layout of the layer."""
    model, images, _ = made("mixer")
    found = quiet(model, images, {"moments": sp.Moments}, layers="4.map", at="post_activation")["4.map"]["moments"]
    expected = outputs(model, images, "4.map").relu().flatten(0, 2).double()
    assert torch.allclose(found.mean, expected.mean(0))


def test_doubt():
    """A layer that nothing tells about is an error by name, and left out and named by a pattern; `layout=` says it."""
    model, data = Doubtful(), torch.rand(4, 3, 8, 12)
    for layers in ("mix", model.mix, ["conv", "mix"]):
        said = r"output \(4, 5, 7\) of layer 'mix' holds the channels.*Pass layout="
        with pytest.raises(sp.UnsupportedOutputError, match=said):
            quiet(model, data, {"moments": sp.Moments}, layers=layers)
    swept = quiet(model, data, {"moments": sp.Moments}, layers=["conv", (nn.LayerNorm, nn.Linear)])
    assert list(swept) == ["conv", "norm"]
    assert "holds the channels" in swept.left_out["mix"]
    assert repr(swept).endswith("Left out: mix; .left_out says why.")
    with pytest.raises(sp.UnsupportedOutputError, match="All layers are left out"):
        quiet(model, data, {"moments": sp.Moments}, layers=nn.Linear)
    for layout, channels in (("channels_first", 5), ("channels_last", 7)):
        swept = quiet(model, data, {"moments": sp.Moments}, layers="mix", layout=layout)
        assert swept["mix"]["moments"].mean.shape == (channels,)


def test_left_out_is_kept(tmp_path):
    """What was left out is in the file of a result and in a checkpoint, so that one that was whole says it too."""
    model, data = Doubtful(), torch.rand(6, 3, 8, 12)
    again = partial(quiet, model, data, {"moments": sp.Moments}, layers=(nn.Conv2d, nn.Linear), batch_size=2)
    once = again(checkpoint=tmp_path / "state")
    loaded = sp.SweepResult.load(once.save(tmp_path / "result.safetensors"))
    assert again(checkpoint=tmp_path / "state").left_out == once.left_out == loaded.left_out
    assert set(once.left_out) == {"mix"}
    with pytest.raises(sp.StorageError, match="layout"):
        again(checkpoint=tmp_path / "state", layout="channels_first")


@pytest.mark.parametrize("name", ["chain", "shared", "1-d", "3-d"])
def test_no_pass_without_doubt(name, monkeypatch):
    """Networks that are channels first are swept without following any pass, whichever of their layers."""
    monkeypatch.setattr(layouts.Layouts, "settle", lambda *_: pytest.fail("a pass was followed"))
    case = ZOO[name]
    model = case.model()
    names = [name for name, module in model.named_modules() if name and not isinstance(module, nn.Linear)]
    quiet(model, torch.rand(3, *case.shape[1:]), {"moments": sp.Moments}, layers=names)


def test_the_pass_leaves_the_sweep_alone():
    """A pass is followed once, behind the first batch, and every value of every batch is counted once."""
    model, images, _ = made("tokens")
    data = torch.rand(6, *images.shape[1:])
    counted = quiet(model, data, {"moments": sp.Moments}, layers=["0.patches", "0.norm"], batch_size=2)
    assert counted["0.norm"]["moments"].count.tolist() == [6.0 * 24] * 6
    assert counted["0.patches"]["moments"].count.tolist() == [6.0 * 24] * 6
    assert not any(module._forward_hooks for module in model.modules())


def test_stores_name_the_axes(tmp_path):
    """The axes of a channels-last layer are named as they lie; those of one in doubt by their numbers alone."""
    zarr = pytest.importorskip("zarr")
    model, images, _ = made("mixer")
    quiet(model, images, {}, layers=["0", "2"], store=tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    named = [root[layer]["activation"].metadata.dimension_names for layer in ("0", "2")]
    assert named == [("sample", "channel", "y", "x"), ("sample", "y", "x", "channel")]
    assert torch.allclose(torch.from_numpy(root["2"]["activation"][:]), outputs(model, images, "2"))
    quiet(Doubtful(), torch.rand(2, 3, 8, 12), {}, layers="mix", store=tmp_path / "b.zarr")
    array = zarr.open_group(tmp_path / "b.zarr", mode="r")["mix"]["activation"]
    assert array.metadata.dimension_names == ("sample", "axis_1", "axis_2")
