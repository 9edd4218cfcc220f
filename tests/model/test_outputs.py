"""What a layer returned is described whatever it is made of."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils import _pytree

import spatialprobe as sp
from spatialprobe.model.outputs import describe_leaves

TENSOR = torch.zeros(2, 3)


class Registered(OrderedDict):
    """An output as diffusers has them: registered as a pytree, without the keys of its entries."""


_pytree.register_pytree_node(Registered, lambda value: (list(value.values()), list(value)), lambda parts, keys: None)


class Opaque:
    """An output that torch knows how to take apart, but not by name."""

    def __init__(self, tensor):
        self.tensor = tensor


_pytree.register_pytree_node(Opaque, lambda value: ([value.tensor], None), lambda parts, context: None)


@dataclass
class Decoded:
    """An output that torch does not take apart."""

    sample: torch.Tensor
    note: str = "no tensor"


Pair = namedtuple("Pair", "mean std")


class Returns(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Registered(sample=TENSOR), "a Registered with ['sample'] a tensor (2, 3)"),
        (Opaque(TENSOR), "an Opaque"),
        (Decoded(TENSOR), "a Decoded with .sample a tensor (2, 3), .note a str"),
        (Pair(TENSOR, 3), "a Pair with .mean a tensor (2, 3), .std an int"),
        ({"a": [TENSOR, None]}, "a dict with ['a'][0] a tensor (2, 3), ['a'][1] a NoneType"),
        ([], "a list with no leaves"),
        (5, "an int"),
    ],
)
def test_outputs_that_are_no_tensor(output, expected):
    """A layer that returns something else than a tensor is refused with its leaves, however it is made."""
    assert describe_leaves(output) == expected
    with pytest.raises(sp.UnsupportedOutputError) as caught:
        sp.capture(nn.Sequential(Returns(output)), TENSOR, layers="0")
    assert f"returned no single tensor but {expected}." in str(caught.value)


def test_picking_from_them():
    """What is picked from such an output is recorded, and what is no tensor is refused with the leaves."""
    model = nn.Sequential(Returns(Registered(sample=TENSOR)))
    assert sp.capture(model, TENSOR, layers="0", pick=lambda output: output["sample"])["0"].shape == (2, 3)
    with pytest.raises(sp.UnsupportedOutputError, match=r"returned an int.*\['sample'\] a tensor \(2, 3\)"):
        sp.capture(model, TENSOR, layers="0", pick=lambda output: 3)


def test_messages_stay_short():
    """Of many leaves some are shown; an output that holds itself does not end in a recursion."""
    assert describe_leaves(TENSOR) == "a tensor (2, 3)"
    assert describe_leaves([TENSOR] * 1000).count("tensor") == 12
    loop = []
    loop.append(loop)
    assert describe_leaves(loop).endswith("a list")
    assert len(describe_leaves({"key" * 1000: TENSOR})) < 100
