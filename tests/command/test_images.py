"""Images of the command line: which files are taken, and their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from spatialprobe.command.images import blank_image, read_images
from spatialprobe.errors import ArgumentError, StorageError


def save(path, pixels, **options):
    """Write an image and return its path as text."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return str(path)


@pytest.fixture
def pixels():
    """Return an image (6, 4, 3)."""
    return np.arange(72, dtype=np.uint8).reshape(6, 4, 3)


def test_pixels_as_they_are(tmp_path, pixels):
    """Values are bytes over 255, the channels first, under the name of file and folder."""
    images = read_images([save(tmp_path / "a" / "x.png", pixels)], None)
    torch.testing.assert_close(images[0], torch.from_numpy(pixels.transpose(2, 0, 1)) / 255)
    assert images.names == ["x.png"]


def test_size_crops_and_resizes(tmp_path, pixels):
    """An image is cropped around its center to the proportions of the size; with one channel it is gray."""
    path = save(tmp_path / "x.png", pixels)
    square = read_images([path], None, [4])[0]
    torch.testing.assert_close(square, torch.from_numpy(pixels[1:5].transpose(2, 0, 1)) / 255)
    assert read_images([path], None, [2, 5])[0].shape == (3, 2, 5)
    gray = read_images([path], None, [1, 6, 4])[0]
    weights = torch.tensor([0.299, 0.587, 0.114]) / 255
    torch.testing.assert_close(gray[0], torch.from_numpy(pixels).float() @ weights, atol=1 / 255, rtol=0)


def test_photos_stand_upright(tmp_path, pixels):
    """The orientation that a camera noted is applied, as viewers do."""
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    path = save(tmp_path / "x.png", pixels, exif=turned)
    torch.testing.assert_close(
        read_images([path], None)[0], torch.from_numpy(np.rot90(pixels, -1).transpose(2, 0, 1) / 255).float()
    )


def test_folders_and_limit(tmp_path, pixels):
    """Folders are read with all folders in them, in the order of names, and a limit spreads over this order."""
    for name in ("b/3.png", "a/1.jpg", "a/2.PNG"):
        save(tmp_path / name, pixels)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files = [str(tmp_path)]
    assert read_images(files, None).names == ["a/1.jpg", "a/2.PNG", "b/3.png"]
    assert read_images(files, None, limit=2).names == ["a/1.jpg", "b/3.png"]
    assert len(read_images(files, None, limit=9)) == 3
    assert torch.equal(read_images(files, None, limit=2)[1], read_images(files, None)[2])


def test_arrays(tmp_path):
    """Arrays are taken as they are, bytes as fractions of 255, one image as a batch of one."""
    values = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    np.save(tmp_path / "x.npy", values)
    images = read_images(None, str(tmp_path / "x.npy"))
    torch.testing.assert_close(images.stack(), torch.from_numpy(values).float())
    np.save(tmp_path / "y.npy", np.full((1, 4, 4), 255, np.uint8))
    assert torch.equal(read_images(None, str(tmp_path / "y.npy")).stack(), torch.ones(1, 1, 4, 4))
    assert blank_image([1, 8, 8, 8])[0].shape == (1, 8, 8, 8)
    assert blank_image(None)[0].shape == (3, 224, 224)


def test_hostile_arrays_are_not_unpickled(tmp_path):
    """Arrays of objects, files of several arrays and other files are refused."""
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.savez(tmp_path / "several.npz", np.ones(3))
    np.save(tmp_path / "flat.npy", np.ones(3))
    (tmp_path / "text.npy").write_text("text")
    for name, said in (
        ("objects.npy", "cannot be read as an array"),
        ("text.npy", "cannot be read as an array"),
        ("several.npz", "holds several arrays"),
        ("flat.npy", r"holds float64 \(3,\), not numbers of images"),
    ):
        with pytest.raises(StorageError, match=said):
            read_images(None, str(tmp_path / name))


def test_what_cannot_be_read(tmp_path, pixels):
    """Missing and damaged files, folders without images, deep images and several sizes are named."""
    good = save(tmp_path / "x.png", pixels)
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((6, 4), np.uint16)).save(tmp_path / "deep.png")
    other = save(tmp_path / "y.png", pixels[:4])
    with pytest.raises(FileNotFoundError, match="No file 'none.png'"):
        read_images(["none.png"], None)
    with pytest.raises(StorageError, match=r"bad\.png' cannot be read as an image"):
        read_images([str(tmp_path / "bad.png")], None)
    with pytest.raises(StorageError, match="mode I.* has more than 8 bits: save it as .npy"):
        read_images([str(tmp_path / "deep.png")], None)
    with pytest.raises(ArgumentError, match="empty' holds no image"):
        read_images([str(tmp_path / "empty")], None)
    with pytest.raises(ArgumentError, match=r"y\.png' is of 4 x 4 pixels and .*x\.png' of 6 x 4: pass one size"):
        read_images([good, other], None).stack()
    for size in ([2, 4, 4], [1, 2, 3, 4]):
        with pytest.raises(ArgumentError, match="--size of image files is a side, H W or C H W"):
            read_images([good], None, size)
    np.save(tmp_path / "x.npy", np.ones((1, 3, 4, 4)))
    with pytest.raises(ArgumentError, match="--size is for image files"):
        read_images(None, str(tmp_path / "x.npy"), [4])
