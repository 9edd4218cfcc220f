"""What a forward makes by itself is known on the meta device too: indices, masks, and what is computed of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from fields.functions import Calls, compare_alone

PICKED = torch.tensor([3, 0, 1])


def written(x, index, values):
    """A copy with something written into it."""
    y = x.clone()
    y[index] = values
    return y


def counted(x):
    """Indices that are put together in place."""
    index = torch.zeros(4, dtype=torch.long, device=x.device)
    index[0] = 3
    index[1:3] = torch.tensor([1, 2], device=x.device)
    index += 1
    return x[..., index % 4]


def sinusoids(x):
    """A table of positions, filled column by column [Vaswani et al. 2017]."""
    table = torch.zeros(x.shape[3], x.shape[1], device=x.device)
    places = torch.arange(x.shape[3], device=x.device)[:, None]
    table[:, 0::2] = torch.sin(places * torch.tensor([1.0, 0.1], device=x.device))
    table[:, 1::2] = torch.cos(places * torch.tensor([1.0], device=x.device))
    return x + table.t()[None, :, None]


def grid(x):
    """A pair of index tensors."""
    rows, columns = torch.meshgrid(
        torch.arange(3, device=x.device), torch.tensor([3, 0], device=x.device), indexing="ij"
    )
    return x[:, :, rows, columns]


INDEXED = {
    "a list of channels": lambda x: x[:, [2, 1, 0]],
    "a list of columns": lambda x: x[..., [3, 1]],
    "a negative number": lambda x: x[:, [-1]],
    "two lists": lambda x: x[:, :, [3, 1], [0, 2]],
    "a nested list": lambda x: x[:, :, [[3, 1], [0, 2]]].sum(3),
    "a list of booleans": lambda x: x[..., [True, False, True, False]],
    "a tuple": lambda x: x[:, (2, 0)],
    "a range": lambda x: x[..., range(0, 4, 2)],
    "an array": lambda x: x[..., np.array([1, 3])],
    "an array of booleans": lambda x: x[..., np.array([True, False, True, False])],
    "tensor": lambda x: x.index_select(3, torch.tensor([3, 0], device=x.device)),
    "tensor by its names": lambda x: torch.index_select(
        input=x, dim=3, index=torch.tensor(data=[3, 0], device=x.device)
    ),
    "as_tensor": lambda x: x[..., torch.as_tensor([3, 0], device=x.device)],
    "as_tensor of an array": lambda x: x[..., torch.as_tensor(np.array([3, 0]), device=x.device)],
    "asarray": lambda x: x[..., torch.asarray([3, 0], device=x.device)],
    "new_tensor": lambda x: x[..., x.new_tensor([3, 0]).long()],
    "new": lambda x: x[..., x.new([3, 0]).long()],
    "from_numpy": lambda x: x[..., torch.from_numpy(np.array([3, 0])).to(x.device)],
    "LongTensor": lambda x: x[..., torch.LongTensor([3, 0]).to(x.device)],
    "a tensor of the module's": lambda x: x[..., PICKED.to(x.device)],
    "sorted": lambda x: x[..., torch.tensor([3, 1, 2], device=x.device).sort().values],
    "argsort": lambda x: x[..., torch.tensor([0.3, 0.1, 0.9, 0.2], device=x.device).argsort()],
    "flipped": lambda x: x[..., torch.arange(4, device=x.device).flip(0)[:3]],
    "arithmetic": lambda x: x[..., (torch.arange(4, device=x.device) * 2 + 1) % 4],
    "rounded": lambda x: x[..., torch.linspace(0, 3, 3, device=x.device).round().long()],
    "compared": lambda x: x[..., torch.arange(4, device=x.device) > 1],
    "nonzero": lambda x: x[..., (torch.arange(4, device=x.device) > 1).nonzero()[:, 0]],
    "where": lambda x: x[..., torch.where(torch.arange(4, device=x.device) > 1)[0]],
    "meshgrid": grid,
    "unique": lambda x: x[..., torch.tensor([3, 1, 1], device=x.device).unique()],
    "combinations": lambda x: x[..., torch.combinations(torch.arange(3, device=x.device))[:, 0]],
    "in place": counted,
    "gather": lambda x: x.gather(3, torch.tensor([3, 0], device=x.device).expand(*x.shape[:3], 2)),
    "take_along_dim": lambda x: x.take_along_dim(torch.tensor([[[[3, 0]]]], device=x.device), 3),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.tensor([2, 0, 1, 1], device=x.device), 3),
    "index_add": lambda x: x.index_add(3, torch.tensor([1, 0], device=x.device), x[..., 2:]),
    "index_copy": lambda x: torch.zeros_like(x).index_copy(3, torch.tensor([1, 0], device=x.device), x[..., :2]),
    "written at a list": lambda x: written(x, (..., [0, 2]), x[..., [1, 3]]),
    "overwritten at a list": lambda x: written(x, (..., [0, 2]), 0.0),
    "overwritten at a mask": lambda x: written(x, (..., torch.arange(4, device=x.device) > 1), 0.0),
    "item": lambda x: x[..., : int(torch.tensor([1, 3], device=x.device).max().item())],
    "tolist": lambda x: x[..., torch.tensor([1, 3], device=x.device).tolist()],
    "a branch": lambda x: x[..., 1:] if (torch.arange(3, device=x.device) > 1).any() else x,
    "positions": sinusoids,
}


@pytest.mark.parametrize("name", INDEXED)
def test_known_on_the_meta_device(name):
    """Boxes are those of perturbation, exact, and no values of the input are needed for it."""
    field = compare_alone(Calls(INDEXED[name]))
    assert field.exact
    assert field.unknown == ()
    assert field.fallback is None


@pytest.mark.parametrize("name", ["a list of channels", "tensor", "compared", "in place"])
def test_known_without_weights(name):
    """The same where weights have no values either, and so there is no other device to go to."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), Calls(INDEXED[name]))
    assert sp.receptive_fields(model, (1, 3, 4, 4))[""].exact


def test_known_in_inference_mode():
    """A model that turns on inference mode by itself is followed alike."""
    field = compare_alone(Calls(torch.inference_mode()(INDEXED["tensor"])))
    assert (field.exact, field.fallback) == (True, None)


def test_buffers_and_attributes():
    """An index may be a buffer, or a tensor in a plain attribute."""
    field = compare_alone(Calls(lambda x, index: x[..., index], index=PICKED.clone()))
    assert (field.exact, field.fallback) == (True, None)
    model = Calls(lambda x: x[..., model.held[0]])
    model.held = [PICKED.clone()]
    assert compare_alone(model).exact


def test_computed_of_weights():
    """An index that weights decide needs their values: on the real device, and the field says why."""
    model = Calls(
        lambda x, scores: x[..., scores.argsort()[:2]], scores=nn.Parameter(torch.tensor([0.3, 0.1, 0.9, 0.2]))
    )
    field = compare_alone(model)
    assert field.exact
    assert "index" in field.fallback


def test_an_unknown_index_is_named():
    """Where nobody knows an index it may be any, and the field says which operator it was."""
    model = Calls(lambda x, index: x[..., index.long()])
    field = sp.receptive_fields(model, ((1, 1, 4, 4), (3,)))[""]
    assert not field.exact
    assert field.unknown == ("aten::index with an index whose values are unknown",)
    assert field.box(0, 0) == (0, 0, 4, 4)
    known = sp.receptive_fields(model, ((1, 1, 4, 4), torch.tensor([2.0, 0.0])))[""]
    assert (known.exact, known.box(0, 0)) == (True, (0, 2, 1, 3))


def test_memory_on_the_cpu_that_maps_are_written_into():
    """A tensor that a model keeps outside of its buffers holds what was written into it."""
    model = Calls(lambda x: model.canvas[0].copy_(x.flip(3)) + 0)
    model.canvas = [torch.zeros(1, 1, 4, 4)]
    field = sp.receptive_fields(model, (1, 1, 4, 4))[""]
    assert (field.exact, field.box(1, 1)) == (True, (1, 2, 2, 3))
    assert not model.canvas[0].any()


def test_user_tensors_are_not_written_to():
    """Buffers that a forward changes are computed on beside it."""
    model = Calls(lambda x, index: x[..., index.add_(1) % 4], index=PICKED.clone())
    assert sp.receptive_fields(model, (1, 1, 4, 4))[""].box(0, 0) == (0, 0, 1, 1)
    assert torch.equal(model.index, PICKED)


class Literals(nn.Module):
    """Makes a tensor of a list within TorchScript."""

    def forward(self, x):
        return x[:, [2, 1, 0]] * torch.tensor([1.0, 0.5, 1.0, 1.0], device=x.device)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning", "ignore:.*torch.jit.script:FutureWarning")
def test_lists_in_torchscript():
    """TorchScript fills memory without an operator: it is memory, and its values are known."""
    model = nn.Sequential(nn.Identity(), torch.jit.script(Literals()))
    field = sp.receptive_fields(model, (1, 3, 4, 4))[""]
    assert (field.exact, field.size) == (True, (1, 1))


SEGMENTS = {
    "lengths": {"lengths": torch.tensor([2, 0, 3])},
    "offsets": {"offsets": torch.tensor([0, 1, 5])},
    "all alike": {"lengths": torch.tensor([[2, 2]] * 5), "axis": 1},
    "not alike": {"lengths": torch.tensor([[2, 2]] * 4 + [[1, 3]]), "axis": 1},
}


@pytest.mark.parametrize("reduce", ["sum", "max"])
@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(name, reduce):
    """Each segment sees its own rows, as far as lengths or offsets are constants, and the same for all."""
    tensors = {key: value for key, value in SEGMENTS[name].items() if key != "axis"}
    axis = SEGMENTS[name].get("axis", 0)

    def segment(x, **given):
        return torch.segment_reduce(x.reshape(5, 4), reduce, axis=axis, **given)[None, None]

    field = compare_alone(Calls(segment, **tensors), (1, 1, 5, 4))
    assert field.exact is (name != "not alike")
    assert not field.unknown or field.unknown == ("aten::segment_reduce where values or rounding decide",)
    assert field.fallback is None
