"""Identity: what changes a sweep's numbers is another sweep, and what does not is the same in any process."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import images, small_model
from torch import nn

import spatialprobe as sp
from spatialprobe.statistics.identity import describe, model_identity, settings_identity

SCALE = 1.0
quiet = functools.partial(sp.sweep, progress=False, batch_size=4)


def helper(value):
    return value * SCALE


class Scaled(nn.Module):
    """A model of a user's own, with attributes, a helper and a constant."""

    factor = 2.0

    def __init__(self):
        super().__init__()
        self.inner = small_model()
        self.options = {"bias": [0.0], "table": np.zeros(2), "shift": torch.zeros(2), "lock": None}
        self.post = helper

    def forward(self, x):
        return self.inner(self.post(x) * self.factor + self.options["bias"][0])


class Adds:
    def __init__(self, value):
        self.value = value

    def __call__(self, module, inputs, output):
        return output + self.value

    def as_method(self, module, inputs, output):
        return output + self.value


def hooked(hook, **options):
    model = Scaled()
    model.inner[0].register_forward_hook(hook, **options)
    return model


def closure(value):
    return lambda module, inputs, output: output + value


def default(value):
    return lambda module, inputs, output, value=value: output + value


def with_globals(source, **values):
    """The hook that some source defines, in a module of its own: there a loop's variable is a global."""
    module = types.ModuleType("notebook")
    vars(module).update(values)
    exec(source, vars(module))
    return module.hook


def of_global(value):
    return with_globals("def hook(module, inputs, output):\n    return output + channel", channel=value)


def of_helper(value):
    source = f"def shift(x):\n    return x + {value}\ndef hook(module, inputs, output):\n    return shift(output)"
    return with_globals(source)


def of_module(value):
    tools = types.ModuleType("tools")
    tools.__file__ = "/home/somebody/tools.py"
    exec(f"def shift(x):\n    return x + {value}", vars(tools))
    return with_globals("def hook(module, inputs, output):\n    return tools.shift(output)", tools=tools)


def written(forward, **members):
    """A model of a class that is written again, as in a notebook's cell."""
    body = {"__init__": Scaled.__init__, "__module__": "__main__", "__qualname__": "Net", "forward": forward, **members}
    body["__init__"] = lambda self: (nn.Module.__init__(self), setattr(self, "inner", small_model()))[0]
    return type("Net", (nn.Module,), body)()


def changed(**attributes):
    model = Scaled()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


HOOKS, ATTRIBUTES, CODE = (
    "the forward hooks or edits",
    "the attributes .* of modules",
    "the code of the model's classes",
)
# Pairs of models that give other numbers, and what the refusal says.
PAIRS = {
    "a hook": (Scaled, lambda: hooked(closure(1)), HOOKS),
    "a closure": (lambda: hooked(closure(1)), lambda: hooked(closure(2)), HOOKS),
    "a tensor in a closure": (
        lambda: hooked(closure(torch.zeros(()))),
        lambda: hooked(closure(torch.ones(()))),
        HOOKS,
    ),
    "a default": (lambda: hooked(default(1)), lambda: hooked(default(2)), HOOKS),
    "a loop's variable": (lambda: hooked(of_global(1)), lambda: hooked(of_global(2)), HOOKS),
    "a function that a hook calls": (lambda: hooked(of_helper(1)), lambda: hooked(of_helper(2)), HOOKS),
    "one of a module": (lambda: hooked(of_module(1)), lambda: hooked(of_module(2)), HOOKS),
    "an object": (lambda: hooked(Adds(1)), lambda: hooked(Adds(2)), HOOKS),
    "a method": (lambda: hooked(Adds(1).as_method), lambda: hooked(Adds(2).as_method), HOOKS),
    "a partial": (
        lambda: hooked(functools.partial(Adds.as_method, Adds(1))),
        lambda: hooked(functools.partial(Adds.as_method, Adds(2))),
        HOOKS,
    ),
    "order": (
        lambda: hooked(closure(1)),
        lambda: hooked(closure(1), prepend=True).apply(lambda module: None),
        None,  # one hook is first and last
    ),
    "an attribute": (Scaled, lambda: changed(factor=3.0), "the attributes 'factor' of modules"),
    "a list in one": (Scaled, lambda: changed(options={"bias": [1.0]}), "'options'"),
    "an array in one": (Scaled, lambda: changed(options={"bias": [0.0], "table": np.ones(2)}), "'options'"),
    "a function": (Scaled, lambda: changed(post=abs), "'post'"),
    "a function in place of forward": (
        Scaled,
        lambda: changed(forward=types.MethodType(lambda self, x: self.inner(x), Scaled())),
        "'forward'",
    ),
    "an object of one's own": (lambda: changed(adds=Adds(1)), lambda: changed(adds=Adds(2)), "'adds'"),
    "a module beside the model": (
        lambda: changed(beside=[small_model(0)]),
        lambda: changed(beside=[small_model(1)]),
        "'beside'",
    ),
    "the class": (
        lambda: written(lambda self, x: self.inner(x)),
        lambda: written(lambda self, x: self.inner(2 * x)),
        CODE,
    ),
    "a constant of the class": (
        lambda: written(lambda self, x: self.inner(self.k * x), k=1),
        lambda: written(lambda self, x: self.inner(self.k * x), k=2),
        CODE,
    ),
    "a method that forward calls": (
        lambda: written(lambda self, x: self.inner(self.pre(x)), pre=lambda self, x: x),
        lambda: written(lambda self, x: self.inner(self.pre(x)), pre=lambda self, x: -x),
        CODE,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_other_models(tmp_path, name):
    """A model that differs in this is another: its checkpoint and its store are refused, and the message says why."""
    one, other, message = PAIRS[name]
    quiet(one(), images(8), {"moments": sp.Moments}, checkpoint=tmp_path / "state")
    quiet(one(), images(8), {"moments": sp.Moments}, checkpoint=tmp_path / "state")  # made again, it is the same
    if message is None:
        assert model_identity(one()) == model_identity(other())
        return
    with pytest.raises(sp.StorageError, match=f"different are .*{message}"):
        quiet(other(), images(8), {"moments": sp.Moments}, checkpoint=tmp_path / "state")


def test_a_store_is_of_one_model(tmp_path):
    """A store knows its model as a checkpoint does."""
    pytest.importorskip("zarr")
    quiet(Scaled(), images(8), {}, store=tmp_path / "a.zarr")
    quiet(Scaled(), images(8), {}, store=tmp_path / "a.zarr")
    with pytest.raises(sp.StorageError, match="not known to be of this model"):
        quiet(hooked(closure(1)), images(8), {}, store=tmp_path / "a.zarr")


def test_a_global_that_the_model_uses(tmp_path, monkeypatch):
    """A constant of the user's module is part of the code that reads it."""
    before = model_identity(Scaled())
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    after = model_identity(Scaled())
    assert {part for part in before if before[part] != after[part]} == {"attributes", "code"}
    assert describe(images) == describe(images)


def test_methods_of_a_library_that_were_replaced(monkeypatch):
    """A convolution that computes something else is part of the code, also where the new method wears the old name."""
    model, original = small_model(), nn.Conv2d.forward
    found = [model_identity(model)]
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: original(self, x) + 1)
    found.append(model_identity(model))
    monkeypatch.setattr(nn.Conv2d, "forward", functools.wraps(original)(lambda self, x: original(self, x) + 2))
    found.append(model_identity(model))
    monkeypatch.setattr(nn.Module, "__call__", lambda self, x: x)
    found.append(model_identity(model))
    assert len({json.dumps(one["code"]) for one in found}) == 4
    assert [one | {"code": None} for one in found[1:]] == [found[0] | {"code": None}] * 3
    monkeypatch.undo()
    assert model_identity(model) == found[0]


def test_a_function_of_a_library_that_was_replaced(monkeypatch):
    """What a model takes from a module of a library is its name, unless it was put there."""

    def pads(x):
        return F.pad(x, (1, 1)) + F.relu(x)

    before = describe(pads)
    monkeypatch.setattr(F, "relu", lambda x: x)
    assert describe(pads) != before
    monkeypatch.undo()
    monkeypatch.setattr(F, "gelu", lambda x: x)  # which it does not use
    assert describe(pads) == before


def test_a_loop_over_ablations(tmp_path):
    """With one path the second ablation is refused; with a path each, every result is its own."""
    model, options = small_model(), {"layers": "3", "reducers": {"moments": sp.Moments}, "data": images(12)}

    def means(channel, **more):
        with sp.edited(model, {"0": sp.ablate([channel])}):
            return quiet(model, **options, **more)["3"]["moments"].mean

    expected = [means(channel) for channel in range(3)]
    assert not torch.equal(expected[0], expected[1])
    for channel in range(3):
        for _ in range(2):  # continued, the second time
            assert torch.equal(means(channel, checkpoint=tmp_path / f"{channel}"), expected[channel])
    for other in (
        lambda: means(1, checkpoint=tmp_path / "0"),
        lambda: quiet(model, **options, checkpoint=tmp_path / "0"),
    ):
        with pytest.raises(sp.StorageError, match=HOOKS):
            other()


EDITS = {
    "channels": (sp.ablate([0]), sp.ablate([1])),
    "value": (sp.ablate([0]), sp.ablate([0], value=2.0)),
    "replace": (sp.replace(torch.zeros(4, 4, 6, 6)), sp.replace(torch.ones(4, 4, 6, 6))),
    "function": (torch.relu, torch.sigmoid),
    "lambda": (lambda output: output + 1, lambda output: output + 2),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits(name):
    """Another edit is another model, the same edit the same; and it is none when the block has ended."""
    model = small_model()
    found = [model_identity(model)]
    for edit in EDITS[name]:
        for _ in range(2):
            with sp.edited(model, {"0": edit}):
                found.append(model_identity(model))
    assert found[1] == found[2] != found[3] == found[4]
    assert model_identity(model) == found[0] != found[1]
    assert {part for part in found[1] if found[1][part] != found[3][part]} == {"hooks"}


def test_hooks_on_every_module():
    """Torch's hooks for all modules count."""
    model = small_model()
    before = model_identity(model)
    handle = nn.modules.module.register_module_forward_hook(closure(1))
    try:
        assert model_identity(model)["hooks"] != before["hooks"]
    finally:
        handle.remove()
    assert model_identity(model) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (lambda: torch.autocast("cpu", torch.bfloat16), "autocast"),
        (lambda: Restored(torch.set_default_dtype, torch.get_default_dtype, torch.float64), "torch's default dtype"),
        (
            lambda: Restored(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision, "medium"),
            "the precision of matrix products",
        ),
    ],
    ids=["autocast", "dtype", "precision"],
)
def test_settings(tmp_path, setting, message):
    """Settings of torch's that change numbers are part of the sweep."""
    model, reducers = small_model(), {"moments": sp.Moments}
    options = {"data": images(8), "reducers": reducers, "checkpoint": tmp_path / "state"}
    quiet(model, **options)
    with setting(), pytest.raises(sp.StorageError, match=f"different are {message}"):
        quiet(model, **options)
    quiet(model, **options)


class Restored:
    """A block in which one of torch's settings is another."""

    def __init__(self, set_to, get, value):
        self.set_to, self.before, self.value = set_to, get(), value

    def __enter__(self):
        self.set_to(self.value)

    def __exit__(self, *_):
        self.set_to(self.before)


def test_autocast_to_another_dtype():
    """Which dtype autocast has counts; settings of other kinds of device do not."""
    with torch.autocast("cpu", torch.bfloat16):
        one = settings_identity(torch.device("cpu"))
    with torch.autocast("cpu", torch.float16):
        other = settings_identity(torch.device("cpu"))
    assert one != other
    assert settings_identity(torch.device("cuda"))["device"] == "cuda"


def test_stop_early(tmp_path):
    """It may change which runs of a layer are seen."""
    options = {"data": images(8), "reducers": {"moments": sp.Moments}, "checkpoint": tmp_path / "state"}
    quiet(small_model(), **options)
    with pytest.raises(sp.StorageError, match="stop_early="):
        quiet(small_model(), **options, stop_early=False)


def test_what_changes_nothing():
    """Probes, modes, gradients, copies, wrappers, handles and locks leave the identity as it is."""
    model = Scaled().eval()
    model.handle = model.inner[0].register_forward_hook(closure(1))
    model.options["lock"] = threading.Lock()
    before = model_identity(model)
    with sp.Probe(model), sp.Probe(model, at="post_activation", missing="ignore"):
        model(images(2))
        assert model_identity(model) == before
    model.train().requires_grad_(False)
    assert model_identity(model) == before
    quiet(model, images(4), {"moments": sp.Moments})
    assert model_identity(model) == before
    assert model_identity(nn.DataParallel(model)) == before
    assert model_identity(torch.compile(model)) == before
    plain = Scaled()
    assert model_identity(copy.deepcopy(plain)) == model_identity(plain) == model_identity(Scaled())
    assert model_identity(pickle.loads(pickle.dumps(plain))) == model_identity(plain)


def identities():
    """The identity of the first model of every pair, and of sets, whose order differs from process to process."""
    found = {name: model_identity(pair[0]()) for name, pair in PAIRS.items()}
    return found | {"set": describe({"a", "b", "c", ("d", frozenset("xyz"))})}


def test_the_same_in_any_process():
    """Neither the addresses of objects nor the order of sets get into it."""
    code = f"""
import importlib.util, json, sys
sys.path[:0] = {sys.path!r}
spec = importlib.util.spec_from_file_location({__name__!r}, {__file__!r})
module = sys.modules[{__name__!r}] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module.identities()))
"""
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found, expected = json.loads(child.stdout), json.loads(json.dumps(identities()))
    assert {name for name in expected if found[name] != expected[name]} == set()


@pytest.mark.parametrize("held", [lambda: (i for i in ()), socket.socket, lambda: open(os.devnull)])  # noqa: SIM115
def test_what_cannot_be_told_apart_is_refused(tmp_path, held):
    """An attribute or a hook that could be anything is an error that names it; without a checkpoint it is none."""
    with_attribute, with_hook, kept = changed(feed=held()), hooked(closure(0)), held()
    with_hook.inner[0].register_forward_pre_hook(lambda module, inputs: kept and None)
    for model, message in (
        (with_attribute, "Layer '', a Scaled: its attribute 'feed' holds"),
        (with_hook, "layer 'inner.0'"),
    ):
        with pytest.raises(sp.ArgumentError, match=message):
            quiet(model, images(4), {"moments": sp.Moments}, checkpoint=tmp_path / "state")
        assert quiet(model, images(4), {"moments": sp.Moments}).samples == 4
    for one in (with_attribute.feed, kept):
        one.close()


def test_cycles_and_shared_parts():
    """Objects that hold each other end, and many references to one cost nothing."""
    loop: list = [1]
    loop.append(loop)
    assert describe(loop) != describe([1, [1]])
    tree: object = "leaf"
    for _ in range(200):
        tree = (tree, tree)
    deep = [Adds(tree), Adds(tree)]
    assert describe(deep[0]) == describe(deep[1])
    deep[0].me = deep[0]
    assert describe(deep[0]) != describe(deep[1])


def test_long_arrays_of_text_are_told_apart():
    """Numpy writes long arrays with an ellipsis; they are compared whole."""
    one = np.array(["a"] * 3000)
    other = one.copy()
    other[1500] = "b"
    assert describe(one) != describe(other)


def test_scripted_and_quantized_parts():
    """A compiled layer is known by its graph and weights, a quantized tensor by its values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = [torch.jit.script(nn.MaxPool2d(size)) for size in (1, 2)]
        tensors = [torch.quantize_per_tensor(torch.tensor([value]), 0.1, 0, torch.qint8) for value in (1.0, 2.0)]
    assert model_identity(nn.Sequential(scripted[0])) == model_identity(nn.Sequential(scripted[0]))
    assert model_identity(nn.Sequential(scripted[0])) != model_identity(nn.Sequential(scripted[1]))
    one, other = tensors
    assert describe(one) == describe(one.clone()) != describe(other)
