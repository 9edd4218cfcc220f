"""The probe: records equal the truth, runs are kept apart, and the model is left as it was."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from zoo import CONVOLUTIONS, ZOO

import spatialprobe as sp


def truth(model, images, kinds=CONVOLUTIONS):
    """Every output of every such layer, cloned by hooks of the test's own, by name in order of execution."""
    outputs = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: outputs.setdefault(name, []).append(output.detach().clone())
        )
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return outputs


def state_of(model):
    """All that a probe could have changed, in a form that can be compared."""
    return [
        (
            name,
            sorted(vars(module)),
            [list(hooks.items()) for key, hooks in sorted(vars(module).items()) if key.endswith("_hooks")],
            [list(hooks) for key, hooks in sorted(vars(module).items()) if "hooks_" in key],
            module.training,
        )
        for name, module in model.named_modules()
    ] + [
        (name, value.requires_grad, value.clone().tolist()) for name, value in model.state_dict(keep_vars=True).items()
    ]


@pytest.mark.parametrize("name", ZOO)
def test_records_equal_the_truth(name):
    """Every run of every convolution is recorded bit for bit, whatever the model does with it afterwards."""
    model, images = ZOO[name].model(), ZOO[name].images()
    expected = truth(model, images)
    with torch.no_grad(), sp.Probe(model, CONVOLUTIONS) as probe:
        model(images)
    assert list(probe) == list(expected)
    for layer, tensors in expected.items():
        runs = probe.calls(layer)
        assert [run.call for run in runs] == list(range(len(tensors)))
        for run, tensor in zip(runs, tensors, strict=True):
            assert torch.equal(run.tensor, tensor)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("at", ["output", "post_activation"])
def test_model_is_as_it_was(name, at):
    """Hooks, attributes, modes, parameters and buffers are the same after the block, and the output too."""
    model, images = ZOO[name].model(), ZOO[name].images()
    before, expected, random_state = state_of(model), model(images), torch.random.get_rng_state()
    with sp.Probe(model, CONVOLUTIONS, at=at, missing="ignore"):
        output = model(images)
    assert state_of(model) == before
    assert torch.equal(output, expected)
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_user_hooks_survive_and_are_seen():
    """A user's own hooks stay in place, and the record is what they made of the output."""
    model = ZOO["chain"].model()
    model.conv1.register_forward_hook(lambda module, args, output: output * 2)
    before = state_of(model)
    with sp.Probe(model, "conv1") as probe:
        model(ZOO["chain"].images())
    doubled = 2 * model.conv1._conv_forward(ZOO["chain"].images(), model.conv1.weight, model.conv1.bias)
    assert torch.equal(probe["conv1"].tensor, doubled)
    assert state_of(model) == before


class Boom(Exception):
    """An exception that only the test knows."""


def test_exception_in_the_block_passes_through():
    """The user's exception is not swallowed or replaced, though no layer ran; hooks are gone."""
    model = ZOO["chain"].model()
    before = state_of(model)
    with pytest.raises(Boom), sp.Probe(model):
        raise Boom
    assert state_of(model) == before


@pytest.mark.parametrize("at", ["output", "post_activation"])
@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt])
def test_exception_in_the_model(at, kind):
    """A model that raises half-way leaves the records so far, no hooks, and no mode behind."""
    model = ZOO["chain"].model()

    def fail(*_):
        raise kind

    model.conv2.register_forward_pre_hook(fail)
    before = state_of(model)
    with pytest.raises(kind), sp.Probe(model, at=at) as probe:
        model(ZOO["chain"].images())
    assert list(probe) == ["conv1"]
    assert state_of(model) == before
    assert torch.overrides._get_current_function_mode_stack() == []


def test_hooks_go_on_all_or_none(monkeypatch):
    """If one hook cannot be attached, those before it are taken off again."""
    model = ZOO["chain"].model()
    before = state_of(model)

    def refuse(*_, **__):
        raise Boom

    monkeypatch.setattr(type(model.relu2), "register_forward_hook", refuse)
    with pytest.raises(Boom):
        sp.Probe(model, [nn.Conv2d, "relu2"]).__enter__()
    assert state_of(model) == before


def test_runs_and_forwards_are_kept_apart():
    """`forward` counts the model's forwards, `call` the layer's runs within one, `order` all records."""
    model, images = ZOO["shared"].model(), ZOO["shared"].images()
    with sp.Probe(model) as probe:
        model(images)
        model(images)
    assert [(r.layer, r.forward, r.call, r.order) for r in probe.records] == [
        ("conv", 0, 0, 0),
        ("conv", 0, 1, 1),
        ("conv", 1, 0, 2),
        ("conv", 1, 1, 3),
    ]
    assert probe["conv", 2] is probe.calls("conv")[2]
    assert torch.equal(probe["again", 3].tensor, probe["conv", -1].tensor)
    assert probe.concatenated("conv").shape == (8, 3, 8, 8)


def test_ambiguous_call():
    """One record of a layer that ran twice is not guessed; the error says how to choose."""
    model = ZOO["shared"].model()
    with sp.Probe(model) as probe:
        model(ZOO["shared"].images())
    for lookup in (lambda: probe["conv"], lambda: probe.get("conv"), lambda: list(probe.values())):
        with pytest.raises(sp.AmbiguousCallError, match=r"probe\['conv', i\].*calls.*concatenated"):
            lookup()
    assert "conv" in probe
    assert len(probe) == 1


def test_layer_that_did_not_run():
    """A layer that never ran is an error at the end, a warning, or left out, as the user says or chose it."""
    model = ZOO["chain"].model()
    images = ZOO["chain"].images()
    with (
        pytest.raises(sp.LayerNotRunError, match="never ran inside the block: 'conv2'"),
        sp.Probe(model, missing="error") as probe,
    ):
        model.conv1(images)
    assert list(probe) == ["conv1"]
    for exact in (["conv1", "conv2"], [model.conv1, model.conv2]):
        with pytest.raises(sp.LayerNotRunError, match="'conv2'"), sp.Probe(model, exact):
            model.conv1(images)
    for pattern in (nn.Conv2d, "conv*", lambda name, module: name.startswith("conv")):
        with sp.Probe(model, pattern) as probe:
            model.conv1(images)
            assert not probe.left_out  # the block has not ended
        assert dict(probe.left_out) == {"conv2": "It did not run inside the block."}
        assert "Left out: conv2; .left_out says why." in repr(probe)
        assert "Left out: conv2" in probe._repr_html_()
    for missing in (None, "warn", "error"):
        with pytest.raises(sp.LayerNotRunError, match="'conv1', 'conv2'"), sp.Probe(model, missing=missing):
            pass
    with pytest.warns(UserWarning, match="'conv2'"), sp.Probe(model, missing="warn"):
        model.conv1(images)
    with sp.Probe(model, missing="ignore") as probe:
        model.conv1(images)
    assert probe.get("conv2") is None
    assert "conv2" not in probe
    with pytest.raises(sp.LayerNotRunError, match="has not run inside the block"):
        probe["conv2"]
    with pytest.raises(sp.LayerNotRunError, match="there is no run 1"):
        probe["conv1", 1]


def test_lookup_of_other_names():
    """Names that are not watched are told apart from names that do not exist."""
    model = ZOO["chain"].model()
    with sp.Probe(model) as probe:
        model(ZOO["chain"].images())
    with pytest.raises(sp.LayerNotFoundError, match="'relu1' is in the model, but this probe does not watch it"):
        probe["relu1"]
    with pytest.raises(sp.LayerNotFoundError, match="No layer named 'conv3'. Did you mean"):
        probe["conv3"]
    assert probe.get("conv3") is None
    assert 3 not in probe


def test_entering_again_starts_afresh():
    """A second block has only its own records; an active probe cannot be entered."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    probe = sp.Probe(model)
    for _ in range(2):
        with probe:
            model(images)
            with pytest.raises(sp.ProbeStateError, match="already active"), probe:
                pass
    assert len(probe.records) == 2


def test_probes_nest_and_overlap():
    """Each probe records what ran while it was active, whatever the others do."""
    model, images = ZOO["functional"].model(), ZOO["functional"].images()
    outer, inner = sp.Probe(model, at="post_activation"), sp.Probe(model, "conv1", at="post_activation")
    outer.__enter__()
    model(images)
    inner.__enter__()
    model(images)
    outer.__exit__(None, None, None)
    model(images)
    inner.__exit__(None, None, None)
    assert [len(outer.calls(name)) for name in ("conv1", "conv2")] == [2, 2]
    assert len(inner.records) == 2
    assert torch.equal(outer["conv1", 0].tensor, inner["conv1", 1].tensor)


def test_output_that_is_not_a_tensor():
    """Without `output=` the error lists what the layer returned; with it, the chosen tensor is recorded."""
    model, images = ZOO["tuple"].model(), ZOO["tuple"].images()
    with pytest.raises(sp.UnsupportedOutputError) as caught, sp.Probe(model, "block"):
        model(images)
    assert str(caught.value) == (
        "Layer 'block' (Block) returned no single tensor but a tuple with [0] a tensor (2, 4, 4, 4), "
        "[1]['mean'] a tensor (2, 4), [1]['note'] a str. "
        "Pass pick= to a probe, such as pick=lambda out: out[0]; elsewhere choose other layers."
    )
    with sp.Probe(model, "block", pick=lambda out: out[1]["mean"]) as probe:
        model(images)
    assert probe["block"].shape == (2, 4)
    with (
        pytest.raises(sp.UnsupportedOutputError, match="pick= returned a str for layer 'block'"),
        sp.Probe(model, "block", pick=lambda out: out[1]["note"]),
    ):
        model(images)


def test_other_threads_are_not_recorded():
    """A forward pass of another thread leaves no record."""
    from threading import Thread

    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with sp.Probe(model, missing="ignore") as probe:
        thread = Thread(target=lambda: model(images))
        thread.start()
        thread.join()
        assert len(probe.records) == 0
        model(images)
    assert len(probe.records) == 2


def test_training_goes_on_as_without_a_probe():
    """Training inside a probe gives bit for bit the weights of training without."""
    reference, probed = ZOO["residual"].model().train(), ZOO["residual"].model().train()
    images = ZOO["residual"].images()
    for model, manager in ((reference, nullcontext()), (probed, sp.Probe(probed))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with manager:
            for _ in range(3):
                optimizer.zero_grad()
                model(images).square().mean().backward()
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), probed.parameters(), strict=True))


def test_record_fields():
    """A record carries the layer's type and geometry, and can be read as a numpy array."""
    model = ZOO["strided"].model()
    with sp.Probe(model, "2") as probe:
        model(ZOO["strided"].images())
    record = probe["2"]
    assert record.module_type == "Conv2d"
    assert record.conv == sp.ConvSpec((3, 3), (2, 2), (1, 1), (1, 1), 1, False)
    assert record.nbytes == record.numpy().nbytes
    assert not record.tensor.requires_grad
    assert np.array_equal(np.asarray(record), record.tensor.numpy())
    assert np.asarray(record, dtype=np.float64).dtype == np.float64
    with pytest.raises(AttributeError):
        record.layer = "other"


def test_bfloat16_as_numpy():
    """bfloat16, which numpy lacks, is widened without loss."""
    conv = nn.Conv2d(1, 1, 1).bfloat16()
    with sp.Probe(conv) as probe:
        conv(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16))
    assert probe[""].dtype == torch.bfloat16
    assert torch.equal(torch.from_numpy(probe[""].numpy()), probe[""].tensor.float())


def test_model_can_be_copied_while_probed():
    """The hooks do not stop a model from being deep-copied, and the copy's forwards are not recorded."""
    model, images = ZOO["chain"].model(), ZOO["chain"].images()
    with sp.Probe(model) as probe:
        model(images)
        copy.deepcopy(ZOO["chain"].model())(images)
    assert len(probe.records) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "input"}, "at must be one of 'output', 'post_activation', not 'input'"),
        ({"missing": "raise"}, "missing must be one of"),
    ],
)
def test_bad_options(options, message):
    """An unknown option is refused with the known ones."""
    with pytest.raises(sp.ArgumentError, match=message):
        sp.Probe(ZOO["chain"].model(), **options)


def test_bad_model():
    """What is no module is refused."""
    with pytest.raises(sp.ArgumentError, match=r"must be an nn\.Module, not a str"):
        sp.Probe("resnet18")


def test_former_names():
    """`output=` still picks, with a warning that names the new spelling; both at once are refused."""
    model, image = nn.Sequential(Pair()), torch.zeros(1, 1, 2, 2)
    with pytest.warns(DeprecationWarning, match="output= is renamed to pick="):
        sp.Probe(model, "0", output=lambda out: out[0])
    with pytest.warns(DeprecationWarning, match="output= is renamed to pick="):
        assert sp.capture(model, image, layers="0", output=lambda out: out[1])["0"].shape == (1, 1, 2, 2)
    with pytest.raises(sp.ArgumentError, match="output= is the former name of pick="):
        sp.Probe(model, "0", pick=lambda out: out[0], output=lambda out: out[0])


class Pair(nn.Module):
    """Returns two tensors."""

    def forward(self, x):
        return x, x
