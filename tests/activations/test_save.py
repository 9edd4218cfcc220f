"""Saved records: read back equal, written whole, and refused where a single bit differs."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from zoo import CONVOLUTIONS, ZOO

import spatialprobe as sp
from spatialprobe.storage import checksum, stored


def same(one, other):
    """Whether two records agree in every field."""
    fields = ("layer", "aliases", "call", "forward", "order", "at", "module_type", "conv", "layout")
    gradients = [one.gradient, other.gradient]
    return (
        all(getattr(one, name) == getattr(other, name) for name in fields)
        and one.dtype == other.dtype
        and torch.equal(one.tensor, other.tensor)
        and (gradients == [None, None] or torch.equal(*gradients))
    )


@pytest.mark.parametrize("name", ZOO)
def test_round_trip(name, tmp_path):
    """Every record of every model comes back with all its fields, and is found in the same ways."""
    model, images = ZOO[name].model(), ZOO[name].images()
    with sp.Probe(model, CONVOLUTIONS, gradients=True) as probe:
        model(images).sum().backward()
    loaded = sp.load_activations(sp.save_activations(tmp_path / "acts.safetensors", probe))
    assert len(loaded.records) == len(probe.records)
    assert all(same(one, other) for one, other in zip(loaded.records, probe.records, strict=True))
    assert list(loaded) == list(probe)
    assert torch.equal(loaded.concatenated(next(iter(probe))), probe.concatenated(next(iter(probe))))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3).bfloat16(),
        torch.rand(0, 3, 4, 4),
        torch.tensor(3.0),
        torch.rand(4, 6).t()[::2],
        torch.rand(1, 3).expand(5, 3),
        torch.tensor([True, False]),
        torch.rand(2, 8, 4, 4).to(memory_format=torch.channels_last),
    ],
    ids=["bf16", "empty", "scalar", "strided", "expanded", "bool", "channels last"],
)
def test_every_kind_of_tensor(tensor, tmp_path):
    """Any number format, empty batches and any memory layout are kept."""
    identity = nn.Identity()
    with sp.Probe(identity, "") as probe:
        identity(tensor)
    loaded = sp.load_activations(sp.save_activations(tmp_path / "a.safetensors", probe.records))
    assert same(loaded[""], probe[""])


def test_any_layer_name(tmp_path):
    """Layer names may hold anything that a module name may."""
    model = nn.Sequential()
    for name in ('quo"te', "slash/é", "__metadata__", " "):
        model.add_module(name, nn.Conv2d(1, 1, 1))
    captured = sp.capture(model, torch.rand(1, 1, 2, 2))
    loaded = sp.load_activations(sp.save_activations(tmp_path / "a.safetensors", captured))
    assert list(loaded) == list(captured)


@pytest.fixture
def saved(tmp_path):
    captured = sp.capture(ZOO["chain"].model(), ZOO["chain"].images()[:, :, :4, :4], layers="conv1", stop_early=True)
    return sp.save_activations(tmp_path / "acts.safetensors", captured)


def test_every_flipped_bit_is_found(saved):
    """Whichever byte of the file is damaged, reading it is a clear error."""
    whole = saved.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        saved.write_bytes(damaged)
        with pytest.raises(sp.StorageError):
            _ = [record.tensor for record in sp.load_activations(saved).records]
    saved.write_bytes(whole)
    assert list(sp.load_activations(saved)) == ["conv1"]


def test_a_damaged_value_is_never_returned(saved):
    """A file opens without a look at its values; each way to the damaged ones is an error, each time."""
    whole = bytearray(saved.read_bytes())
    whole[-1] ^= 1
    saved.write_bytes(whole)
    record = sp.load_activations(saved)["conv1"]
    assert record.shape[0] == len(ZOO["chain"].images())
    ways = [
        lambda: record.tensor,
        record.numpy,
        record.maps,
        lambda: copy.deepcopy(record),
        lambda: pickle.dumps(record),
    ]
    for way in [*ways, lambda: sp.save_activations(saved, record), lambda: dataclasses.replace(record, layout=None)]:
        for _ in range(2):
            with pytest.raises(sp.StorageError, match=r"is damaged, .* the values of 0.tensor do not match"):
                way()


def test_values_are_the_users_once_read(saved):
    """A record reads its checksum once: it may be modified afterwards, and stays when the file is replaced."""
    record = sp.load_activations(saved)["conv1"]
    before = record.tensor.clone()
    sp.save_activations(saved, sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2)))
    assert torch.equal(record.tensor, before)
    record.tensor.add_(1)
    assert torch.equal(pickle.loads(pickle.dumps(record)).tensor, before + 1)


def test_values_are_not_read_before_they_are_used(saved, monkeypatch):
    """Loading, listing and describing records compares no checksum of values; using one compares its own, once."""
    seen = []
    monkeypatch.setattr(stored, "fingerprint", lambda value: seen.append(value) or checksum.fingerprint(value))
    loaded = sp.load_activations(saved)
    assert "conv1" in str(loaded)
    assert "conv1" in repr(loaded["conv1"])
    assert (loaded["conv1"].nbytes > 0, seen) == (True, [])
    assert loaded["conv1"].tensor is loaded["conv1"].tensor
    assert len(seen) == 1


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_cut_off_files(saved, length):
    """A file that was cut off is a clear error."""
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(sp.StorageError, match="damaged"):
        sp.load_activations(saved)


def test_foreign_and_newer_files(saved, tmp_path):
    """A safetensors file of something else, and one of a newer format, are told apart from damage."""
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(sp.StorageError, match="not written by save_activations"):
        sp.load_activations(tmp_path / "model.safetensors")
    newer = {"format": "spatialprobe activations", "version": "2", "description": json.dumps({}), "digest": ""}
    save_file({}, tmp_path / "newer.safetensors", newer)
    with pytest.raises(sp.StorageError, match="has format 2; this version reads 1. Update"):
        sp.load_activations(tmp_path / "newer.safetensors")
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        sp.load_activations(tmp_path / "none.safetensors")


def test_crash_while_writing_leaves_the_old_file(saved, monkeypatch):
    """A crash before the end leaves the old file as it was, and no scraps."""
    before = saved.read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        sp.save_activations(saved, sp.capture(ZOO["chain"].model(), ZOO["chain"].images()))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_what_cannot_be_saved(tmp_path):
    """A folder that is not there, and a number format that safetensors lacks, are clear errors."""
    captured = sp.capture(ZOO["chain"].model(), ZOO["chain"].images())
    with pytest.raises(sp.StorageError, match="the folder .* does not exist"):
        sp.save_activations(tmp_path / "none" / "a.safetensors", captured)
    identity = nn.Identity()
    complex_valued = sp.capture(identity, torch.rand(2).to(torch.complex128), layers="")
    with pytest.raises(sp.StorageError, match="complex128"):
        sp.save_activations(tmp_path / "a.safetensors", complex_valued)
    assert list(tmp_path.iterdir()) == []


def test_lookup_of_what_is_not_there(saved):
    """A loaded mapping says which layers it has."""
    with pytest.raises(sp.LayerNotFoundError, match="There are no records of a layer 'conv2'. Did you mean 'conv1'"):
        sp.load_activations(saved)["conv2"]


def test_what_is_no_record(tmp_path):
    """Arguments in the wrong order, and bare tensors, are refused, with what is taken."""
    records = sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2))
    for given in ("records.safetensors", {"conv1": records[""].tensor}, [records[""].tensor]):
        with pytest.raises(sp.ArgumentError, match="takes a probe, or records such as"):
            sp.save_activations(tmp_path / "records.safetensors", given)
    assert not list(tmp_path.iterdir())


def test_one_record_and_mappings(tmp_path):
    """What `feature_maps` draws can be saved: a record alone, or a mapping; a generator of records too."""
    with sp.Probe(ZOO["chain"].model()) as probe:
        probe._model(ZOO["chain"].images())
    for given in (probe["conv1"], {"conv1": probe["conv1"]}, (one for one in [probe["conv1"]])):
        loaded = sp.load_activations(sp.save_activations(tmp_path / "one", given))
        assert list(loaded) == ["conv1"]
        assert torch.equal(loaded["conv1"].tensor, probe["conv1"].tensor)


def test_names_that_a_file_would_lose(tmp_path):
    """A mapping from other names than the layers', as `evolution` takes it, is not saved without them."""
    record = sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2))[""]
    with pytest.raises(sp.ArgumentError, match="would lose the names 'epoch 0', 'epoch 1'"):
        sp.save_activations(tmp_path / "file", {"epoch 0": record, "epoch 1": record})
    assert not list(tmp_path.iterdir())


def test_nothing_to_save(tmp_path):
    """No file is written without records, and none in place of a folder; a folder is no file of records."""
    for given in ([], {}, sp.Probe(ZOO["chain"].model())):
        with pytest.raises(sp.ArgumentError, match="no records for save_activations"):
            sp.save_activations(tmp_path / "none", given)
    record = sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2))[""]
    with pytest.raises(sp.StorageError, match="it is a folder. Name a file in it"):
        sp.save_activations(tmp_path, record)
    with pytest.raises(sp.StorageError, match="is a folder, not a file of activations: name the file in it"):
        sp.load_activations(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["maps.pdf", "maps.npz", "maps.PT", "maps.safetensors.html"])
def test_names_of_other_formats(name, tmp_path):
    """A name that has the suffix of another format is refused, since the file would be taken for it."""
    records = sp.capture(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2))
    with pytest.raises(sp.ArgumentError, match=r"has the suffix of another format: name it '.*\.safetensors'"):
        sp.save_activations(tmp_path / name, records)
    with pytest.raises(sp.ArgumentError, match="has the suffix of another format"):
        sp.sweep(nn.Conv2d(1, 1, 1), torch.rand(1, 1, 2, 2), {"dead": sp.Dead}).save(tmp_path / name)
    assert not list(tmp_path.iterdir())
