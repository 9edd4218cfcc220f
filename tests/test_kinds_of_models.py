"""Models as libraries wrap, convert and run them: right results in every function, or an error that says what to do."""

from __future__ import annotations

import copy

import pytest
import stateful
import torch
import torch.distributed as dist
from kinds_of_models import IMAGES, KINDS, Codec, Kind, Octave, OctaveNet, Replicated, net, offload, scripted
from torch import nn
from torch.utils.checkpoint import checkpoint

import spatialprobe as sp
from spatialprobe.model.forward import called_by

pytestmark = pytest.mark.filterwarnings(  # torch says of itself what it will remove
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*:UserWarning:torch"
)


def values(records):
    plain = {name: records.calls(name)[0].tensor for name in records}
    return {name: (one.dequantize() if one.is_quantized else one).float() for name, one in plain.items()}


def probe(kind, model, layers, options, folder):
    with sp.Probe(model, layers, at="post_activation") as records, torch.no_grad(), kind.around():
        options.get("forward", lambda model, batch: model(batch))(model, kind.images)
    return values(records)


def capture(kind, model, layers, options, folder):
    model = called_by(model, options.get("forward"))
    with kind.around():
        return values(sp.capture(model, kind.images, layers=layers, missing="ignore"))


def plan(kind, model, layers, options, folder):
    with kind.around():
        found = sp.plan(called_by(model, options.get("forward")), kind.images, layers=layers)
    return {name: torch.tensor(found[name].shape) for name in found}


def sweep(kind, model, layers, options, folder):
    with kind.around():
        found = sp.sweep(model, kind.images, [sp.Moments], layers=layers, batch_size=2, progress=False, **options)
    return {name: torch.stack([found[name]["moments"].mean, found[name]["moments"].std]) for name in found}


def fields(kind, model, layers, options, folder):
    found = sp.receptive_fields(called_by(model, options.get("forward")), kind.images[:1], layers=layers)
    if model is kind.model:
        assert all(found[name].exact for name in found) is kind.exact
    return {name: torch.from_numpy(found[name].boxes()) for name in found}


def attribute(kind, model, layers, options, folder):
    with kind.around():
        found = sp.attribute(model, kind.images, 1, layers=layers, at="output", **options)
    return {name: found[name].channels for name in found}


def report(kind, model, layers, options, folder):
    with kind.around():
        found = sp.write_report(folder / "page.html", model, kind.images[:1], layers=layers, **options)
    return {name: torch.zeros(1) for name in found.layers}


FUNCTIONS = [probe, capture, plan, sweep, fields, attribute, report]


@pytest.fixture(autouse=True)
def _bits(monkeypatch):
    """Tensors on the meta device are compared by their shapes."""
    bits = stateful.bits
    monkeypatch.setattr(stateful, "bits", lambda one: (tuple(one.shape),) if one.is_meta else bits(one))


REFUSED = {("DataParallel", probe)}  # see below


@pytest.mark.parametrize("name", KINDS)
def test_equal_to_the_plain_model(name, tmp_path):
    """Every function has the plain model's results, and those that restore the model restore it."""
    kind = KINDS[name]()
    options = {} if kind.forward is None else {"forward": kind.forward}
    for function in FUNCTIONS:
        if (name, function) in REFUSED:
            continue
        before = stateful.everything(kind.model)
        found = function(kind, kind.model, kind.layers, options, tmp_path)
        after = stateful.everything(kind.model)
        if function not in (probe, capture):  # in these the model runs as its user has set it
            assert [key for key in before if not stateful.same(before[key], after[key])] == [], function
        twin = kind.geometry if function is fields and kind.geometry is not None else kind.twin
        wanted = function(kind, twin, kind.layers, {}, tmp_path)
        assert wanted
        assert {f"{kind.prefix}{layer}" for layer in wanted} == found.keys()
        for layer, value in wanted.items():
            other = found[f"{kind.prefix}{layer}"]
            torch.testing.assert_close(other, value, rtol=kind.tolerance, atol=kind.tolerance, msg=str(function))


@pytest.mark.parametrize("name", ["int8", "quantization-aware"])
def test_quantized_statistics(name):
    """A sweep's statistics are those of a plain loop over the model, whose observers go on changing."""
    kind = KINDS[name]()
    found = sp.sweep(kind.model, IMAGES, [sp.Moments], layers="last", batch_size=2, progress=False)
    taken = []
    kind.twin.last.register_forward_hook(lambda module, args, output: taken.append(output.dequantize()))
    with torch.no_grad():
        for part in IMAGES.split(2):
            kind.twin(part)
    expected = torch.cat(taken).double().mean((0, 2, 3))
    torch.testing.assert_close(found["last"]["moments"].mean, expected)


def test_quantized_values_have_no_gradients():
    """Attribution leaves layers of quantized values out, by name it is an error."""
    kind = KINDS["int8"]()
    assert "of torch.quint8" in sp.attribute(kind.model, IMAGES, 1, layers="*", at="output").left_out["conv"]
    with pytest.raises(sp.UnsupportedOutputError, match="'conv' returned a .* tensor of torch.quint8"):
        sp.attribute(kind.model, IMAGES, 1, layers="conv", at="output")


def test_replicas_are_named():
    """Replicas of DataParallel are not recorded, which is said, with what to do; what runs the model itself does it."""
    model = Replicated(net())
    with pytest.raises(sp.LayerNotRunError, match=r"Replicas ran, which nn.DataParallel .*`model.module`"):
        with sp.Probe(model):
            model(IMAGES)
    with sp.Probe(model, missing="ignore") as records:
        model(IMAGES)
    assert "Replicas ran" in records.left_out["0"]
    with sp.Probe(model.module) as records:
        model.module(IMAGES)
    assert list(records) == ["0", "2"]
    with pytest.raises(sp.LayerNotRunError, match="Replicas ran"), sp.Monitor(model.train(), [sp.Moments], every=1):
        model(IMAGES)


class Predictor:
    """A library that runs a copy of the model that it was given."""

    def __init__(self, model):
        self.model, self.ready = model, None

    def predict(self, images):
        self.ready = self.ready or copy.deepcopy(self.model)
        return self.ready(images)


def test_copies_are_found():
    """Where a copy of the model ran the error says how to find it; a probe of the copy records."""
    predictor = Predictor(Codec())
    with pytest.raises(sp.LayerNotRunError, match=r"1 other Codec is in memory.*gc.get_objects\(\)"):
        with sp.Probe(predictor.model):
            predictor.predict(IMAGES)
    with sp.Probe(predictor.ready) as records:
        predictor.predict(IMAGES)
    assert list(records) == ["encoder.0", "encoder.2"]


def test_scripted_parts():
    """A scripted part is left out by name where a pattern chose it, and an error by its name; so in every function."""
    model, chosen = scripted().model, lambda name, module: name in ("0", "4")
    left = [
        sp.capture(model, IMAGES, layers=chosen).left_out,
        sp.plan(model, IMAGES, layers=chosen).left_out,
        sp.sweep(model, IMAGES, [sp.Moments], layers=chosen, progress=False).left_out,
        sp.attribute(model, IMAGES, 1, layers=chosen, at="output").left_out,
        sp.receptive_fields(model, IMAGES, layers=chosen).missing,
    ]
    assert [list(one) for one in left] == [["4"]] * 5
    assert all("compiled to TorchScript, whose layers take no hooks" in one["4"] for one in left)
    assert sp.capture(model, IMAGES, layers=chosen, stop_early=True).output is None
    for layers in ("4", ["0", "4"]):
        with pytest.raises(sp.ArgumentError, match="Layer '4' is compiled to TorchScript"):
            sp.capture(model, IMAGES, layers=layers)


def test_lists_of_tensors():
    """A block that returns a list is left out with what it returned; `pick=` records one of its tensors."""
    model = OctaveNet()
    assert (
        "a list with [0] a tensor"
        in sp.sweep(model, IMAGES, [sp.Moments], layers="*", progress=False).left_out["block"]
    )
    record = sp.capture(model, IMAGES, layers=Octave, pick=lambda maps: maps[1])["block"]
    assert record.shape == (4, 4, 6, 6)


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return checkpoint(self.conv, x.requires_grad_(), use_reentrant=True).mean((2, 3))


def test_reentrant_checkpoints():
    """Within them torch has no gradients, which the error says, with what to do; ablation needs none."""
    with pytest.raises(sp.ProbeStateError, match="use_reentrant=False"):
        sp.attribute(Reentrant(), IMAGES, 1, at="output")
    assert sp.attribute(Reentrant(), IMAGES, 1, at="output", method="ablation")["conv"].channels.shape == (4, 4)


@pytest.fixture
def one_process():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_replicas_of_distributed_training(one_process, tmp_path):
    """A model in DistributedDataParallel has the results of the one inside, in every function."""
    kind = Kind(nn.parallel.DistributedDataParallel(net()), net())
    for function in FUNCTIONS:
        found, wanted = (function(kind, one, nn.Conv2d, {}, tmp_path) for one in (kind.model, kind.twin))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[layer], wanted[layer]) for layer in wanted)


def test_sharded_weights(one_process, tmp_path):
    """A model sharded by FSDP is recorded; what would swap or restore its weights refuses, and leaves it as it is."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    device = torch.device("cpu")
    model = FullyShardedDataParallel(net(), device_id=device)
    expected = net()(IMAGES)
    kind = Kind(model, net())
    for function in (probe, capture):
        found, wanted = (function(kind, one, nn.Conv2d, {}, tmp_path) for one in (model, kind.twin))
        assert all(torch.equal(found[layer], wanted[layer]) for layer in wanted)
    for function in (plan, sweep, fields, attribute, report):
        with pytest.raises(sp.ArgumentError, match="sharded over processes"):
            function(kind, model, nn.Conv2d, {}, tmp_path)
    assert torch.equal(model(IMAGES), expected)


class Reading(nn.Module):
    """A model that reads a value of its input."""

    def __init__(self):
        super().__init__()
        self.body = net()

    def forward(self, x):
        return self.body(-x if float(x.mean()) > 100 else x)


def test_offloaded_models_that_read_values():
    """They run with the weights that are loaded, where others run on tensors without values."""
    model, twin = Reading(), Reading()
    offload(model.body)
    assert repr(sp.plan(model, IMAGES)) == repr(sp.plan(twin, IMAGES))
    found, wanted = (sp.receptive_fields(one, IMAGES, layers=nn.Conv2d) for one in (model, twin))
    for layer in wanted:
        assert (found[layer].boxes() == wanted[layer].boxes()).all()
    assert all(weight.is_meta for weight in model.parameters())


def test_meta_weights_that_nothing_loads():
    """A model on the meta device is still refused by what needs values."""
    with pytest.raises(sp.ArgumentError, match="on the meta device"):
        sp.sweep(net().to("meta"), IMAGES, [sp.Moments], progress=False)
