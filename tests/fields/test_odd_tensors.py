"""Receptive fields of models that run on tensors without one storage: sparse, mkldnn, nested, wrapper subclasses."""

from __future__ import annotations

import pytest
import torch
from odd_tensors import IMAGES, KINDS, Odd, Wrapper
from torch import nn

import spatialprobe as sp

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*uantized tensor.*:UserWarning", "ignore:.*uantize_per_tensor.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support:UserWarning", "ignore:Sparse .* tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*beta state:UserWarning", "ignore:Sparse invariant checks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated"),
]
EYE = torch.eye(14)


class TwoConvolutions(nn.Module):
    """Something between two convolutions."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 2, 3)
        self.between = Odd(between)
        self.last = nn.Conv2d(2, 1, 3)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


def rows(x):
    """The rows of all channels of one image of 14 x 14."""
    return x.reshape(28, 14)


def padded(x):
    """An image by way of a nested tensor."""
    return torch.nested.to_padded_tensor(torch.nested.as_nested_tensor([x[0], x[0]]), 0.0)[:1]


BETWEEN = {
    "mkldnn": lambda x: torch.relu(x.to_mkldnn()).to_dense(),
    "COO": lambda x: torch.relu(x.to_sparse()).to_dense(),
    "COO of rows": lambda x: torch.sparse.mm(rows(x).to_sparse(), EYE).reshape(x.shape),
    "COO, softmax": lambda x: torch.sparse.softmax(x.to_sparse(), 3).to_dense(),
    "CSR": lambda x: rows(x).to_sparse_csr().to_dense().reshape(x.shape),
    "CSR of a constant": lambda x: (rows(x) @ EYE.to_sparse_csr()).reshape(x.shape),
    "COO of a constant": lambda x: torch.sparse.mm(EYE.to_sparse(), rows(x).T).T.reshape(x.shape),
    "an index of values": lambda x: x[:, :, x.to_sparse().coalesce().indices()[2, :14] % 14],
    "a sum of values": lambda x: x + x.to_sparse().coalesce().values().sum(),
    "nested": padded,
    "wrapper": lambda x: (Wrapper(x.detach()) * 2).inside,
    "zero tensor": lambda x: x + torch._efficientzerotensor(x.shape).sum() + x.to_sparse().to_dense(),
}


def changed_by(model, inputs, unit):
    """The rows and columns of all pixels that change a unit, tried one by one."""
    with torch.no_grad():
        before = model(inputs)[0, 0][unit]
        found = []
        for row in range(inputs.shape[2]):
            for column in range(inputs.shape[3]):
                other = inputs.clone()
                other[0, 0, row, column] += 3
                if model(other)[0, 0][unit] != before:
                    found.append((row, column))
    return found


@pytest.mark.parametrize("between", BETWEEN)
def test_the_box_holds_what_a_unit_sees(between):
    """Whatever lies between, no pixel that changes a unit is outside its box, which is called exact by none."""
    torch.manual_seed(1)
    model, images = TwoConvolutions(BETWEEN[between]).eval(), torch.randn(1, 1, 16, 16)
    changed = changed_by(model, images, (2, 3))
    for inputs in ((1, 1, 16, 16), images):
        fields = sp.receptive_fields(model, inputs, layers=nn.Conv2d)
        assert fields["first"].exact
        assert fields["first"].size == (3, 3)
        field = fields["last"]
        assert not field.exact
        assert any("tensors" in name for name in field.unknown)
        assert "rror: " in field.fallback
        box = field.box(2, 3)
        for row, column in changed:
            assert box.start[0] <= row < box.stop[0]
            assert box.start[1] <= column < box.stop[1]


def test_modules_of_mkldnn():
    """A part that torch has converted to mkldnn, weights included, is no fault of the model."""
    from torch.utils import mkldnn  # whose attributes script classes when they are looked at

    part = mkldnn.to_mkldnn(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()).eval())
    model = TwoConvolutions(lambda x: model.part(x.to_mkldnn()).to_dense())
    model.part = part
    field = sp.receptive_fields(model, (1, 1, 16, 16), layers="last")["last"]
    assert (field.size, field.exact) == ((16, 16), False)


class Adds(nn.Module):
    """A convolution of an image and a dense copy of a buffer."""

    def __init__(self, held):
        super().__init__()
        self.register_buffer("held", held)
        self.conv = nn.Conv2d(4, 2, 3)

    def forward(self, x):
        held = self.held if self.held.layout is torch.strided else self.held.to_dense()
        return self.conv(x + held)


@pytest.mark.parametrize("name", ["COO", "COO, uncoalesced", "COO, hybrid", "mkldnn", "zero tensor", "negative"])
def test_constants_of_odd_kinds_hide_nothing(name):
    """A buffer of any kind of tensor is a constant as a dense one is: what is computed with it is exact."""
    field = sp.receptive_fields(Adds(KINDS[name].make(IMAGES)), tuple(IMAGES.shape), layers="conv")["conv"]
    assert (field.size, field.exact, field.unknown) == ((3, 3), True, ())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_output(name):
    """A layer of any kind of tensor has a field that holds the convolution before it, or an error of this library."""
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Odd(KINDS[name].make))
    if name in ("nested", "jagged"):
        with pytest.raises(sp.UnsupportedOutputError, match="'1': it returns a nested tensor"):
            sp.receptive_fields(model, IMAGES, layers="1")["1"]
        return
    field = sp.receptive_fields(model, IMAGES, layers="1")["1"]
    if 0 in KINDS[name].make(IMAGES).shape or name == "zero tensor":
        return
    assert all(size >= 3 for size in field.size)


@pytest.mark.parametrize("name", ["COO", "CSR", "mkldnn", "nested", "jagged", "no samples"])
def test_inputs_without_pixels(name):
    """An input without a grid of pixels is refused before the model is blamed."""
    with pytest.raises(sp.ArgumentError, match=r"whose pixels cannot be followed. Pass a dense one|holds nothing"):
        sp.receptive_fields(TwoConvolutions(lambda x: x), KINDS[name].make(IMAGES))
