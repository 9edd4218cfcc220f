"""Batches of any form on the page: the page is that of the images and the model that they come down to."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from report_reader import over_of, read, unpacked
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


class Loop(nn.Module):
    """A model that goes through a list of images, of any sizes, one by one."""

    def __init__(self):
        super().__init__()
        self.inner = Scaled()

    def forward(self, images):
        return torch.cat([self.inner(image[None])["logits"] for image in images])


def test_lists_of_several_sizes(tmp_path):
    """Each image has the maps, fields, contributions and overlays of its own size, as if it were alone."""
    model, images = Loop().eval(), [IMAGES[0], IMAGES[1, :, :12, :10], IMAGES[2]]
    overlays = {"mine": [image[0, ::2] for image in images]}
    options = {"at": "output", "layers": ["inner.conv", "inner.head"], "progress": False}
    report = sp.write_report(tmp_path / "p.html", model, images, targets=[3, 1, 0], overlays=overlays, **options)
    page = read(report.path)
    assert [one["size"] for one in page.data["images"]] == [0, 1, 0]
    for number, image in enumerate(images):
        alone = sp.write_report(
            tmp_path / "alone.html", model, [image], targets=[3, 1, 0][number : number + 1], **options
        )
        here, known = page.of_image(number), read(alone.path)
        assert here.data["input"] == known.data["input"] | {name: here.data["input"][name] for name in ("low", "high")}
        for name in report.layers:
            assert np.array_equal(here.values(name, number), known.values(name, 0))
            assert np.array_equal(here.boxes(name, 0), known.boxes(name, 0))
            assert here.layer(name)["field"] == known.layer(name)["field"]
            mine, theirs = here.layer(name)["contributions"], known.layer(name)["contributions"]
            assert mine["checks"][number] == theirs["checks"][0]
            assert np.array_equal(over_of(mine["over"], number)[0], over_of(theirs["over"], 0)[0])
            for values in ("channels", "ablated"):
                one = unpacked(mine[values], "<f4").reshape(3, -1)[number]
                assert np.array_equal(one, unpacked(theirs[values], "<f4"))
        over, step = over_of(page.data["overlays"][0]["over"], number)
        assert np.abs(over - image[0, ::2].repeat_interleave(2, dim=0).numpy()).max() <= step
    assert page.data["score"]["reach"] == max(
        read(sp.write_report(tmp_path / "a.html", model, [image], targets=one, **options).path).data["score"]["reach"]
        for image, one in zip(images, [3, 1, 0], strict=True)
    )


def test_swept_over_several_sizes(tmp_path):
    """Exemplars of images of several sizes are listed, and the page says why without patches."""
    model, images = Loop().eval(), [IMAGES[0], IMAGES[1, :, :12, :10]]
    options = {"layers": "inner.conv", "batch_size": 1, "progress": False, "open": False}
    for shown in (images, images[:1]):
        report = sp.explore(model, shown, [[image] for image in images], path=tmp_path / "p.html", **options)
        assert read(report.path).layer("inner.conv")["sweep"]["hasBoxes"] is False
    sweep = sp.sweep(model, [[image] for image in images], [sp.Exemplars], layers="inner.conv", progress=False)
    sp.write_report(tmp_path / "p.html", model, images, sweep=sweep, dataset=images)
    page = read(tmp_path / "p.html")
    assert "patches are drawn of layers that run once, where all images" in page.text
    assert page.data["samples"] is None


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
    """Several images in a sample, images and volumes, pictures of another size than the input, and no images."""

    class Two(Scaled):
        def forward(self, left, right):
            return super().forward(left + right)

    path = tmp_path / "page.html"
    with pytest.raises(sp.ArgumentError, match=r"2 tensors \(C, H, W\).* image=lambda sample: sample\['left'\]"):
        sp.write_report(path, Two(), {"left": IMAGES, "right": IMAGES})
    chosen = sp.write_report(path, Two(), {"left": IMAGES, "right": 0 * IMAGES}, image=lambda sample: sample["left"])
    assert chosen.images == 3
    with pytest.raises(sp.ArgumentError, match=r"not some of each: these are \(3, 16, 16\), \(16, 16\)"):
        sp.write_report(path, Detector(), [*IMAGES], image=lambda one: one if one.equal(IMAGES[0]) else one[0])
    with pytest.raises(sp.ForwardError, match=r"on each by forward=lambda model, images: model\(torch.stack\(images"):
        sp.write_report(path, nn.Conv2d(3, 4, 3), [IMAGES[0], IMAGES[1, :, :12]])
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
    with pytest.raises(sp.ArgumentError, match="The batch holds no samples"):
        sp.write_report(path, nn.Conv2d(3, 4, 3), [])


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
