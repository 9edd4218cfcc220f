"""Which part of a batch a model takes, and that it is given copies of all of it."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict
from types import MappingProxyType

import pytest
import torch
from torch import nn

from spatialprobe.model.batch import BatchReader
from spatialprobe.model.forward import CalledBy, run_model
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.select import all_layers, model_name


@dataclasses.dataclass(frozen=True)
class Frozen:
    image: torch.Tensor
    label: int = 0


CONTAINERS = {
    "dict": lambda x: {"image": x},
    "ordered": lambda x: OrderedDict(image=x),
    "user's": lambda x: UserDict(image=[x]),
    "read-only": lambda x: MappingProxyType({"image": x}),
    "dataclass": lambda x: Frozen(x),
    "nested": lambda x: ([UserDict(image=Frozen(x))], "text", None),
}


def tensor_in(value):
    """The one tensor in a nested value, found by hand."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Frozen):
        return value.image
    if isinstance(value, (tuple, list)):
        return tensor_in(value[0])
    return tensor_in(value["image"])


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_copies_in_every_container(container):
    """Whatever holds a tensor, the copy holds another of the same values, and the original stays as it is."""
    given = torch.rand(2, 3)
    before = container(given)
    made = copy_inputs(before)
    assert type(made) is (dict if isinstance(before, MappingProxyType) else type(before))
    assert tensor_in(made) is not given
    assert torch.equal(tensor_in(made), given)
    tensor_in(made).add_(1)
    assert tensor_in(before) is given


def test_wrapper_is_not_seen():
    """Layers of a model that a function calls keep their names, and the model its own."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    wrapped = CalledBy(model, lambda model, batch: model(batch["x"]))
    assert [layer.name for layer in all_layers(wrapped)] == ["", "0"]
    assert model_name(wrapped) == "Sequential"
    assert run_model(wrapped, {"x": torch.zeros(2, 1, 3, 3)}).shape == (2, 1, 3, 3)


def test_counts():
    """Samples are counted along the first axis of the first tensor, or as images or samples of a list."""
    reader = BatchReader.of(nn.Conv2d(3, 4, 3), lambda model, batch: None)
    image = torch.zeros(3, 8, 8)
    assert reader.count({"step": torch.tensor(3), "x": torch.zeros(5, 3, 8, 8)}) == 5
    assert reader.count(([image] * 4, [1, 2, 3, 4])) == 4
    assert reader.count([{"image": image}, {"image": image}]) == 2
    assert reader.count([{"image": torch.zeros(6, 3, 8, 8)}, {"mask": torch.zeros(6, 8, 8)}]) == 6
