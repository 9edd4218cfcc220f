"""A page of two models: both and their difference, exactly, with one cursor, on one scale, in the order of change."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from report_reader import read
from torch import nn

import spatialprobe as sp
from spatialprobe.report.versions import names_of_versions

LAYERS = ["conv1", "conv2"]
VERSIONS = names_of_versions(["before", "after"])


@pytest.fixture(scope="module")
def other(model):
    """The same model with other kernels in its second convolution, and one channel pruned in the first."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.conv1.weight[1] = 0
        changed.conv2.weight += 0.1 * torch.randn(
            changed.conv2.weight.shape, generator=torch.Generator().manual_seed(1)
        )
    return changed


@pytest.fixture(scope="module")
def path(model, other, images, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    sp.write_report(target, {"before": model, "after": other}, images, layers=LAYERS)
    return target


def values_of(model, images):
    with sp.Probe(model, LAYERS) as probe, torch.no_grad():
        model(images.clone())
    return {layer: probe[layer].tensor.double().numpy() for layer in LAYERS}


def test_the_page_holds_both_models_and_their_difference(path, model, other, images):
    """Each version's maps are the live values, to the precision that the page states; what is unchanged is zero."""
    page = read(path)
    one, two = values_of(model, images), values_of(other, images)
    assert [layer["name"] for layer in page.data["layers"]] == [f"{name}, {v}" for name in LAYERS for v in VERSIONS]
    assert page.data["versions"] == list(VERSIONS)
    for layer in LAYERS:
        expected = dict(zip(VERSIONS, (one[layer], two[layer], two[layer] - one[layer]), strict=True))
        for version, values in expected.items():
            for image in range(len(images)):
                found = page.values(f"{layer}, {version}", image)
                span = np.ptp(values[image], axis=(1, 2), keepdims=True)
                assert (np.abs(found - values[image]) <= 0.0021 * span + 1e-6).all()
    assert not page.values(f"conv1, {VERSIONS[2]}", 0)[[0, 4, 5]].any()


def test_both_models_share_the_ends_of_their_colors(path):
    """The entries of both models state one scale, that of the larger values; the difference is signed on its own."""
    layers = {layer["name"]: layer for layer in read(path).data["layers"]}
    for name in LAYERS:
        one, two, difference = (layers[f"{name}, {version}"] for version in VERSIONS)
        for end in ("signed", "reach", "robust"):
            assert one[end] == two[end]
        assert difference["signed"]
        assert difference["kernels"] is None


def test_differences_are_signed_and_never_dead(model, images, tmp_path):
    """Of two equal models every difference is zero, the center of the signed scale, and no channel is called dead."""
    sp.write_report(tmp_path / "page.html", {"before": model, "after": model}, images[:1], layers="conv1")
    page = read(tmp_path / "page.html")
    difference = page.data["layers"][2]
    assert not page.values(difference["name"], 0).any()
    assert difference["signed"]
    assert "dead" not in page.text.rpartition(f"{VERSIONS[2]}, all channels")[2]


def test_what_only_one_model_has_is_named(model, images, tmp_path):
    """Layers of one model alone, or of another size, are left out and named; without a common layer it is an error."""
    other = nn.Sequential()
    for name, layer in (
        ("conv1", nn.Conv2d(3, 6, 3, padding=1)),
        ("conv2", nn.Conv2d(6, 12, 3)),
        ("last", nn.Conv2d(12, 4, 1)),
    ):
        other.add_module(name, layer)
    report = sp.write_report(tmp_path / "page.html", {"a": model, "b": other}, images, layers=nn.Conv2d)
    assert report.layers == ("conv1, a", "conv1, b", "conv1, b − a")
    words = " ".join(report.reduced)
    assert "conv2 is left out: its maps are 12 x 16 x 16 and 12 x 30 x 30." in words
    assert "last is left out: a has no maps of a layer of this name." in words
    with pytest.raises(sp.ArgumentError, match="no layer of one name and size to show side by side"):
        sp.write_report(tmp_path / "page.html", {"a": model, "b": nn.Conv2d(3, 1, 1)}, images, layers=nn.Conv2d)


def test_a_small_page_keeps_the_same_channels_of_both(model, other, images, tmp_path):
    """Where channels are left out, all versions keep the ones with the largest values of any."""
    wide = [nn.Sequential(nn.Conv2d(3, 200, 3)) for _ in range(2)]
    report = sp.write_report(tmp_path / "page.html", {"a": wide[0], "b": wide[1]}, images, max_bytes=200_000)
    assert report.nbytes <= 200_000
    kept = [set(layer["channels"]) for layer in read(tmp_path / "page.html").data["layers"]]
    smallest = min(kept, key=len)
    assert all(smallest <= channels for channels in kept)


WRONG = {
    "three": ({"a": nn.Conv2d(3, 1, 1)}, {}, "a mapping of 1 models: a page shows one model, or two"),
    "no model": ({"a": nn.Conv2d(3, 1, 1), "b": 3}, {}, "model\\['b'\\] is an int: pass a model"),
    "no name": ({"a": nn.Conv2d(3, 1, 1), 3: nn.Conv2d(3, 1, 1)}, {}, "name of a model must be a text, not 3"),
    "targets": (None, {"targets": 1}, "targets= explains the answers of one model"),
    "one sweep": (None, {"sweep": "swept"}, "sweep is a SweepResult: of two models pass a mapping"),
    "another sweep": (None, {"sweep": {"c": "swept"}}, "sweep has the names c, and the models before, after"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pages(name, model, other, images, tmp_path):
    """What cannot be a page of two models is an error that says why."""
    models, options, message = WRONG[name]
    swept = sp.sweep(model, images, [sp.Dead], layers=LAYERS, progress=False)
    if options.get("sweep") == "swept":
        options = {"sweep": swept}
    elif "sweep" in options:
        options = {"sweep": {"c": swept}}
    with pytest.raises(sp.ArgumentError, match=message):
        sp.write_report(tmp_path / "page.html", models or {"before": model, "after": other}, images, **options)


@pytest.mark.usefixtures("nothing_went_wrong")
def test_the_reader_moves_between_both(page, model, other, images):
    """One cursor and one channel in all versions: a click on another shows it, and the status says its value."""
    difference = values_of(other, images)["conv2"] - values_of(model, images)["conv2"]
    order = np.square(difference[0]).mean(axis=(1, 2)).argsort()[::-1]
    page.open("#conv2")
    page.says(f"conv2, before, channel {order[0]}: activation")
    page.run("document.getElementById('versions').children[2].click()")
    page.says(f"conv2, {VERSIONS[2]}, channel {order[0]}: difference")
    texts = page.run("return [...document.querySelectorAll('#versions b')].map((one) => parseFloat(one.textContent))")
    assert texts[2] == pytest.approx(texts[1] - texts[0], abs=0.05)
    page.press("map", "ARROW_RIGHT")
    page.choose("layer", "conv1")
    page.says(f"conv1, {VERSIONS[2]}, channel 1: difference")
    assert "difference has its own" in page.text("scale-words")
