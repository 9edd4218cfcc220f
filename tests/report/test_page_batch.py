"""Batches of any form on the page: the page is that of the images and the model that they come down to."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from report_reader import read
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SCALES = torch.tensor([0.5, 1.0, 2.0])


@dataclass
class Batch:
    """A batch as a data class."""

    pixels: torch.Tensor
    scale: torch.Tensor
    labels: torch.Tensor


class Scaled(nn.Module):
    """A convolution of images, which another input scales, sample by sample."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Conv2d(4, 5, 3)

    def forward(self, pixels, scale=None, labels=None):
        assert labels is None, "labels are no input"
        scale = torch.ones(len(pixels)) if scale is None else scale
        return {"logits": self.head(torch.relu(self.conv(pixels * scale[:, None, None, None]))).mean(dim=(2, 3))}


class Detector(nn.Module):
    """A model that takes a list of images, and returns one dictionary for each."""

    def __init__(self):
        super().__init__()
        self.inner = Scaled()

    def forward(self, images):
        assert isinstance(images, list)
        return [{"scores": row} for row in self.inner(torch.stack(images))["logits"]]


def first_last(model, batch):
    return model(batch[1], batch[2])


LABELS = torch.zeros(3)
BATCHES = {
    "mapping": ({"pixels": IMAGES, "scale": SCALES, "labels": LABELS}, {}),
    "BatchEncoding": (UserDict(pixels=IMAGES, scale=SCALES, labels=LABELS), {}),
    "dataclass": (Batch(IMAGES, SCALES, LABELS), {}),
    "tuple of a mapping": (({"pixels": IMAGES, "scale": SCALES}, LABELS), {}),
    "forward": ((LABELS, IMAGES, SCALES), {"forward": first_last, "image": lambda sample: sample[1]}),
    "array": (
        (LABELS, IMAGES, SCALES),
        {"forward": first_last, "image": lambda sample: sample[1].movedim(0, -1).numpy()},
    ),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_pages_of_any_batch(kind, tmp_path):
    """Each sample runs with its own further inputs; pictures, boxes and answers are those of the images."""
    batch, options = BATCHES[kind]
    model = Scaled()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = sp.write_report(tmp_path / "page.html", model, batch, classes=list("abcde"), **options)
    page = read(report.path)
    maps = sp.capture(model, IMAGES, SCALES, layers="conv")["conv"].tensor.numpy()
    for image in range(3):
        assert np.abs(page.values("conv", image) - maps[image]).max() <= np.ptp(maps[image]) / 254
    plain = sp.write_report(tmp_path / "plain.html", model, IMAGES, classes=list("abcde"))
    known = read(plain.path)
    assert np.array_equal(page.boxes("head", 0), known.boxes("head", 0))
    assert [one["src"] for one in page.pictures()[:3]] == [one["src"] for one in known.pictures()[:3]]
    assert page.data["images"][1]["answer"] == known.data["images"][1]["answer"] != ""  # whose scale is 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_lists_of_images(tmp_path):
    """A detector's list of images has the page that the same tensor has in the model within."""
    model = Detector()
    report = sp.write_report(tmp_path / "list.html", model, list(IMAGES))
    known = sp.write_report(tmp_path / "tensor.html", model.inner, IMAGES)
    page, other = read(report.path), read(known.path)
    assert report.images == 3
    assert np.array_equal(page.values("inner.conv", 2), other.values("conv", 2))
    assert np.array_equal(page.boxes("inner.head", 0), other.boxes("head", 0))
    labeled = sp.write_report(tmp_path / "labeled.html", model, (list(IMAGES), [{"boxes": torch.zeros(1, 4)}] * 3))
    assert np.array_equal(read(labeled.path).values("inner.conv", 2), other.values("conv", 2))


def test_explored_over_samples_of_any_form(tmp_path):
    """A sweep over dictionaries, and the patches and labels of its samples, beside a batch of the same form."""
    data = [{"pixels": image, "scale": scale} for image, scale in zip(IMAGES, SCALES, strict=True)]
    batch = {"pixels": IMAGES[:2], "scale": SCALES[:2]}

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return len(data)

        def __getitem__(self, index):
            return data[index]

    second = {"targets": lambda output: output["logits"][:, 1]}
    report = sp.explore(Scaled(), batch, Data(), path=tmp_path / "page.html", open=False, **second)
    page = read(report.path)
    assert report.doubts == ()
    found = sp.sweep(Scaled(), Data(), {"top": sp.Exemplars}, progress=False)["conv"]["top"]
    assert page.layer("conv")["sweep"]["columns"] == 3
    assert page.layer("conv")["sweep"]["patches"]["ranks"] == 3
    assert len(page.data["samples"]) == len(set(found.samples.flatten().tolist()))
    assert len(page.data["score"]["values"]) == 2


def test_what_is_not_clear_is_said(tmp_path):
    """Several images in a sample, images of several sizes, pictures of another size than the input, and no images."""

    class Two(Scaled):
        def forward(self, left, right):
            return super().forward(left + right)

    path = tmp_path / "page.html"
    with pytest.raises(sp.ArgumentError, match=r"2 tensors \(C, H, W\).* image=lambda sample: sample\['left'\]"):
        sp.write_report(path, Two(), {"left": IMAGES, "right": IMAGES})
    chosen = sp.write_report(path, Two(), {"left": IMAGES, "right": 0 * IMAGES}, image=lambda sample: sample["left"])
    assert chosen.images == 3
    with pytest.raises(sp.ArgumentError, match="images of one size, and these are of 12 x 16, 16 x 16"):
        sp.write_report(path, Detector(), [IMAGES[0], IMAGES[1, :, :12]])
    with pytest.raises(sp.ArgumentError, match="picture of a sample is of 8 x 8 pixels, and no input"):
        sp.write_report(path, Scaled(), {"pixels": IMAGES}, image=lambda sample: sample["pixels"][:, :8, :8])
    with pytest.raises(sp.ArgumentError, match="images must be a tensor .* not a dict"):
        sp.write_report(path, Scaled(), {"pixels": "none"})
    with pytest.raises(sp.ArgumentError, match="Sample 0 of the images has no image"):
        sp.write_report(path, Scaled(), {"pixels": IMAGES}, image=lambda sample: sample["pixels"][0, 0])
    with pytest.raises(sp.ArgumentError, match="images are on the meta device"):
        sp.write_report(path, nn.Conv2d(3, 4, 3), [torch.zeros(3, 8, 8, device="meta")])
    with pytest.raises(sp.ArgumentError, match="The batch holds no samples"):
        sp.write_report(tmp_path / "page.html", nn.Conv2d(1, 2, 3), (torch.empty(0, 1, 8, 8),))


def test_fields_follow_the_input_that_is_shown(tmp_path):
    """Of two inputs of one size, boxes are those of the one whose picture is shown."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.far, self.near = nn.Conv2d(3, 4, 7, padding=3), nn.Conv2d(3, 4, 3, padding=1)
            self.both = nn.Conv2d(4, 4, 1)

        def forward(self, left, right):
            return self.both(self.far(left) + self.near(right))

    batch = {"left": IMAGES, "right": IMAGES + 1}
    for side, size in (("left", 7), ("right", 3)):
        report = sp.write_report(tmp_path / "page.html", Two(), batch, layers="both", image=lambda sample: sample[side])  # noqa: B023
        assert read(report.path).layer("both")["field"]["size"] == [size, size]
