"""Synthesized inputs and concepts on the page: the numbers and pixels are those of the results."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from report_reader import read, unpacked
from torch import nn

import spatialprobe as sp


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2)).eval()
    model[0].bias.data[4] = -100  # dead after the nonlinearity
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def aligned(model, images):
    """The alignment of both convolutions with five concepts."""
    masks = torch.randint(0, 6, (6, 12, 12), generator=torch.Generator().manual_seed(2))
    data = list(zip(images, masks, strict=True))
    return sp.evidence.concept_alignment(model, data, concepts=list("abcde"), quantile=0.1, progress=False)


@pytest.fixture(scope="module")
def results(model):
    """What was made for two layers, by their names."""
    return {layer: made(model, layer) for layer in ("0", "1")}


def made(model, layer, shape=(3, 12, 12), **options):
    return sp.maximize_activation(model, layer, shape=shape, steps=2, progress=False, **options)


def pictures(data):
    """Return the pictures of a sheet, (n, h, w, 3), cell by cell."""
    from PIL import Image

    (height, width), sheet = data["drawn"], data["sheet"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["sheet"].split(",")[1]))).convert("RGB"))
    count = len(unpacked(data["reached"], "<f4"))
    corners = [tuple(sheet["cell"] * one for one in divmod(row, sheet["columns"])) for row in range(count)]
    return np.stack([pixels[top : top + height, left : left + width] for top, left in corners])


def test_pictures_and_values_are_those_of_the_result(model, images, tmp_path):
    """Each channel finds its own image, pixel by pixel, and its values; channels without one find none."""
    top = sp.sweep(model, images, {"top": sp.Exemplars}, layers="2", progress=False)["2"]["top"]
    found = [made(model, "0", bounds=(-1, 1)), made(model, "2", channels=[5, 1], exemplars=top)]
    report = sp.write_report(tmp_path / "page.html", model, images[:2], synthesized=found)
    assert report.missing == ""
    page = read(report.path)
    for one, channels in zip(found, (range(6), [5, 1]), strict=True):
        data = page.layer(one.layer)["synthesized"]
        rows = unpacked(data["rows"], "<i4").tolist()
        assert [rows.index(row) for row in range(len(channels))] == list(channels)
        assert rows.count(-1) == len(rows) - len(channels)
        np.testing.assert_array_equal(unpacked(data["reached"], "<f4"), one.reached)
        low, high = one.bounds
        shares = ((one.patches - low) / (high - low)).clamp(0, 1).movedim(1, -1).numpy()
        assert np.abs(pictures(data) - 255 * shares).max() <= 1
    assert page.layer("0")["synthesized"]["best"] is None
    np.testing.assert_array_equal(unpacked(page.layer("2")["synthesized"]["best"], "<f4"), found[1].best_real)
    assert page.layer("2")["synthesized"]["unit"] == "the unit in row 2, column 2"


def test_concepts_are_those_of_the_largest_margins(model, images, aligned, tmp_path):
    """Each channel lists four concepts, the best first, with the alignment's numbers."""
    report = sp.write_report(tmp_path / "page.html", model, images[:2], concepts=aligned)
    for layer, found in aligned.items():
        data = read(report.path).layer(layer)["concepts"]
        order = unpacked(data["order"], "<i4").reshape(-1, 4)
        assert data["names"] == list("abcde")
        assert (order[:, 0] == found.best).all()
        margins = np.sort(found.margin, axis=1)[:, :0:-1]
        iou, control, spread = unpacked(data["numbers"], "<f4").reshape(3, -1, 4)
        np.testing.assert_allclose(iou - control, margins, atol=1e-6)
        np.testing.assert_allclose(spread, np.take_along_axis(found.spread, order, 1), atol=1e-6)
        assert data["reach"] == pytest.approx(max(iou.max(), control.max()))


def test_channels_that_are_left_out_take_theirs_along(images, tmp_path):
    """On a page with some of the channels each keeps its own image and concepts; without room sheets are named."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1)).eval()
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    data = [(image, (image[0] > 0.5).long()) for image in images]
    aligned = sp.evidence.concept_alignment(model, data, quantile=0.1, progress=False)
    found = made(model, "0", shape=(3, 48, 48))
    report = sp.write_report(
        tmp_path / "page.html", model, images[:1], synthesized=found, concepts=aligned, max_bytes=100_000
    )
    assert report.nbytes <= 100_000
    layer = read(report.path).layer("0")
    kept = layer["channels"]
    assert 1 < len(kept) < 64
    values = unpacked(layer["synthesized"]["reached"], "<f4")[unpacked(layer["synthesized"]["rows"], "<i4")]
    np.testing.assert_array_equal(values, found.reached[kept])
    numbers = unpacked(layer["concepts"]["numbers"], "<f4").reshape(3, len(kept))
    np.testing.assert_allclose(numbers[0], aligned["0"].iou[kept, 0], atol=1e-6)
    if layer["synthesized"]["sheet"] is None:
        assert "synthesized images of 1 layer" in report.missing


def test_two_models_have_their_own(model, images, results, aligned, tmp_path):
    """By the names of models; the difference of both has neither."""
    other = nn.Sequential(nn.Conv2d(3, 6, 3))
    report = sp.write_report(
        tmp_path / "page.html",
        {"one": model, "other": other},
        images[:1],
        synthesized={"other": results["0"]},
        concepts={"one": aligned["0"]},
    )
    one, two, difference = read(report.path).data["layers"][:3]
    assert [layer["synthesized"] is None for layer in (one, two, difference)] == [True, False, True]
    assert [layer["concepts"] is None for layer in (one, two, difference)] == [False, True, True]


def test_volumes_signals_and_large_images(tmp_path):
    """Slices lie side by side, large pictures are made smaller, and signals have values alone."""
    volumes = nn.Conv3d(1, 2, (4, 3, 3)).eval()
    found = made(volumes, "", shape=(1, 4, 6, 6))
    path = tmp_path / "page.html"
    sp.write_report(path, volumes, torch.rand(1, 1, 4, 6, 6), layers=nn.Conv3d, synthesized=found)
    data = read(path).layer("(model)")["synthesized"]
    shares = found.patches.clamp(0, 1)[:, 0, :, :, :, None]  # (n, 4, 3, 3, 1)
    height, width = data["drawn"]
    side_by_side = shares.reshape(2, height // 3, width // 3, 3, 3).swapaxes(2, 3).reshape(2, height, width)
    assert np.abs(pictures(data)[..., 0] - 255 * side_by_side.numpy()).max() <= 1
    signals = nn.Conv1d(2, 3, 5).eval()
    sp.write_report(path, signals, torch.rand(1, 2, 20), layers=nn.Conv1d, synthesized=made(signals, "", shape=(2, 20)))
    data = read(path).layer("(model)")["synthesized"]
    assert (data["drawn"], data["sheet"], data["size"], data["unit"]) == (None, None, [5], "unit 8")
    large = nn.Conv2d(1, 1, 200).eval()
    found = made(large, "", shape=(1, 200, 200), transforms=None)
    sp.write_report(path, large, torch.rand(1, 1, 200, 200), synthesized=found)
    data = read(path).layer("(model)")["synthesized"]
    assert (data["drawn"], data["size"]) == ([96, 96], [200, 200])
    assert abs(pictures(data).mean() / 255 - float(found.patches.mean())) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthesized": 3}, "synthesized is an int: pass what sp.maximize_activation"),
        ({"synthesized": [torch.rand(2)]}, "synthesized holds a Tensor: pass"),
        ({"synthesized": ["0", "0"]}, "synthesized holds two results of layer '0'"),
        ({"synthesized": {"2": "0"}}, "synthesized.'2'. is of layer '0'"),
        ({"synthesized": "1"}, "synthesized is of layer '1', which is not on the page: it shows '0', '2'"),
        ({"concepts": "concepts"}, "concepts is a str: pass what sp.evidence.concept_alignment"),
        ({"concepts": {"one": None}}, "concepts holds a NoneType: pass"),
    ],
    ids=range(7),
)
def test_results_that_do_not_fit(model, images, results, options, message, tmp_path):
    """Values of another kind, other layers and doubled ones are refused by an error that says what to pass."""

    def replaced(value):
        if isinstance(value, dict):
            return {name: results.get(one, one) for name, one in value.items()}
        if isinstance(value, list):
            return [results.get(one, one) if isinstance(one, str) else one for one in value]
        return results.get(value, value)

    with pytest.raises(sp.ArgumentError, match=message):
        sp.write_report(
            tmp_path / "page.html", model, images[:1], **{name: replaced(one) for name, one in options.items()}
        )


def test_results_of_other_models(images, results, aligned, tmp_path):
    """Channels that the layer does not have, or another number of them, are an error."""
    other = nn.Sequential(nn.Conv2d(3, 5, 3))
    with pytest.raises(
        sp.ArgumentError, match="synthesized is of channel 5 of layer '0', but the layer has 5 channels"
    ):
        sp.write_report(tmp_path / "page.html", other, images[:1], synthesized=results["0"])
    with pytest.raises(sp.ArgumentError, match="concepts is of 6 channels of layer '0', but the layer has 5 here"):
        sp.write_report(tmp_path / "page.html", other, images[:1], concepts=aligned["0"])
    with pytest.raises(sp.ArgumentError, match="of two models pass a mapping of their names, 'a' and 'b'"):
        sp.write_report(tmp_path / "page.html", {"a": other, "b": other}, images[:1], concepts=aligned["0"])
