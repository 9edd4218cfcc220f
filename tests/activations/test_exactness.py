"""Exactness: sharing without copies is never wrong, whatever the model writes over."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from zoo import CONVOLUTIONS, ZOO

import spatialprobe as sp

NORMS = (nn.BatchNorm2d, *CONVOLUTIONS)
TORCHVISION = ["vgg11", "densenet121", "mobilenet_v2", "resnet18"]


def clones(model, images, kinds):
    """Every output of every such layer, cloned in hooks of the test's own, in order of execution."""
    outputs = []
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output.detach().clone())))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return outputs


class Writes(nn.Module):
    """A conv whose output is handed to a function that may write over it."""

    def __init__(self, write=lambda y: y):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.write = write

    def forward(self, x):
        y = self.conv(x)
        self.write(y)
        return y.sum()


IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
WRITES = {
    "relu_": lambda y: y.relu_(),
    "functional": lambda y: F.relu(y, inplace=True),
    "+=": lambda y: y.__iadd__(1),
    "through a view": lambda y: y.view(-1)[3:5].zero_(),
    "index": lambda y: y.__setitem__((0, 0), 7.0),
    "out=": lambda y: torch.add(y, 1, out=y),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_models_over_several_passes(name):
    """Convs and batch norms of models that write in place equal clones, in the first pass and when sharing."""
    model = torchvision.models.get_model(name, weights=None).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = clones(model, images, NORMS)
        with sp.Probe(model, NORMS) as probe:
            for _ in range(3):
                model(images)
    assert [record.layer for record in probe.records] == 3 * [layer for layer, _ in expected]
    for record, (_, tensor) in zip(probe.records, 3 * expected, strict=True):
        assert torch.equal(record.tensor, tensor)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("how", ["auto", "always"])
def test_zoo_over_several_passes(name, mode, how):
    """Every pass of every model is recorded exactly, with and without gradients."""
    model, images = ZOO[name].model(), ZOO[name].images()
    with mode():
        expected = clones(model, images, CONVOLUTIONS)
        with sp.Probe(model, CONVOLUTIONS, copy=how) as probe:
            for _ in range(3):
                model(images)
    for record, (_, tensor) in zip(probe.records, 3 * expected, strict=True):
        assert torch.equal(record.tensor, tensor)


def shares(record, output):
    return record.tensor.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()


def test_sharing_is_learnt():
    """The first pass copies; what it left untouched is shared from then on, also when the probe is entered again."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    outputs = []
    model.conv1.register_forward_hook(lambda module, args, output: outputs.append(output))
    probe = sp.Probe(model)
    for _ in range(2):
        with probe, torch.no_grad():
            model(images)
            model(images)
        assert shares(probe["conv1", 1], outputs[-1])
    assert not shares(sp_first(model, images, outputs), outputs[-1])
    assert probe._guards["conv2"].overwritten


def sp_first(model, images, outputs):
    with sp.Probe(model, "conv1") as probe:
        model(images)
    return probe["conv1"]


@pytest.mark.parametrize("name", WRITES)
def test_model_that_begins_to_write_later(name):
    """The pass in which a model first writes over a shared output is an error; from then on it is copied."""
    model = Writes()
    with torch.no_grad(), sp.Probe(model) as probe:
        model(IMAGES)
        model(IMAGES)
        expected = probe["conv", 1].tensor.clone()
        model.write = WRITES[name]
        model(IMAGES)
        model(IMAGES)
    assert torch.equal(probe["conv", 0].tensor, expected)
    assert torch.equal(probe["conv", 3].tensor, expected)
    with pytest.raises(sp.MutatedActivationError, match="layer 'conv' shared its memory .* copy='always'"):
        _ = probe["conv", 2].tensor
    assert probe["conv", 2].shape == (2, 2, 4, 4)


@pytest.mark.parametrize("name", WRITES)
def test_never_copying_never_lies(name):
    """With copy="never" an overwritten record is an error, and an untouched one is right."""
    for write, wrong in ((WRITES[name], True), (lambda y: y, False)):
        model = Writes(write)
        with torch.no_grad(), sp.Probe(model, copy="never") as probe:
            model(IMAGES)
        if wrong:
            with pytest.raises(sp.MutatedActivationError, match="Pass copy='auto'"):
                _ = probe["conv"].tensor
        else:
            assert torch.equal(probe["conv"].tensor, model.conv(IMAGES))


@pytest.mark.parametrize("how", ["auto", "never"])
def test_inference_mode_always_copies(how):
    """Without version counters every value is copied, and right."""
    model = Writes(lambda y: y.relu_())
    with torch.inference_mode(), sp.Probe(model, copy=how) as probe:
        model(IMAGES)
        model(IMAGES)
    for record in probe.records:
        assert torch.equal(record.tensor, model.conv(IMAGES))


def test_write_after_the_block():
    """A shared record that the user writes over after the block is an error when read, and copied next time."""
    conv = nn.Conv2d(1, 2, 3)
    probe = sp.Probe(conv)
    with torch.no_grad(), probe:
        conv(IMAGES)
        output = conv(IMAGES)
    output.zero_()
    with pytest.raises(sp.MutatedActivationError):
        probe["", 1].numpy()
    with torch.no_grad(), probe:
        output = conv(IMAGES)
    output.zero_()
    assert probe[""].tensor.abs().sum() > 0


def test_pass_that_raises_teaches_nothing():
    """A forward that did not end cannot show that an output is left alone."""
    model, images = ZOO["in-place"].model(), ZOO["in-place"].images()
    handle = model.norm2.register_forward_pre_hook(lambda *_: 1 / 0)
    with sp.Probe(model, "norm1") as probe, torch.no_grad():
        with pytest.raises(ZeroDivisionError):
            model(images)
    assert probe._guards["norm1"].overwritten is True  # by relu_, before the error
    handle.remove()
    with sp.Probe(model, "conv1", missing="ignore") as probe, torch.no_grad():
        model.norm1.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(images)
    assert probe._guards["conv1"].overwritten is None


def test_hook_added_inside_the_block_is_seen():
    """A hook that the user adds after entering, and that changes the output, comes before the probe's."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with torch.no_grad(), sp.Probe(model, "conv1") as probe:
        model(images)
        handle = model.conv1.register_forward_hook(lambda module, args, output: output * 3)
        model(images)
        handle.remove()
    assert torch.equal(probe["conv1", 1].tensor, 3 * probe["conv1", 0].tensor)


def test_copied_records_stand_alone():
    """A record can be deep-copied and pickled, shared or not; the copy holds its own values."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with torch.no_grad(), sp.Probe(model, "conv1") as probe:
        model(images)
        model(images)
    for record in probe.records:
        for twin in (copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
            assert torch.equal(twin.tensor, record.tensor)
            assert (twin.layer, twin.conv, twin.call) == (record.layer, record.conv, record.call)


def test_copied_model_is_free_of_the_probe():
    """A model copied or pickled inside the block works, and its forwards are not recorded."""
    model, images = ZOO["strided"].model(), ZOO["strided"].images()
    with sp.Probe(model) as probe:
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(ZOO["strided"].model()))):
            twin(images)
        assert len(probe.records) == 0
        model(images)
    assert len(probe.records) == 2
