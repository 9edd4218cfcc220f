"""Models that hold any kind of tensor, in a buffer or in a plain attribute, are run and restored like others."""

from contextlib import suppress
from functools import cache

import numpy as np
import pytest
import torch
from odd_tensors import IMAGES, KINDS
from torch import nn

import spatialprobe as sp

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore:.*uantized tensor.*:UserWarning", "ignore:.*uantize_per_tensor.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support:UserWarning", "ignore:Sparse .* tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*beta state:UserWarning", "ignore:Sparse invariant checks:UserWarning"),
]
HELD = sorted(set(KINDS) - {"meta", "parameter"})


class Holder(nn.Module):
    """A model that holds a tensor, and may modify it in every forward."""

    def __init__(self, held=None, *, as_buffer=True, spoil=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(4, 3, 3)
        if as_buffer:
            self.register_buffer("held", held)
        else:
            self.held = held
        self.spoil = spoil

    def forward(self, x):
        if self.spoil is not None:
            self.spoil(self.held)
        return self.conv(x)


def swept(model, folder):
    return sp.sweep(model, IMAGES, {"moments": sp.Moments}, progress=False)["conv"]["moments"].mean


def continued(model, folder):
    for _ in range(2):
        found = sp.sweep(model, IMAGES, {"moments": sp.Moments}, progress=False, checkpoint=folder / "state")
    return found["conv"]["moments"].mean


RUNS = {
    "sweep": swept,
    "checkpoint": continued,
    "plan": lambda model, folder: sp.plan(model, IMAGES)["conv"].nbytes,
    "fields": lambda model, folder: sp.receptive_fields(model, IMAGES, layers="conv")["conv"].boxes(),
    "effective": lambda model, folder: sp.effective_receptive_field(model, IMAGES, "conv").map,
    "footprint": lambda model, folder: sp.evidence.footprint(model, IMAGES, "conv", (2, 2), draws=1).changed,
    "gradients": lambda model, folder: sp.capture(model, IMAGES, gradients=True)["conv"].numpy(),
    "page": lambda model, folder: sp.write_report(folder / "page.html", model, IMAGES).layers,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a function that returns the result of a run of the model without the tensor; each is computed once."""
    return cache(lambda run: RUNS[run](Holder(), tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("as_buffer", [True, False], ids=["buffer", "attribute"])
@pytest.mark.parametrize("name", HELD)
def test_models_that_hold_odd_tensors(name, as_buffer, run, plain, tmp_path):
    """Results are those of the same model without the tensor, and the model still holds the tensor."""
    held = KINDS[name].make(IMAGES).detach()
    model = Holder(held, as_buffer=as_buffer)
    np.testing.assert_array_equal(RUNS[run](model, tmp_path), plain(run))
    assert model.held is held


@pytest.mark.parametrize("name", HELD)
def test_checkpoint_knows_their_values(name, tmp_path):
    """A checkpoint of a model that holds other values is refused."""
    kind, path = KINDS[name], tmp_path / "state"
    sp.sweep(Holder(kind.make(IMAGES).detach()), IMAGES, {"dead": sp.Dead}, progress=False, checkpoint=path)
    other = kind.make(IMAGES.flip(0) + 1).detach()
    if kind.values is not None and np.array_equal(kind.values(IMAGES.numpy()), kind.values(IMAGES.flip(0).numpy() + 1)):
        return
    with pytest.raises(sp.StorageError, match="weights|model"):
        sp.sweep(Holder(other), IMAGES, {"dead": sp.Dead}, progress=False, checkpoint=path)


@pytest.mark.parametrize("run", ["sweep", "footprint", "page"])
@pytest.mark.parametrize("as_buffer", [True, False], ids=["buffer", "attribute"])
@pytest.mark.parametrize("name", sorted(name for name in HELD if KINDS[name].values is not None))
def test_odd_tensors_get_their_values_back(name, as_buffer, run, tmp_path):
    """Changes by a forward pass to the tensor and its inner tensors are undone, also when the call raises."""
    kind = KINDS[name]
    tensor = kind.make(IMAGES.clone()).detach()
    refused = () if run == "sweep" else (sp.ForwardError,)
    with suppress(*refused):
        RUNS[run](Holder(tensor, as_buffer=as_buffer, spoil=kind.spoil), tmp_path)
    np.testing.assert_allclose(held_by(tensor), kind.values(IMAGES.numpy()), atol=1e-6 * kind.approximate)


def held_by(tensor):
    """Return the values of a tensor, read by torch's own functions for its kind."""
    if tensor.is_quantized:
        return tensor.dequantize().numpy()
    dense = (tensor if tensor.layout is torch.strided else tensor.to_dense()).as_subclass(torch.Tensor)
    if dense.dtype is torch.complex32:
        dense = dense.to(torch.complex64)
    elif dense.dtype is torch.bfloat16 or (dense.dtype.itemsize == 1 and dense.is_floating_point()):
        dense = dense.float()
    return dense.numpy(force=True)
