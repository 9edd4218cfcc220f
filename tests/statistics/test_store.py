"""Stores: all activations on disk, labelled, compressed, equal to what the layers output."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch
from sweeps import Numbered, images, small_model
from torch import nn
from torch.utils.data import DataLoader
from zoo import CONVOLUTIONS, ZOO

import spatialprobe as sp
from spatialprobe.errors import StorageError
from spatialprobe.model.select import Layer
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.store import Store
from spatialprobe.testing import check_store

zarr = pytest.importorskip("zarr")
quiet = partial(sp.sweep, progress=False)


def expected(model, inputs, layer):
    """What a layer hands on, cloned."""
    found = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, y: found.append(y.detach().clone()))
    with torch.no_grad():
        model.eval()(inputs)
    handle.remove()
    return found


@pytest.mark.parametrize("name", ["chain", "shared", "1-d", "3-d", "in-place"])
@pytest.mark.parametrize("size", [2, 9, 100])
def test_read_back_equal(tmp_path, name, size):
    """Every value of every layer and run, with the positions of the samples, whatever the batch size."""
    model = ZOO[name].model()
    inputs = torch.randn(9, *ZOO[name].shape[1:], generator=torch.Generator().manual_seed(0))
    layers = list(dict.fromkeys(n for n, m in model.named_modules() if isinstance(m, CONVOLUTIONS)))
    result = quiet(model, inputs, {}, layers=layers, batch_size=size, store=tmp_path / "a.zarr")
    assert result.samples == 9
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert set(root) == set(layers)
    for layer in layers:
        for call, value in enumerate(expected(model, inputs, layer)):
            group = root[layer if not call else f"{layer}/call_{call}"]
            assert np.allclose(group["activation"][:], value.numpy(), atol=1e-6)
            assert group["sample"][:].tolist() == list(range(9))


def test_bit_by_bit(tmp_path):
    """What is written is what a reducer sees, to the last bit."""

    class Keeps(sp.Dead):
        def update(self, activation, samples):
            kept.append(activation.clone())

    kept = []
    quiet(nn.Conv2d(3, 2, 3), images(9), {"keeps": Keeps}, layers="", batch_size=4, store=tmp_path / "a.zarr")
    stored = zarr.open_group(tmp_path / "a.zarr", mode="r")["(model)"]["activation"][:]
    assert np.array_equal(stored, torch.cat(kept).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(tmp_path, dtype):
    """Types are kept; bfloat16, which numpy lacks, becomes float32 without loss, and the attributes say so."""
    model = nn.Conv2d(3, 2, 3).to(dtype)
    quiet(model, images(5).to(dtype), {}, layers="", store=tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")["(model)"]
    assert group.attrs["dtype"] == str(dtype).removeprefix("torch.")
    stored = torch.from_numpy(group["activation"][:])
    assert stored.dtype == (torch.float32 if dtype is torch.bfloat16 else dtype)
    with torch.no_grad():
        assert torch.equal(stored.to(dtype), model(images(5).to(dtype)))


def test_labels_and_attributes(tmp_path):
    """Dimensions have names, chunks hold whole samples, values are compressed, layers describe themselves."""
    quiet(small_model(), images(10), {}, batch_size=4, at="output", store=tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    array = root["0"]["activation"]
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("sample", "channel", "y", "x")
    assert root["0"]["sample"].metadata.dimension_names == ("sample",)
    assert array.chunks == (4, 4, 6, 6)
    assert array.compressors
    assert root.attrs["format"] == "spatialprobe store"
    assert root.attrs["model"] == "Sequential"
    attributes = dict(root["0"].attrs)
    assert attributes["layer"] == "0"
    assert attributes["at"] == "output"
    assert attributes["module_type"] == "Conv2d"
    assert attributes["conv"]["kernel_size"] == [3, 3]
    assert attributes["conv"]["stride"] == [1, 1]


def test_opens_in_xarray(tmp_path):
    """With names of its dimensions, positions of its samples, and the layer's attributes."""
    xarray = pytest.importorskip("xarray")
    model = small_model()
    quiet(model, images(10), {}, batch_size=4, store=tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library that is not under test
        opened = xarray.open_zarr(tmp_path / "a.zarr", group="3", consolidated=False)
        assert opened.activation.dims == ("sample", "channel", "y", "x")
        assert opened.sample.values.tolist() == list(range(10))
        assert opened.attrs["layer"] == "3"
        (value,) = expected(model, images(10), "3")
        means = opened.activation.mean(["y", "x"]).sel(sample=7).values
    assert np.allclose(means, value[7].mean((1, 2)).numpy(), atol=1e-6)


def test_streams_grow(tmp_path):
    """Iterables do not say how many samples they have: the arrays end where the data ended."""
    batches = [images(11)[:4], images(11)[4:5], images(11)[5:]]
    quiet(small_model(), batches, {}, batch_size=4, store=tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"]
    assert group["activation"].shape[0] == 11
    assert np.allclose(group["activation"][:], expected(small_model(), images(11), "0")[0].numpy(), atol=1e-6)
    quiet(small_model(), DataLoader(Numbered(11), 3, shuffle=True), {}, store=tmp_path / "b.zarr")
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")["0"]
    order = group["sample"][:].tolist()
    assert sorted(order) == list(range(11))
    assert np.allclose(group["activation"][:], expected(small_model(), images(11)[order], "0")[0].numpy(), atol=1e-6)


def test_written_again(tmp_path):
    """The same sweep may write to its own store again; another may not."""
    path = tmp_path / "a.zarr"
    for _ in range(2):
        quiet(small_model(), images(10), {}, batch_size=4, store=path)
    for arguments in (
        {"model": small_model(1)},
        {"data": images(11)},
        {"layers": "0"},
        {"batch_size": 5},
        {"data": [images(10)]},
        {"at": "post_activation", "layers": "0"},
    ):
        usual = {"model": small_model(), "data": images(10), "reducers": {}, "batch_size": 4}
        with pytest.raises(sp.StorageError, match=r"exists, and is not known to be of this model"):
            quiet(**(usual | arguments), store=path)


def test_a_stream_is_continued_only_with_its_checkpoint(tmp_path):
    """A second run over an iterable without a checkpoint has no way to know that it is the same."""
    options = {"store": tmp_path / "a.zarr", "checkpoint": tmp_path / "state", "batch_size": 4}
    quiet(small_model(), [images(4)], {}, **options)
    quiet(small_model(), [images(4)], {}, **options)
    (tmp_path / "state").unlink()
    with pytest.raises(sp.StorageError, match="Delete it"):
        quiet(small_model(), [images(4)], {}, **options)


def test_a_store_that_is_gone(tmp_path):
    """A checkpoint that continues into nothing is refused."""
    import shutil

    options = {"store": tmp_path / "a.zarr", "checkpoint": tmp_path / "state"}
    quiet(small_model(), images(9), {}, **options)
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(sp.StorageError, match="whose store .* is gone"):
        quiet(small_model(), images(9), {}, **options)


def test_something_else_is_there(tmp_path):
    """A folder or file of somebody else's is left alone."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(sp.StorageError, match="exists, and is not a Zarr group"):
            quiet(small_model(), images(9), {}, store=tmp_path / name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine.txt"]
    with pytest.raises(sp.ArgumentError, match="the folder .* does not exist"):
        quiet(small_model(), images(9), {}, store=tmp_path / "no" / "a.zarr")


def test_maps_of_another_shape(tmp_path):
    """An array holds one shape: another is refused with layer and batch."""
    batches = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 9, 8)]
    with pytest.raises(sp.StorageError, match=r"Layer '' returned \(2, 2, 9, 8\) in batch 1 .* after \(N, 2, 8, 8\)"):
        quiet(nn.Conv2d(3, 2, 1), batches, {}, layers="", store=tmp_path / "a.zarr")


def test_ranks_that_make_groups_at_the_same_time(tmp_path):
    """Whichever rank comes first to a layer makes its group, and no other meets half of it: all values are there."""
    ranks, names = 6, [f"layer{i}" for i in range(8)]
    layers = [Layer(name, (), (name,), nn.Conv2d(3, 2, 1)) for name in names]
    values = torch.randn(ranks * 2, 2, 4, 4)

    def write(rank):
        store = Store(
            tmp_path / "a.zarr", model="M", at="output", identity="i", batch_size=2, rows=len(values), rank=rank
        )
        if rank:
            ready.wait()
        store.open(continues=False)
        if not rank:
            ready.wait()
        start.wait()
        batch = Batch(0, values[:2], torch.arange(2 * rank, 2 * rank + 2), 2 * rank)
        for layer in layers:
            for call in range(2):
                store.write(layer, call, values[2 * rank : 2 * rank + 2] + call, batch)

    ready, start = Barrier(ranks, timeout=20), Barrier(ranks, timeout=20)
    with ThreadPoolExecutor(ranks) as pool:
        list(pool.map(write, range(ranks)))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert sorted(group.group_keys()) == names
    for name in names:
        for call, found in enumerate((group[name], group[name]["call_1"])):
            assert np.array_equal(found["activation"][:], (values + call).numpy())
            assert found["sample"][:].tolist() == list(range(len(values)))
            assert found.attrs["layer"] == name


def test_a_group_that_a_killed_run_had_half_made(tmp_path):
    """It is no part of the store, and gone when the sweep is run again."""
    for _ in range(2):
        quiet(small_model(), images(4), {}, store=tmp_path / "a.zarr")
        assert sorted(zarr.open_group(tmp_path / "a.zarr", mode="r").group_keys()) == ["0", "3"]
        (tmp_path / "a.zarr" / ".rank0.partial").mkdir()
        (tmp_path / "a.zarr" / ".rank0.partial" / "zarr.json").write_text("{")
        shutil.rmtree(tmp_path / "a.zarr" / "3")
    quiet(small_model(), images(4), {}, store=tmp_path / "a.zarr")
    assert sorted(path.name for path in (tmp_path / "a.zarr").iterdir()) == ["0", "3", "zarr.json"]


def test_a_store_that_other_ranks_do_not_see(tmp_path):
    """A folder that is not shared is found out, rather than filled with holes."""
    store = Store(tmp_path / "a.zarr", model="M", at="output", identity="i", batch_size=2, rows=4, rank=1)
    with pytest.raises(sp.StorageError, match="Rank 0 created the store .*, but rank 1 does not find it"):
        store.open(continues=False)


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        ("a\0b", sp.ArgumentError, "no file name can have"),
        ("n" * 300, sp.StorageError, "File name too long"),
        ("file/a.zarr", sp.ArgumentError, "it is not a folder"),
        ("pipe", sp.StorageError, "exists, and is not a Zarr group"),
        ("dangling", sp.StorageError, "Cannot write to the store .*dangling"),
    ],
)
def test_paths_that_cannot_be(tmp_path, bad, kind, message):
    """A path at which no store can be is a clear error."""
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "none" / "a.zarr")
    with pytest.raises(kind, match=message):
        quiet(small_model(), images(4), {}, store=f"{tmp_path}/{bad}")


@pytest.mark.parametrize("name", ["..", ".", "...", ".hidden", ".rank0.partial"])
def test_layer_names_that_lead_elsewhere(tmp_path, name):
    """Dots in the place of a name, which a model can be made to have, stay inside the store."""
    (tmp_path / "folder").mkdir()
    model = nn.Sequential()
    model._modules[name] = nn.Conv2d(3, 2, 1)
    quiet(model, images(4), {}, store=tmp_path / "folder" / "a.zarr")
    (group,) = zarr.open_group(tmp_path / "folder" / "a.zarr", mode="r").group_values()
    assert group.attrs["layer"] == name
    assert group["activation"].shape == (4, 2, 8, 8)
    check_store(tmp_path / "folder" / "a.zarr")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.zarr"]


def test_layer_names_that_are_no_file_names(tmp_path):
    """A slash or a dot in a name stays inside the store."""
    model = nn.Sequential()
    model._modules["../up/a b"] = nn.Conv2d(3, 2, 1)
    quiet(model, images(4), {}, store=tmp_path / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    (group,) = zarr.open_group(tmp_path / "a.zarr", mode="r").group_values()
    assert group.attrs["layer"] == "../up/a b"


def test_layers_that_are_called_like_other_parts_of_the_store(tmp_path):
    """A layer called as the model itself is in the store has a group of its own, and so has one called as its file."""
    model = nn.Sequential(nn.Sequential())
    model._modules["(model)"] = model._modules.pop("0")
    model[0].append(nn.Conv2d(3, 2, 1))
    model._modules["zarr"] = nn.Sequential()
    model._modules["zarr"]._modules["json"] = nn.Conv2d(2, 3, 1)
    quiet(model, images(4), {}, layers=["", "(model)", "zarr.json"], store=tmp_path / "a.zarr")
    check_store(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    found = {group.attrs["layer"]: group["activation"] for group in root.group_values()}
    assert {layer: array.shape[1] for layer, array in found.items()} == {"": 3, "(model)": 2, "zarr.json": 3}
    assert "(model)" in root


def test_without_zarr(tmp_path, monkeypatch):
    """The error names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(sp.ArgumentError, match=r"pip install 'spatialprobe\[store\]'"):
        quiet(small_model(), images(4), {}, store=tmp_path / "a.zarr")


def test_the_last_batch_that_cannot_be_written(tmp_path, monkeypatch):
    """An error of the thread that writes is raised by the sweep, also if it is of the last batch."""
    written = Store._write_rows

    def fail(self, arrays, rows, parts):
        if rows.stop == 6:
            raise StorageError("Cannot write to the store: the disk is full.")
        written(self, arrays, rows, parts)

    monkeypatch.setattr(Store, "_write_rows", fail)
    with pytest.raises(StorageError, match="the disk is full") as error:
        quiet(nn.Conv2d(1, 1, 1), torch.rand(6, 1, 4, 4), {"dead": sp.Dead}, batch_size=2, store=tmp_path / "a.zarr")
    assert not getattr(error.value, "__notes__", [])
    assert not [one for one in threading.enumerate() if one.name.startswith("spatialprobe-store")]
