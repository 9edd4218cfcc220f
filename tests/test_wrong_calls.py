"""No wrong argument ends in an error from inside, hangs, or changes the model: a part of `wrong_calls.py`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
import wrong_calls
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in a temporary folder, since some calls write files under names such as "nothing"."""
    monkeypatch.chdir(tmp_path)


SHARE = 0.035  # the fraction of some forty thousand calls, drawn with a fixed seed


def test_every_public_name_has_a_right_call(tmp_path):
    """Every public name is tried: a new function, class or method needs an entry in `calls`."""
    assert set(wrong_calls.public_names()) <= wrong_calls.calls(tmp_path).keys() | wrong_calls.NOT_CALLED


def test_right_calls_are_right(tmp_path):
    """The calls are valid before an argument is replaced; otherwise every call would be refused."""
    (tmp_path / "gallery").mkdir()
    for name, call in wrong_calls.calls(tmp_path).items():
        if name != "testing.check_store" or find_spec("zarr"):
            call.run()


def test_wrong_calls(tmp_path):
    """Each wrong call is refused by an error of the library, or accepted; a random share of them is tried."""
    found = list(wrong_calls.outcomes(tmp_path, share=SHARE))
    assert len(found) > 1000
    assert sum(one.kind == "refused" for one in found) > 0.8 * len(found)
    assert [one for one in found if one.kind not in ("refused", "accepted")] == []


@pytest.mark.parametrize("label", ["unprintable", "a long text", "object array", "infinite", "meta tensor", "NUL"])
def test_the_worst_values(tmp_path, label):
    """Values that break code that inspects them are tried in every argument of the most important functions."""
    for name, call in wrong_calls.calls(tmp_path).items():
        if name in ("Probe", "sweep", "receptive_fields", "feature_maps", "write_report", "explore", "ablate"):
            for argument in call.names():
                found = wrong_calls.outcome(name, call, argument, label)
                assert found.kind in ("refused", "accepted"), found


def test_the_trial_can_fail(tmp_path):
    """A raw error, an overlong message, a hang and a changed model are each detected."""
    net = nn.Conv2d(1, 1, 1)

    def spoil(model, value):
        model.train(not model.training)

    def long(value):
        raise sp.ArgumentError("x" * 5000)

    def hang(value):
        raise TimeoutError

    cases = {
        "raw": wrong_calls.Call(len, {"value": 0}, "value"),
        "long": wrong_calls.Call(long, {"value": 0}),
        "hangs": wrong_calls.Call(hang, {"value": 0}),
        "changed": wrong_calls.Call(spoil, {"model": net, "value": 0}),
    }
    assert {kind: wrong_calls.outcome("", call, "value", "0").kind for kind, call in cases.items()} == {
        kind: kind for kind in cases
    }


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: sp.ablate(""), "channels must be integers"),
        (lambda: sp.ablate({1, 2}), "channels must be integers"),
        (lambda: sp.ablate([0], value=True), "value must be a number"),
        (lambda: sp.Probe(nn.Conv2d(1, 1, 1), gradients="no"), "gradients must be True or False, not 'no'"),
        (lambda: sp.Probe(nn.Conv2d(1, 1, 1), keep_graph=torch.tensor(False)), "keep_graph must be True or False"),
        (lambda: sp.Exemplars(k=True), "k of Exemplars must be an integer, not True"),
        (lambda: evidence.PixelPermutation(2, 2, inverted="yes"), "inverted must be True or False"),
        (lambda: sp.Histogram(low="a", high="b"), "must be two finite numbers"),
        (lambda: sp.Histogram(bins=10**30), "bins must be at most"),
        (lambda: sp.Moments().merge(sp.Dead()), "Moments merges only reducers of its class, Moments, not"),
        (lambda: sp.Probe(nn.Conv2d(1, 1, 1), {"conv1": nn.Conv2d}), "not a mapping of them: pass its keys"),
        (lambda: sp.receptive_fields(nn.Conv2d(1, 1, 1), (True, 1, 4, 4)), "sizes of a shape must be integers"),
        (lambda: sp.receptive_fields(nn.Conv2d(1, 1, 1), (1, 1, 2**40, 2**40)), "too large for any memory"),
        (lambda: sp.feature_maps({"conv1": None}), "a mapping of records, and was given one with None"),
        (lambda: sp.Dead().update(torch.rand(2, 3), [0, 1]), "samples must be the positions of the activation's 2"),
        (
            lambda: sp.receptive_fields(
                nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()), (1, 1, 4, 4), ignore="Sigmiod"
            ),
            "Did you mean 'Sigmoid'",
        ),
    ],
)
def test_nothing_is_accepted_that_makes_no_sense(use, message):
    """Values that could be interpreted, but are most likely mistakes, are refused."""
    with pytest.raises(sp.ArgumentError, match=message):
        use()


def test_numbers_of_numpy_are_numbers():
    """Numpy integers and tensors of one element are accepted as integers."""
    import numpy as np

    images, model = wrong_calls.IMAGES, wrong_calls.model()
    result = sp.sweep(model, images, {"top": sp.Exemplars}, batch_size=np.int64(4), progress=False)
    assert result.samples == 4
    probe = evidence.linear_probe(
        model,
        images,
        wrong_calls.LABELS,
        "conv1",
        grid=np.int64(2),
        batch_size=np.int64(2),
        test_images=images,
        test_labels=wrong_calls.LABELS,
    )
    assert probe.features == 16
    assert sp.feature_maps(sp.capture(model, images)["conv1"], columns=torch.tensor(2)).array.ndim == 3
