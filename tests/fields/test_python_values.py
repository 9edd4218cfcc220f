"""What a model reads into Python, whatever comes after may depend on: on its numbers, shapes and branches."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from fields.functions import Calls, compare_alone


def viewed(x):
    """Numpy looks at memory before something is written into it."""
    memory = torch.zeros(x.shape, dtype=x.dtype)
    looked = memory.numpy()
    memory.copy_(x)
    return x + float(looked.max())


def caught(x):
    """A model that takes meta tensors for something else."""
    try:
        return x * x.max().item()
    except RuntimeError:
        return x


def pickled(x):
    """The same values in memory of their own."""
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, weights_only=True) + x.flip(3)


def smallest_above(x):
    """A loop that ends by a value."""
    number = 1
    while number < x.abs().max():
        number += 1
    return x * number


READING = {
    "item": lambda x: x / x.abs().max().item(),
    "float": lambda x: x * float(x.mean()),
    "int": lambda x: x * (1 + int(x.sum() * 3)),
    "complex": lambda x: x * complex(x.mean()).real,
    "bool": lambda x: x if bool(x.sum() > 0) else -x,
    "tolist": lambda x: x * x.flatten().tolist()[3],
    "tolist of a number": lambda x: x * x.max().tolist(),
    "numpy": lambda x: x * float(x.numpy().max()),
    "numpy of a copy": lambda x: x * float(x.detach().cpu().numpy().max()),
    "asarray": lambda x: x * float(np.asarray(x).max()),
    "from_dlpack": lambda x: x * float(np.from_dlpack(x).max()),
    "to_dlpack": lambda x: torch.from_dlpack(torch.to_dlpack(x)).flip(3) + x,
    "numpy and back": lambda x: torch.from_numpy(np.sin(x.numpy())),
    "a view of numpy's": viewed,
    "storage": lambda x: x + x.untyped_storage().tolist()[7],
    "text": lambda x: x + float(f"{x.max():.6f}"),
    "repr": lambda x: x + float(repr(x.max().double().item())),
    "a file": pickled,
    "branch": lambda x: x * 2 if x.sum() > 0 else x,
    "branch between tensors": lambda x: (lambda a, b: a if x.sum() > 0 else b)(x * 2, x * 3),
    "loop": smallest_above,
    "max": lambda x: x + max(x.flatten()),
    "sorted": lambda x: x + sorted(x.flatten(), key=float)[0],
    "in": lambda x: x if True in (x[..., 0] > 1.0) else 2 * x,
    "equal": lambda x: x if torch.equal(x, x.abs()) else x * 2,
    "allclose": lambda x: x if torch.allclose(x.sum(), x.sum().abs()) else x * 2,
    "a slice": lambda x: x + x[..., (x[0, 0, 0, 0] > 0).long() :].sum(),
    "a position": lambda x: x + x[..., (x[0, 0, 0, 0] > 0).long()][..., None],
    "nonzero": lambda x: x * (x > 0).nonzero().shape[0],
    "length of a selection": lambda x: x * len(x[x > 0]),
    "masked_select": lambda x: x + x.masked_select(x > 0).numel(),
    "unique": lambda x: x + (x * 3).round().unique().numel(),
    "bincount": lambda x: x + torch.bincount(x[0, 0, 0].abs().long()).shape[0],
    "one_hot": lambda x: x + F.one_hot(x[0, 0, 0].abs().long()).shape[-1],
    "repeat_interleave": lambda x: x + x[0, 0, 0].repeat_interleave(x[0, 0, 0].abs().long()).numel(),
    "tensor_split": lambda x: x + torch.tensor_split(x, (x.flatten()[:1] > 0).long() + 1, 3)[0].sum(),
    "tensor of a list": lambda x: x + torch.tensor([x.max(), 1.0])[0],
    "as_tensor of a list": lambda x: x + torch.as_tensor([x.max(), 1.0])[0],
    "new_tensor of a list": lambda x: x + x.new_tensor([x.max(), 1.0])[0],
    "FloatTensor of a list": lambda x: x + torch.FloatTensor([x.max(), 1.0])[0],
    "index by a list": lambda x: x + x[[0], [(x[0, 0, 0, 0] > 0).long()]].sum(),
    "full": lambda x: x + torch.full((1,), x.max().item()),
    "an error": caught,
}


@pytest.mark.parametrize("name", READING)
def test_what_is_read_is_seen(name):
    """Boxes hold what perturbation shows, do not claim to be exact, and the field names what was read."""
    field = compare_alone(Calls(READING[name]))
    assert not field.exact
    assert field.unknown


@pytest.mark.parametrize("name", ["item", "numpy", "nonzero", "tensor of a list"])
def test_reading_is_named(name):
    """By the operator or the function that told Python of a value."""
    field = sp.receptive_fields(Calls(READING[name]), (1, 3, 4, 4))[""]
    word = "tensor" if name.startswith("tensor") else name
    assert field.unknown == (f"a value read into Python ({word})",)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.zeros(4, device=x.device, dtype=x.dtype).fill_(x.max()),
        lambda x: torch.normal(x.flip(3), 0.0),
        lambda x: x + torch.linspace(x.min(), x.max(), 4, device=x.device, dtype=x.dtype),
    ],
    ids=["fill_", "normal", "linspace"],
)
def test_tensors_made_of_tensors(function):
    """What is filled, drawn or ranged by values of the input depends on them."""
    assert compare_alone(Calls(function)).fallback is None


class Branches(nn.Module):
    """Takes one of two ways, by a value of the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.joined = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Identity()

    def forward(self, x):
        y, z = self.first(x), self.second(x)
        return self.joined(y if y.max().item() > 0 else z)


def test_layers_before_a_reading_are_as_they_were():
    """A branch makes all that comes after it depend on what decided it, and nothing before it."""
    fields = sp.receptive_fields(Branches(), (1, 1, 9, 9))
    for name in ("first", "second"):
        assert (fields[name].exact, fields[name].size, fields[name].unknown) == (True, (3, 3), ())
    for name in ("joined", ""):
        assert (fields[name].exact, fields[name].is_global) == (False, True)


class Scaled(nn.Module):
    """A gate that is a number of Python's."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean()).item()


def test_reading_in_an_ignored_gate():
    """It is a constant, as the gate is."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), Scaled(), nn.Conv2d(1, 1, 3))
    assert sp.receptive_fields(model, (1, 1, 9, 9))["2"].is_global
    field = sp.receptive_fields(model, (1, 1, 9, 9), ignore=[Scaled])["2"]
    assert (field.exact, field.size, field.ignored) == (True, (5, 5), ("Scaled",))


def test_reading_before_the_source():
    """What is read before the source does not depend on its units."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), Scaled(), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    field = sp.receptive_fields(model, (1, 1, 9, 9), source="2")["3"]
    assert (field.exact, field.size) == (True, (3, 3))


def test_constants_are_read_without_a_word():
    """On the real device too, reading what does not depend on the input changes nothing."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.scale = nn.Conv2d(1, 1, 3), torch.tensor([0.5, 2.0])

        def forward(self, x):
            x = x * float(self.scale.numpy().max()) + torch.arange(3.0).tolist()[1]
            y = self.before(x * torch.tensor([0.25]))
            return y * y.sum().item()

    fields = sp.receptive_fields(Both(), (1, 1, 8, 8))
    assert "item" in fields["before"].fallback
    assert (fields["before"].exact, fields["before"].size) == (True, (3, 3))


class Listed(nn.Module):
    """Reads a list within TorchScript."""

    def forward(self, x):
        values: list[float] = x.flatten().tolist()
        return x * values[3]


class Numbered(nn.Module):
    """Reads a number within TorchScript."""

    def forward(self, x):
        return x * float(x.max())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning", "ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("part", [Listed, Numbered])
def test_reading_in_torchscript(part):
    """A part in TorchScript reads values as Python does."""
    field = compare_alone(nn.Sequential(nn.Identity(), torch.jit.script(part())))
    assert not field.exact


def test_memory_that_no_operator_has_written():
    """What is in an empty tensor may have come from anywhere: from a function in C++, say."""

    class Outside(nn.Module):
        def forward(self, x):
            memory = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            if not x.is_meta:
                memory.view(-1).data_ptr()  # given to a function that fills it
            return memory.flip(3) + x

    field = sp.receptive_fields(Outside(), (1, 1, 4, 4))[""]
    assert not field.exact
    assert field.is_global
    filled = sp.receptive_fields(Calls(lambda x: torch.empty_like(x).copy_(x)), (1, 1, 4, 4))[""]
    assert (filled.exact, filled.size) == (True, (1, 1))
