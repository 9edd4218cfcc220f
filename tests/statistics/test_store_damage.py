"""Damaged stores: every flipped bit and every lost file is found, and a finished checkpoint does not hide it."""

from __future__ import annotations

import errno
import random
import shutil
from functools import partial

import pytest
import torch
from small_disk import mounted
from sweeps import images, small_model
from torch import nn

import spatialprobe as sp
from spatialprobe.statistics import store as store_module
from spatialprobe.statistics.store import Store
from spatialprobe.testing import check_store

zarr = pytest.importorskip("zarr")
quiet = partial(sp.sweep, progress=False)


def finished(folder, **options):
    """A store with a layer that runs twice, of a stream or of a data set; and what makes it again."""
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[..., None, None] / 2)
    data = options.pop("data", images(10))
    make = partial(quiet, nn.Sequential(conv, conv), data, {}, batch_size=4, store=folder / "a.zarr", **options)
    make()
    return folder / "a.zarr", make


def files_of(store):
    """All files in a store, in a fixed order."""
    return sorted(path for path in store.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["tensor", "stream"])
def test_every_flipped_bit_is_found(tmp_path, kind):
    """Whatever bit is flipped in whatever file of a store: checking it is an error, and a chunk is not even read."""
    store, _ = finished(tmp_path, data=images(10) if kind == "tensor" else [images(10)[:3], images(10)[3:]])
    check_store(store)
    expected = {path: path.read_bytes() for path in files_of(store)}
    draw, found = random.Random(0), 0
    for path, whole in expected.items():
        for _ in range(8):
            broken = bytearray(whole)
            broken[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(broken)
            with pytest.raises(sp.StorageError):
                check_store(store)
            found += 1
            if path.name != "zarr.json":
                array = next(folder for folder in path.parents if (folder / "zarr.json").exists())
                with pytest.raises(ValueError, match="checksum do not match"):
                    zarr.open_array(array, mode="r")[:]
        path.write_bytes(whole)
    assert found == 8 * len(expected) >= 80
    check_store(store)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "longer", "another"])
def test_every_damaged_file_is_found(tmp_path, damage):
    """A file that is lost, cut, or not the one that it should be is found, whichever it is."""
    store, _ = finished(tmp_path)
    for path in files_of(store):
        whole = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "cut": whole[:-3], "longer": whole + b"x", "another": b"{}"}[damage])
        with pytest.raises(sp.StorageError, match=r"lost|damaged|cannot be read|is not a store|not whole"):
            check_store(store)
        path.write_bytes(whole)
    check_store(store)


@pytest.mark.parametrize("lost", ["0", "0/call_1", "0/activation", "0/sample", "0/activation/c/1", "0/call_1/sample/c"])
@pytest.mark.parametrize("kind", ["tensor", "stream"])
def test_a_finished_checkpoint_whose_store_lost_something(tmp_path, kind, lost):
    """It does not return as if all were well, but says what is gone."""
    data = images(10) if kind == "tensor" else [images(10)[:4], images(10)[4:8], images(10)[8:]]
    store, again = finished(tmp_path, data=data, checkpoint=tmp_path / "state")
    again()
    shutil.rmtree(store / lost)
    with pytest.raises(
        sp.StorageError, match=r"The checkpoint continues a sweep, but .*'0|.*zarr.json' cannot be read"
    ):
        again()


def test_chunks_of_the_values_that_stand_for_unwritten_ones(tmp_path):
    """They are written, so that a chunk that is not there is one that was lost."""

    class Empty(nn.Module):
        def forward(self, x):
            return torch.full_like(x, torch.nan) if x[0, 0, 0, 0] < 0 else torch.zeros_like(x, dtype=torch.int32)

    for value in (-1.0, 1.0):
        path = tmp_path / f"{value}.zarr"
        for _ in range(2):
            quiet(Empty(), torch.full((5, 1, 2, 2), value), {}, layers="", batch_size=2, store=path, nonfinite="count")
            assert len(files_of(path / "(model)" / "activation")) == 1 + 3
            check_store(path)


class Ends(sp.Dead):
    """Raises at one sample."""

    def update(self, activation, samples):
        if 9 in samples.tolist():
            raise ValueError("no")


def test_a_store_that_is_not_whole(tmp_path):
    """One whose sweep was ended early is told from a whole one; in rows that it lacks the position is -1."""
    path = tmp_path / "a.zarr"
    with pytest.raises(sp.SweepError):
        quiet(small_model(), images(10), {"ends": Ends}, layers="0", store=path, batch_size=4)
    assert zarr.open_group(path, mode="r")["0"]["sample"][:].tolist() == [*range(8), -1, -1]
    with pytest.raises(sp.StorageError, match="is not complete: its sweep ended"):
        check_store(path)
    with pytest.raises(sp.ArgumentError, match="does not exist"):
        check_store(tmp_path / "none.zarr")
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    with pytest.raises(sp.StorageError, match="is not a store"):
        check_store(tmp_path)


def test_layers_that_are_called_like_arrays(tmp_path):
    """A layer named `activation` or `sample` is no array."""
    model = nn.Sequential()
    for name in ("activation", "sample", "call_1"):
        model.add_module(name, nn.Conv2d(3, 3, 1))
    path = tmp_path / "a.zarr"
    quiet(model, images(5), {}, store=path, batch_size=2)
    check_store(path)
    assert sorted(zarr.open_group(path, mode="r").attrs["groups"]) == ["activation", "call_1", "sample"]
    shutil.rmtree(path / "sample")
    with pytest.raises(sp.StorageError, match="sample"):
        check_store(path)


def test_a_stream_that_was_killed_before_its_first_batch(tmp_path, monkeypatch):
    """Its checkpoint was written before its store was made, so that it continues, whichever of the two there is."""
    options = {"store": tmp_path / "a.zarr", "checkpoint": tmp_path / "state", "batch_size": 4}
    for way in ("before the store", "after it", "in the first batch"):
        with monkeypatch.context() as patch:
            if way == "before the store":
                patch.setattr(Store, "open", stop)
            elif way == "after it":
                patch.setattr(Store, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                quiet(small_model(), [images(4), images(9)[4:]] if "batch" not in way else cut_short(), {}, **options)
        assert (tmp_path / "a.zarr").exists() == (way != "before the store")
    quiet(small_model(), [images(4), images(9)[4:]], {}, **options)
    check_store(tmp_path / "a.zarr")
    found = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"]["sample"][:]
    assert found.tolist() == list(range(9))


def stop(*_, **__):
    raise KeyboardInterrupt


def cut_short():
    yield images(4)
    raise KeyboardInterrupt


def test_a_full_disk():
    """A store that cannot be written is a clear error, with path and cause."""
    with mounted("size=256k") as folder:
        with pytest.raises(sp.StorageError, match="Cannot write to the store '.*a.zarr': No space left on device"):
            quiet(small_model(), torch.randn(500, 3, 8, 8), {}, store=folder / "a.zarr", batch_size=100)


def test_a_whole_sweep_whose_store_cannot_be_sealed(tmp_path, monkeypatch):
    """The error has the result, and the next run seals the store."""
    options = {"store": tmp_path / "a.zarr", "checkpoint": tmp_path / "state", "batch_size": 4}
    model = nn.Conv2d(3, 2, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "list_groups", full)
        with pytest.raises(sp.StorageError, match="No space left .* The whole result is this error's") as caught:
            quiet(model, images(9), {"dead": sp.Dead}, layers="", **options)
    assert caught.value.result.samples == 9
    quiet(model, images(9), {"dead": sp.Dead}, layers="", **options)
    check_store(tmp_path / "a.zarr")
