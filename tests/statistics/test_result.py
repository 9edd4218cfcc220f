"""SweepResult: a mapping that nobody can write to, and a file that gives it back."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from sweeps import flat, images, small_model, swept

import spatialprobe as sp


class Gives:
    """A reducer whose result is what it is told."""

    def __init__(self, value):
        self.value = value

    def update(self, activation, samples):
        pass

    def merge(self, other):
        pass

    def result(self):
        return self.value


@dataclass(frozen=True)
class Own:
    """Somebody's own result."""

    values: torch.Tensor
    name: str
    nested: tuple[object, ...]


def giving(value):
    """A sweep's result that holds a value."""
    return sp.sweep(small_model(), images(2), {"mine": partial(Gives, value)}, layers="0", progress=False)


def test_a_mapping():
    """Layers in the model's order, reducers in theirs, and who it is about."""
    result = swept(images(9))
    assert list(result) == ["0", "3"]
    assert len(result) == 2
    assert list(result["0"]) == ["moments", "histogram", "top", "covariance", "dead"]
    assert (result.samples, result.model, result.at) == (9, "Sequential", "output")
    heading, names, *rows = repr(result).splitlines()
    assert heading == "Sweep of Sequential: 9 samples, 2 layers"
    assert names.split() == ["layer", "moments", "histogram", "top", "covariance", "dead"]
    assert [row.split()[:3] for row in rows] == [["0", "MomentsResult", "(4,)"], ["3", "MomentsResult", "(5,)"]]
    assert "MomentsResult(count=float64 (4,), mean=float64 (4,)," in repr(result["0"])


def test_nobody_writes_to_it():
    """Neither mapping takes a new entry."""
    result = swept(images(9))
    with pytest.raises(TypeError):
        result["0"] = {}
    with pytest.raises(TypeError):
        result["0"]["moments"] = 3


def test_a_layer_that_was_not_swept():
    """The error names those that were; `in` and `get` work as in any mapping."""
    result = swept(images(9))
    with pytest.raises(sp.LayerNotFoundError, match="The sweep has no layer '1'. There are '0', '3'"):
        result["1"]
    assert "1" not in result
    assert result.get("1") is None


def test_saved_and_loaded(tmp_path):
    """All results come back bit by bit, with their types, in a process that knows only the library too."""
    result = swept(images(9))
    path = result.save(tmp_path / "result.safetensors")
    loaded = sp.SweepResult.load(path)
    assert repr(loaded) == repr(result)
    one, other = flat(result), flat(loaded)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert type(value) is type(other[key])
        assert np.array_equal(value, other[key], equal_nan=np.asarray(value).dtype.kind == "f")
    assert type(loaded["0"]["top"]) is type(result["0"]["top"])
    code = f"import spatialprobe as sp; print(sp.SweepResult.load({str(path)!r})['3']['moments'].mean.sum().item())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) == result["3"]["moments"].mean.sum().item()


VALUES = [
    None,
    True,
    3,
    -(2**70),
    0.1,
    float("inf"),
    "text",
    (1, "a", (None, 2.5)),
    [1, [2, {"key": 3}]],
    {1: "one", "two": 2.0, (1, 2): None},
    {},
    (),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values(tmp_path, value):
    """Numbers to the last bit, text, nested containers of any kind with keys of any kind."""
    loaded = sp.SweepResult.load(giving(value).save(tmp_path / "r"))["0"]["mine"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_arrays_and_own_dataclasses(tmp_path):
    """Tensors of any type and shape, arrays, and results of one's own reducers."""
    own = Own(torch.arange(6).reshape(2, 3).T, "name", (np.arange(3.0), torch.tensor(True), torch.zeros(0, 2)))
    loaded = sp.SweepResult.load(giving(own).save(tmp_path / "r"))["0"]["mine"]
    assert isinstance(loaded, Own)
    assert torch.equal(loaded.values, own.values)
    assert isinstance(loaded.nested[0], np.ndarray)
    assert np.array_equal(loaded.nested[0], own.nested[0])
    assert loaded.nested[1].dtype == torch.bool
    assert loaded.nested[2].shape == (0, 2)


def test_what_cannot_be_saved(tmp_path):
    """Another kind of object is refused with its place, and no file is left."""
    with pytest.raises(sp.StorageError, match=r"Cannot save layers\['0'\]\['mine'\]\['a'\], an object"):
        giving({"a": object()}).save(tmp_path / "r")
    with pytest.raises(sp.StorageError, match="the folder .* does not exist"):
        giving(1).save(tmp_path / "no" / "r")
    assert not list(tmp_path.iterdir())


def test_a_class_that_is_not_there(tmp_path, monkeypatch):
    """A file runs no code: a dataclass that is not imported is named, and its module stays unimported."""
    path = giving(Own(torch.ones(1), "name", ())).save(tmp_path / "r")
    monkeypatch.delitem(sys.modules, __name__)
    with pytest.raises(sp.StorageError, match=f"The file holds an Own of {__name__}, which is not imported"):
        sp.SweepResult.load(path)
    assert __name__ not in sys.modules


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.95])
def test_damaged(tmp_path, place):
    """A wrong byte or a missing end anywhere is an error, never other numbers."""
    path = swept(images(9)).save(tmp_path / "r")
    whole = path.read_bytes()
    at = int(len(whole) * place)
    for broken in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
        path.write_bytes(broken)
        with pytest.raises(sp.StorageError, match="damaged|not written by|another|which is not imported"):
            sp.SweepResult.load(path)


def test_other_files(tmp_path):
    """A file of activations is none of a sweep; and a missing one is missing."""
    sp.save_activations(tmp_path / "a", sp.capture(small_model(), images(2)))
    with pytest.raises(sp.StorageError, match="not written by SweepResult.save"):
        sp.SweepResult.load(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        sp.SweepResult.load(tmp_path / "b")


@pytest.mark.parametrize("how", [copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_copied_and_pickled(how):
    """A result can be sent to another process."""
    result = swept(images(9))
    one, other = flat(result), flat(how(result))
    assert all(np.array_equal(one[key], other[key], equal_nan=np.asarray(one[key]).dtype.kind == "f") for key in one)
