"""The model that the command line names: found as Python finds it, or an error that says where to look."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from spatialprobe.command.model import load_model
from spatialprobe.errors import ArgumentError


@pytest.fixture
def folder(made, typed):
    """Return the folder of the model, with the import path and modules restored afterwards."""
    return made


def test_module_is_found_below_the_working_folder(folder, monkeypatch):
    """A module of the working folder is found, as by `python -m`, and dotted names lead into classes."""
    monkeypatch.chdir(folder)
    assert type(load_model("net:Net")).__name__ == "Net"
    assert load_model("torch:nn.Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": 3}).out_channels == 2


def test_random_weights_are_the_same_each_time(folder):
    """A model that is not trained has the same weights in each run, so that a sweep of it can continue."""
    one, other = (load_model(f"{folder}/net.py:Net") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_model_is_taken_as_it_is(folder):
    """A name may stand for a model itself, which is not called."""
    model = load_model(f"{folder}/net.py:net")
    assert isinstance(model, nn.Module)
    assert model is load_model(f"{folder}/net.py:net")


def test_two_versions_of_a_project(folder, tmp_path):
    """Each of two files of one name imports its own neighbors, and none is taken for a module of that name."""
    for name, count in (("old", 3), ("new", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sizes.py").write_text(f"COUNT = {count}")
        text = "from torch import nn\nfrom sizes import COUNT\ndef make(): return nn.Conv2d(1, COUNT, 1)"
        (tmp_path / name / "random.py").write_text(text)
    found = [load_model(f"{tmp_path}/{name}/random.py:make").out_channels for name in ("old", "new")]
    assert found == [3, 7]
    assert hasattr(sys.modules["random"], "randint")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("net", r"MODEL is package\.module:callable or file\.py:callable, such as .*, not 'net'"),
        ("net.py", "MODEL is"),
        ("nothing.at:all", "There is no module 'nothing'. Is it installed, or below the working folder?"),
        ("broken:Net", "The module 'broken' needs 'nothing', which is not installed"),
        ("broken.py:Net", "broken.py needs 'nothing', which is not installed"),
        ("wrong:Net", "Importing 'wrong' raised ZeroDivisionError"),
        ("wrong.py:Net", "Importing wrong.py raised ZeroDivisionError"),
        ("exits.py:Net", "Importing exits.py raised SystemExit: 3"),
        ("net.py:Ne", "net.py has no 'Ne'. Did you mean 'Net'"),
        ("net.py:zzz", "net.py has no 'zzz'. It has Net, net, raises"),
        ("empty.py:Net", "It defines nothing that can be called"),
        ("net.py:_hidden", "is an int, which is neither a model nor a callable"),
        ("net.py:number", "returned an int, not an nn.Module"),
        ("net.py:raises", "raised ValueError: two\nlines. Its arguments go in --model-args"),
        ("sub/inner:Net", "There is no module 'sub/inner'"),
        ("sub.inner:Net", "needs 'nothing'"),
        ("sub.other:Net", r"There is no module 'sub.other'"),
    ],
)
def test_what_cannot_be_loaded(target, said, folder, monkeypatch):
    """The error says what is missing: the file, the module, one that it imports, or the name in it."""
    monkeypatch.chdir(folder)
    for name, text in (
        ("broken", "import nothing"),
        ("wrong", "1 / 0"),
        ("empty", ""),
        ("exits", "raise SystemExit(3)"),
        ("sub/inner", "import nothing"),
    ):
        (folder / "sub").mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    with pytest.raises(ArgumentError, match=said):
        load_model(target)
    sys.modules.pop("sub", None)


def test_arguments_of_the_callable(folder):
    """A list goes by position, a mapping by name, anything else is an error, as is one that the callable refuses."""
    assert load_model(f"{folder}/net.py:Net", [6]).conv1.out_channels == 6
    assert load_model(f"{folder}/net.py:Net", {"channels": 6}).conv1.out_channels == 6
    with pytest.raises(ArgumentError, match="must be a JSON object or array, not 6"):
        load_model(f"{folder}/net.py:Net", 6)
    with pytest.raises(ArgumentError, match=r"TypeError: .*'depth'\. Its arguments were \{'depth': 6\}"):
        load_model(f"{folder}/net.py:Net", {"depth": 6})


def test_missing_file(folder):
    """A file that does not exist is named."""
    with pytest.raises(FileNotFoundError, match=r"No file 'nothing\.py'"):
        load_model("nothing.py:Net")
