"""The three sources of images: what they give, and what they say when they cannot."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from data import DataError, load
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder

REAL = Path("~/.cache/spatialprobe-dev").expanduser()
UNPACK = (
    "unpack the images: mkdir -p ~/.cache/spatialprobe-dev && "
    "tar -xzf ../shared/data/cifar10-jpeg.tar.gz -C ~/.cache/spatialprobe-dev"
)


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    )


def test_patterns():
    """The default source is drawn from the seed, training and test images from different streams."""
    data = load(limit=30)
    assert data.name == "patterns (drawn, seed 0)"
    assert data.train_images.shape == data.test_images.shape == (30, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert same(data, load(limit=30))
    assert not torch.equal(data.train_images, data.test_images)
    assert not same(data, load(limit=30, seed=1))


@pytest.mark.parametrize("source", ["cifar", "folder", "", "Patterns"])
def test_unknown_source(source):
    """An unknown source is told the three that there are."""
    with pytest.raises(DataError, match="'patterns', 'cifar10', 'folder:PATH'"):
        load(source)


def test_limit_of_nothing():
    """A limit below one is refused."""
    with pytest.raises(DataError, match="at least one"):
        load(limit=0)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a word on stderr."""

    def log_message(self, *_):
        pass


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive in CIFAR-10's own format, from which torchvision downloads; returns its images."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name):
        images = generator.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
        entry = write(name, {"data": images.reshape(20, -1), "labels": list(np.arange(20) % 10)})
        return images, entry

    parts = [batch(f"data_batch_{number}") for number in range(1, 6)]
    test_images, test_entry = batch("test_batch")
    meta = write("batches.meta", {"label_names": [f"class {number}" for number in range(10)]})
    packed = tmp_path / "made" / CIFAR10.filename
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, CIFAR10.base_folder)
    handler = partial(QuietHandler, directory=packed.parent)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{packed.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [entry for _, entry in parts])
    monkeypatch.setattr(CIFAR10, "test_list", [test_entry])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    yield np.concatenate([images for images, _ in parts]), test_images
    server.shutdown()
    server.server_close()


def test_cifar10_is_downloaded_and_read(archive, tmp_path, monkeypatch):
    """CIFAR-10 is fetched, checked, unpacked and decoded; a second time no network is needed."""
    data = load("cifar10", root=tmp_path / "root")
    assert data.name == "CIFAR-10"
    assert data.classes[3] == "class 3"
    assert np.array_equal(data.train_images.numpy(), archive[0])
    assert np.array_equal(data.test_images.numpy(), archive[1])
    assert data.train_labels[:12].tolist() == [*range(10), 0, 1]
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/nothing")
    assert same(data, load("cifar10", root=tmp_path / "root"))
    limited = load("cifar10", root=tmp_path / "root", limit=7)
    assert len(limited.train_images) == len(limited.test_images) == 7


def test_cifar10_offline(tmp_path, monkeypatch):
    """Without network the error names the folder looked in and the other sources; nothing is put in its place."""
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/nothing")
    with pytest.raises(DataError, match=f"not in {tmp_path}.*'patterns'.*'folder:PATH'") as caught:
        load("cifar10", root=tmp_path)
    assert caught.value.__cause__ is not None


def test_cifar10_damaged(archive, tmp_path):
    """A damaged download is an error, not an empty data set."""
    packed = tmp_path / "made" / CIFAR10.filename
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(DataError, match="could not be fetched"):
        load("cifar10", root=tmp_path / "root")


@pytest.fixture
def folder(tmp_path):
    """A small folder in ImageFolder layout, of two classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_folder(folder):
    """A folder's images come as they are, with their labels, under the folder's own name."""
    data = load(f"folder:{folder}")
    assert (data.name, data.classes) == (f"folder:{folder.name}", ("cat", "dog"))
    assert data.train_labels.tolist() == [0] * 6 + [1] * 6
    expected = np.asarray(Image.open(folder / "test" / "dog" / "2.png")).transpose(2, 0, 1)
    assert np.array_equal(data.test_images[-1].numpy(), expected)
    limited = load(f"folder:{folder}", limit=4)
    assert len(limited.train_images) == len(limited.test_images) == 4


def test_folder_of_other_sizes_and_modes(folder):
    """Larger images are resized, and the name says so; gray ones become color."""
    Image.new("L", (80, 64), 200).save(folder / "train" / "cat" / "0.png")
    data = load(f"folder:{folder}")
    assert data.name.endswith("(resized to 32 x 32)")
    assert data.train_images[0].unique().tolist() == [200]


def test_folder_order_is_torchvisions(folder):
    """Images and labels come in the order of torchvision's ImageFolder, also those of nested folders."""
    (folder / "train" / "cat" / "inner").mkdir()
    (folder / "train" / "cat" / "3.png").rename(folder / "train" / "cat" / "inner" / "3.png")
    data = load(f"folder:{folder}")
    expected = ImageFolder(str(folder / "train"))
    assert data.train_labels.tolist() == expected.targets
    for image, (other, _) in zip(data.train_images, expected, strict=True):
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(other))


def test_limited_folder_is_shuffled(folder):
    """A limit draws from all classes by the seed, without taking an image twice."""
    whole = {image.numpy().tobytes() for image in load(f"folder:{folder}").train_images}
    drawn = load(f"folder:{folder}", limit=11)
    assert len({image.numpy().tobytes() for image in drawn.train_images} & whole) == 11
    assert same(drawn, load(f"folder:{folder}", limit=11))
    assert not same(drawn, load(f"folder:{folder}", limit=11, seed=1))
    assert drawn.train_labels.tolist() != sorted(drawn.train_labels.tolist())


def test_truncated_image(folder):
    """An image file cut short is named, not read as half an image."""
    path = folder / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"Cannot read the image .*1\.png.*Replace the file or delete it"):
        load(f"folder:{folder}")


def test_folder_errors(folder):
    """Each fault of a folder is named, with the place where it is."""
    wrong = [
        (lambda: None, f"{folder}/none", "No folder"),
        (lambda: (folder / "train/cat/0.png").write_bytes(b"no image"), folder, "Cannot read the image .*0.png"),
        (lambda: (folder / "train/bird").mkdir(), folder, "only one of them has bird"),
        (lambda: (folder / "test/bird").mkdir(), folder, "No image in .*bird"),
    ]
    for break_it, path, message in wrong:
        break_it()
        with pytest.raises(DataError, match=message):
            load(f"folder:{path}")


def test_folder_layout(folder, tmp_path):
    """A missing split, and fewer than two classes, are told with the layout expected."""
    (folder / "test").rename(folder / "validation")
    with pytest.raises(DataError, match=r"No folder .*test\. Expected PATH/train"):
        load(f"folder:{folder}")
    (folder / "train" / "dog").rename(folder / "dog")
    with pytest.raises(DataError, match="holds 1 class folders"):
        load(f"folder:{folder}")


@pytest.mark.skipif(not (REAL / "train").is_dir(), reason=UNPACK)
def test_real_images():
    """The real CIFAR-10 images (JPEG copy) are read with all their classes, whatever the limit."""
    data = load(f"folder:{REAL}", limit=200)
    assert len(data.classes) == 10
    assert set(data.train_labels.tolist()) == set(range(10))
    assert 0.4 < data.train_images.float().mean() / 255 < 0.55
