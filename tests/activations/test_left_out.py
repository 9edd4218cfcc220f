"""Layers that cannot be recorded, planned or swept are left out by name where a pattern or type chose them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spatialprobe as sp


class Mixed(nn.Module):
    """Layers of every kind: a tensor, a tuple, none, the batch folded, no channels, two runs, and one that is idle."""

    def __init__(self):
        super().__init__()
        self.conv, self.shared = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.recurrent, self.folded, self.idle = nn.LSTM(4, 5, batch_first=True), nn.Linear(4, 6), nn.Linear(1, 1)
        self.score, self.none = nn.Flatten(0), Nothing()

    def forward(self, x):
        maps = self.shared(self.shared(self.conv(x).relu()))
        tokens = maps.flatten(2).transpose(1, 2)
        out, _ = self.recurrent(tokens)
        self.none(x)
        return {"out": out, "folded": self.folded(tokens.flatten(0, 1)), "score": self.score(maps.mean((1, 2, 3)))}


class Nothing(nn.Module):
    def forward(self, x):
        return None


UNFIT = {"recurrent": "tuple", "none": "NoneType", "idle": "did not run"}
IMAGES = torch.rand(2, 3, 8, 8)


def by_hand(model, data):
    """The moments of the convolution, computed by hand."""
    with torch.no_grad():
        values = model.conv(data).double()
    return values.mean((0, 2, 3)), values.var((0, 2, 3), correction=0)


class TestCapture:
    @pytest.mark.parametrize("gradients", [False, True])
    def test_pattern(self, gradients):
        """`layers="*"` records every layer that returns a tensor, and names the others with reasons."""
        model = Mixed()
        chosen = lambda name, module: bool(name)  # noqa: E731  # not the model itself, which returns a mapping
        probe = sp.capture(model, IMAGES, layers=chosen, gradients=gradients)
        assert sorted(probe) == ["conv", "folded", "score", "shared"]
        assert len(probe.calls("shared")) == 2
        assert {name: reason for name, reason in UNFIT.items() if reason in probe.left_out[name]} == UNFIT
        assert sorted(probe.left_out) == sorted(UNFIT)
        assert "Left out: recurrent, idle, none; .left_out says why." in repr(probe)
        if gradients:
            probe.output["out"].sum().backward()
            assert probe["conv"].gradient is not None

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("recurrent", sp.UnsupportedOutputError),
            ("none", sp.UnsupportedOutputError),
            ("idle", sp.LayerNotRunError),
        ],
    )
    def test_name(self, name, kind):
        """By exact name, or as the module itself, each is an error; so is a pattern that finds nothing else."""
        model = Mixed()
        for layers in (name, getattr(model, name), ["conv", name], f"{name[:-1]}*", type(getattr(model, name))):
            if name == "idle" and isinstance(layers, type):
                continue  # the other linear layer runs
            with pytest.raises(kind, match=name):
                sp.capture(model, IMAGES, layers=layers)
            with pytest.raises(kind, match=name):
                sp.plan(model, IMAGES, layers=layers)

    def test_missing_decides(self):
        """With `missing="error"` every layer must have a record; with "ignore" an empty probe says what it lacks."""
        model = Mixed()
        with pytest.raises(sp.UnsupportedOutputError, match="recurrent"):
            sp.capture(model, IMAGES, layers=(nn.Conv2d, nn.LSTM), missing="error")
        probe = sp.capture(model, IMAGES, layers=nn.LSTM, missing="ignore")
        assert (len(probe), list(probe.left_out)) == (0, ["recurrent"])

    def test_post_activation(self):
        """Layers that no single nonlinearity follows are left out with what took their output."""
        model = Mixed()
        probe = sp.capture(model, IMAGES, at="post_activation")
        assert list(probe) == ["conv"]
        assert "No single nonlinearity" in probe.left_out["shared"]
        with pytest.raises(sp.UnresolvedActivationError, match="shared"):
            sp.capture(model, IMAGES, layers="shared", at="post_activation")


def test_plan():
    """A plan names what it leaves out, and what it holds is what a capture keeps."""
    model = Mixed()
    plan = sp.plan(model, IMAGES, layers="?*")
    probe = sp.capture(model, IMAGES, layers="?*")
    assert {name: layer.calls for name, layer in plan.items()} == {name: len(probe.calls(name)) for name in probe}
    assert dict(plan.left_out) == dict(probe.left_out)
    assert plan.fallback is None
    assert "Left out: recurrent, idle, none" in repr(plan)
    assert "Left out: recurrent, idle, none" in plan._repr_html_()


class TestSweep:
    def test_pattern(self):
        """`layers="*"` sweeps what has the batch first and channels second, and names the others with reasons."""
        model, data = Mixed(), torch.rand(10, 3, 8, 8)
        found = sp.sweep(model, data, [sp.Moments], layers="*", batch_size=4, progress=False)
        assert list(found) == ["conv", "shared"]
        mean, variance = by_hand(model, data)
        torch.testing.assert_close(found["conv"]["moments"].mean, mean)
        torch.testing.assert_close(found["conv"]["moments"].variance, variance)
        reasons = {**UNFIT, "": "dict", "folded": "rows for ", "score": "statistics of channels"}
        assert {name: reason for name, reason in reasons.items() if reason in found.left_out[name]} == reasons

    @pytest.mark.parametrize("name", ["recurrent", "none", "idle", "folded", "score"])
    def test_name(self, name):
        """By exact name each is an error that names it."""
        with pytest.raises(sp.SpatialProbeError, match=f"'{name}'"):
            sp.sweep(Mixed(), IMAGES, [sp.Moments], layers=["conv", name], progress=False)

    def test_post_activation(self):
        """Layers without an activation of their own are left out, the others have the values after it."""
        model, data = Mixed(), torch.rand(10, 3, 8, 8)
        found = sp.sweep(model, data, [sp.Moments], at="post_activation", batch_size=4, progress=False)
        with torch.no_grad():
            mean = model.conv(data).relu().double().mean((0, 2, 3))
        torch.testing.assert_close(found["conv"]["moments"].mean, mean)
        assert list(found.left_out) == ["shared"]

    def test_checkpoint_keeps_it(self, tmp_path):
        """What is left out is part of a sweep's state, and of the result that it is saved as."""
        model, path = Mixed(), tmp_path / "state"
        batches = [torch.rand(4, 3, 8, 8), torch.rand(2, 3, 8, 8)]

        def torn():
            yield batches[0]
            raise OSError("gone")

        with pytest.raises(sp.SweepError, match="gone"):
            sp.sweep(model, torn(), [sp.Moments], layers="*", checkpoint=path, checkpoint_seconds=0, progress=False)
        found = sp.sweep(model, batches, [sp.Moments], layers="*", checkpoint=path, progress=False)
        again = sp.SweepResult.load(found.save(tmp_path / "result"))
        whole = sp.sweep(model, batches, [sp.Moments], layers="*", progress=False)
        assert dict(found.left_out) == dict(again.left_out) == dict(whole.left_out)
        assert torch.equal(found["conv"]["moments"].mean, whole["conv"]["moments"].mean)
