"""Weights of the command line: read in all usual forms, and never unpickled."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from torch import nn

from spatialprobe.command.weights import load_weights
from spatialprobe.errors import ArgumentError, StorageError


class Hostile:
    """What runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model():
    """Return a model of which some weights are loaded."""
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("entry", [None, "state_dict", "model_state_dict", "model"])
def test_state_dicts_of_training_loops(model, prefix, entry, tmp_path):
    """State dicts are read alone or in a checkpoint, with the prefixes of wrappers."""
    state = {f"{prefix}{name}": torch.full_like(value, 3) for name, value in model.state_dict().items()}
    torch.save(state if entry is None else {"epoch": 3, entry: state, "optimizer": {"lr": 1}}, tmp_path / "w.pt")
    load_weights(model, str(tmp_path / "w.pt"))
    assert all(bool((value == 3).all()) for value in model.state_dict().values())


def test_names_of_one_first_part(tmp_path):
    """A first part that all of the model's own names share is no prefix."""
    model = nn.ModuleDict({"module": nn.Conv2d(1, 1, 1)})
    torch.save({"module.weight": torch.ones(1, 1, 1, 1), "module.bias": torch.ones(1)}, tmp_path / "w.pt")
    load_weights(model, str(tmp_path / "w.pt"))
    assert model["module"].weight.item() == 1


def test_hostile_files_are_not_unpickled(model, tmp_path):
    """Files of torch.save and of pickle that would run code do not, and the error names the code."""
    target = tmp_path / "made"
    torch.save({"weight": Hostile(target)}, tmp_path / "a.pt")
    torch.save({"weight": Hostile(target)}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Hostile(target), protocol=2))
    (tmp_path / "d.safetensors").write_bytes(pickle.dumps(Hostile(target)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name, said in (
        ("a.pt", r"it names \w+\.mkdir, which could run code"),
        ("b.pt", r"it names \w+\.mkdir, which could run code"),
        ("c.pt", "which could run code"),
        ("d.safetensors", "cannot be read as weights"),
    ):
        with pytest.raises(StorageError, match=said):
            load_weights(model, str(tmp_path / name))
    assert not target.exists()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.load(tmp_path / "a.pt", weights_only=False)  # the file is what it seems
    assert target.exists()


def test_whole_models_are_refused(model, tmp_path):
    """A model that was pickled whole is refused by the name of its class, and the error says what to save."""
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(StorageError, match=r"it names torch\.nn\..*Save them with torch\.save\(model\.state_dict"):
        load_weights(model, str(tmp_path / "whole.pt"))


@pytest.mark.parametrize("value", [3, [torch.ones(1)], {"epoch": 3}])
def test_what_is_no_state_dict(model, value, tmp_path):
    """A file of something else is named as such."""
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(StorageError, match="holds no state dict, a mapping of names to tensors"):
        load_weights(model, str(tmp_path / "w.pt"))


def test_weights_of_another_model(model, tmp_path):
    """What is missing, too much, or of another size is named."""
    state = model.state_dict()
    torch.save({"0.weight": state["0.weight"], "9.weight": state["0.bias"]}, tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match=r"lacks 0\.bias, 1\.bias, .* and 3 more, and has besides 9\.weight"):
        load_weights(model, str(tmp_path / "w.pt"))
    torch.save({**state, "0.weight": torch.ones(2, 1, 3, 3)}, tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match=r"do not fit Sequential: .*\n\tsize mismatch for 0\.weight"):
        load_weights(model, str(tmp_path / "w.pt"))


def test_missing_file(model):
    """A file that does not exist is named."""
    with pytest.raises(FileNotFoundError, match=r"No file 'none\.pt'"):
        load_weights(model, "none.pt")
