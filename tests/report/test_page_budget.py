"""`max_bytes`: no file is larger, and what it cost is told."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from report_reader import read, unpacked
from torch import nn

import spatialprobe as sp
from spatialprobe.report import exemplar_images, map_pieces, page_exemplars


@pytest.fixture(scope="module")
def setting():
    """A model of two layers, some images, and a sweep over them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1))
    images = torch.rand(12, 3, 32, 32)
    sweep = sp.sweep(model, images, {"top": sp.Exemplars, "m": sp.Moments}, progress=False)
    return model, images, sweep


@pytest.mark.parametrize("max_bytes", [2_000_000, 900_000, 400_000, 250_000, 150_000, 88_000, 74_000])
def test_file_is_never_larger(setting, max_bytes, tmp_path):
    """The file keeps within its bytes, the report counts them, and says on the page what it says to the caller."""
    model, images, sweep = setting
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=max_bytes)
    page = read(path)
    assert path.stat().st_size == report.nbytes <= max_bytes
    assert report.images == len(page.data["images"])
    for sentence in report.reduced:
        assert sentence in page.text
    assert bool(report.missing) == bool(report.reduced)
    assert bool(report.reduced) == (max_bytes < 2_000_000)
    assert ("Not on this page" in page.text) == bool(report.reduced)
    assert not report.reduced or f"{max_bytes:,} bytes" in page.text


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4, 0.2, 0.12])
def test_bytes_are_used(share, tmp_path):
    """Where something is left out of a network of some layers, nine tenths of the bytes are used all the same."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if not i else 16, 16, 3, padding=1) for i in range(12)]
    model, images, path = nn.Sequential(*layers), torch.rand(3, 3, 48, 48), tmp_path / "report.html"
    whole = sp.write_report(path, model, images).nbytes
    report = sp.write_report(path, model, images, max_bytes=int(share * whole))
    assert report.reduced
    assert report.nbytes >= 0.9 * int(share * whole)


@pytest.mark.parametrize("max_bytes", [900_000, 400_000, 150_000, 92_000, 77_000])
def test_what_is_told_is_true(setting, max_bytes, tmp_path):
    """Channels, images, resolution and exemplars are what the sentences and the one line say."""
    model, images, sweep = setting
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=max_bytes)
    page, told = read(path), " ".join(report.reduced)
    kept = len(page.data["images"])
    assert (f"{kept} of 12 images kept, the first." in told) == (kept < 12)
    assert bool(re.search(rf"(?<!\d){12 - kept} of 12 images(?! of)", report.missing)) == (kept < 12)
    assert report.missing in str(report)
    assert f"Not on this page: {report.missing}." in page.text
    left_out = 0
    for name in ("0", "3"):
        layer = page.layer(name)
        channels, maps = layer["channels"], sp.capture(model, images[:kept])[name].tensor
        every, pieces = layer["every"], layer["pieces"]
        coarse = sum(count for count, step in pieces if step == 2)
        words = f"{'' if every == 2 else f'{coarse} '}maps at 1/2 of their resolution"
        assert any(sentence.startswith(f"{name}: ") and words in sentence for sentence in report.reduced) or not coarse
        assert (layer["height"], layer["units"]) == (maps.shape[2] // every, list(maps.shape[2:]))
        if channels is None:
            channels = list(range(layer["of"]))
        else:
            assert f"{name}: {len(channels)} of {layer['of']} channels, the ones with the largest values" in told
            strongest = maps.abs().amax(dim=(0, 2, 3)).argsort(descending=True)[: len(channels)]
            assert channels == sorted(strongest.tolist())
        left_out += layer["of"] - len(channels)
        shown = maps[0][channels][:, ::every, ::every].numpy().copy()
        order = unpacked(layer["order"], "<i4") if layer["order"] else np.arange(len(channels))
        steps = np.repeat([step for _, step in pieces], [count for count, _ in pieces])[np.argsort(order)]
        if every == 1:  # the units between those that are kept have the values of those before them
            shown[steps == 2] = shown[steps == 2][:, ::2, ::2].repeat(2, 1).repeat(2, 2)
        assert np.abs(page.values(name, 0) - shown).max() <= (shown.max() - shown.min()) / 254
        assert np.allclose(page.numbers(name, 0)[1], maps[0][channels].amax(dim=(1, 2)))
    assert (f"{left_out} of 96 channels" in report.missing) == (left_out > 0)


def test_patches_go_before_maps(setting, tmp_path):
    """Where maps and patches do not both fit, all maps are there, and as many patches and whole images as fit."""
    model, images, sweep = setting
    path, whole = tmp_path / "report.html", tmp_path / "whole.html"
    maps = sp.write_report(path, model, images, sweep=sweep).nbytes
    everything = sp.write_report(whole, model, images, sweep=sweep, dataset=images).nbytes
    allowed = maps + (everything - maps) // 3
    report = sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=allowed)
    page = read(path)
    assert "exemplar" in report.missing
    assert "channels" not in report.missing
    assert "resolution" not in report.missing
    for name in ("0", "3"):
        ranks, of = page.layer(name)["sweep"]["patches"]["ranks"], page.layer(name)["sweep"]["columns"]
        assert (f"patches of {ranks} of {of} exemplars" in " ".join(report.reduced)) == (ranks < of)


def test_patches_that_take_more_bytes_than_the_first(tmp_path):
    """Where there is room all patches are on the page, also those of noise below a first one that is flat and small."""
    conv, images = nn.Conv2d(3, 4, 9), torch.rand(6, 3, 24, 24)
    nn.init.ones_(conv.weight)
    images[0] = 1
    sweep = sp.sweep(conv, images, {"top": sp.Exemplars}, progress=False)
    report = sp.write_report(tmp_path / "report.html", conv, images[:1], sweep=sweep, dataset=images)
    assert not report.reduced


def test_large_maps_lose_resolution_before_channels(tmp_path):
    """Of the largest maps every second row and column is kept; small ones beside them are whole, and all channels."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(8), nn.Conv2d(64, 8, 3, padding=1))
    path, image = tmp_path / "report.html", torch.rand(1, 3, 64, 64)
    report = sp.write_report(path, model, image, max_bytes=216_000)
    page, strongest = (
        read(path),
        sp.capture(model, image)["0"].tensor[0].abs().amax(dim=(1, 2)).argsort(descending=True),
    )
    assert page.layer("0")["channels"] is page.layer("2")["channels"] is None
    assert {step for _, step in page.layer("2")["pieces"]} == {1}
    steps = [step for count, step in page.layer("0")["pieces"] for _ in range(count)]
    assert steps == sorted(steps)  # the strongest channels are whole
    assert unpacked(page.layer("0")["order"], "<i4").tolist() == strongest.tolist()
    assert report.reduced == (f"0: {steps.count(2)} maps at 1/2 of their resolution.",)
    assert report.missing == "half the resolution of 1 layer"
    assert report.nbytes >= 0.9 * 216_000


@pytest.mark.parametrize("share", [0.95, 0.7, 0.45, 0.3, 0.2])
@pytest.mark.parametrize("layers", [1, 2])
def test_bytes_are_used_by_few_large_layers(layers, share, tmp_path):
    """Also of one or two large layers nine tenths of the bytes are used."""
    model = nn.Sequential(*(nn.Conv2d(3 if not i else 48, 48, 3, padding=1) for i in range(layers)))
    images, path = torch.rand(2, 3, 64, 64), tmp_path / "report.html"
    whole = sp.write_report(path, model, images).nbytes
    report = sp.write_report(path, model, images, max_bytes=int(share * whole))
    assert report.nbytes >= 0.9 * int(share * whole)


@pytest.mark.parametrize("max_bytes", [3_000_000, 1_200_000, 400_000, 200_000])
def test_little_is_encoded_in_vain(setting, max_bytes, tmp_path, monkeypatch):
    """What is encoded of maps is at most half as much again as the page holds, and little of sheets and images."""
    model, images, sweep = setting
    encoded = {"maps": 0, "sheets": 0, "images": 0}

    def count(kind, function, size):
        def counted(*args, **kwargs):
            found = function(*args, **kwargs)
            encoded[kind] += size(found)
            return found

        return counted

    monkeypatch.setattr(map_pieces, "differences", count("maps", map_pieces.differences, len))
    monkeypatch.setattr(page_exemplars, "patches_of", count("sheets", page_exemplars.patches_of, lambda _: 1))
    monkeypatch.setattr(exemplar_images, "data_uri", count("images", exemplar_images.data_uri, lambda _: 1))
    path = tmp_path / "report.html"
    sp.write_report(path, model, images, sweep=sweep, dataset=images, max_bytes=max_bytes)
    page = read(path)
    held = sum(len(text) for layer in page.data["layers"] for maps in layer["maps"] for text in maps["differences"])
    assert held <= encoded["maps"] <= 1.5 * held + max_bytes / 4
    assert encoded["sheets"] <= 2 * 2 * 2  # of two layers, where their room is estimated twice
    assert encoded["images"] <= len(page.data["samples"]) + 3


def test_large_layers_give_way_first(tmp_path):
    """A small layer beside a large one keeps all of its channels."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(8), nn.Conv2d(64, 8, 3, padding=1))
    path = tmp_path / "report.html"
    report = sp.write_report(path, model, torch.rand(1, 3, 64, 64), max_bytes=103_000)
    assert read(path).layer("2")["channels"] is None
    assert len(report.reduced) == 1
    assert report.nbytes > 92_000


def test_whole_images_of_exemplars(setting, tmp_path):
    """The page holds each image that the exemplars name once, with the label that the data set gives it."""
    model, images, sweep = setting
    data = [(image, number % 3) for number, image in enumerate(images)]
    path = tmp_path / "report.html"
    sp.write_report(path, model, images[:1], sweep=sweep, dataset=data)
    samples = read(path).data["samples"]
    named = {int(one) for layer in sweep.values() for one in layer["top"].samples.flatten()}
    assert set(map(int, samples)) == named
    for number, (picture, label) in samples.items():
        assert label == f"class {int(number) % 3}"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")) / 255
        apart = [np.abs(shown - image.permute(1, 2, 0).numpy()).mean() for image in images]  # noise stored with loss
        assert int(np.argmin(apart)) == int(number)


class Images(nn.Module):
    """A model that takes a list of images, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, images):
        """Return the mean of the maps of each image."""
        return [self.conv(image[None]).mean() for image in images]


def test_as_many_images_of_several_sizes_as_fit(tmp_path):
    """Of a list whose early images each have their own size, and later ones share theirs, few that fit are lost."""
    images = [torch.rand(1, 8 + i, 20) for i in range(16)] + [torch.rand(1, 9, 20)] * 16
    twelve = sp.write_report(tmp_path / "twelve.html", Images(), images[:12]).nbytes
    report = sp.write_report(tmp_path / "all.html", Images(), images, max_bytes=twelve)
    assert report.nbytes <= twelve
    assert 10 <= report.images <= 12
