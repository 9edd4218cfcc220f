"""Layouts of a model that was followed before are those of following it again, whatever has changed in between."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from spatialprobe.fields import layout as module
from spatialprobe.fields import rules
from spatialprobe.fields.layout import layouts_of


class Turning(nn.Module):
    """A linear layer on maps, or on maps with the channels last, as an attribute, a buffer or a function says."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix, self.end = nn.Conv2d(3, 6, 3), nn.Identity(), nn.Identity()
        self.turns, self.settings = True, {"turns": [True]}
        self.register_buffer("order", torch.tensor([0, 2, 3, 1]))
        self.change = lambda x: x

    def forward(self, x):
        x = self.conv(x)
        if self.turns and self.settings["turns"][0]:
            x = x.permute(0, 2, 3, 1)
        return self.end(self.change(self.mix(x)))


class Straight(Turning):
    """The same layers, without a turn."""

    def forward(self, x):
        return self.end(self.mix(self.conv(x)))


def turn_back(x):
    return x.permute(0, 3, 1, 2)


def stop_turning(model):
    model.turns = False


def change_settings(model):
    model.settings["turns"][0] = False


def add_hook(model):
    model.mix.register_forward_hook(lambda module, args, output: turn_back(output))


def replace_class(model):
    model.__class__ = Straight


def replace_function(model):
    model.change = turn_back


def replace_layer(model):
    model.mix = nn.Sequential(nn.Identity(), nn.Identity())


def share_layer(model):
    model.end = model.mix


def replace_forward(model):
    model.mix.forward = turn_back


def replace_method(model, monkeypatch):
    monkeypatch.setattr(Turning, "forward", Straight.forward)


CHANGES = [stop_turning, change_settings, add_hook, replace_class, replace_function, replace_layer, share_layer]
IMAGE = torch.zeros(1, 3, 10, 12)


@pytest.fixture
def passes(monkeypatch):
    """The passes that are made."""
    made = []
    trace_fields = module.trace_fields
    monkeypatch.setattr(module, "trace_fields", lambda *args: made.append(1) or trace_fields(*args))
    return made


def ask(model, image=IMAGE):
    return layouts_of(model, image, [name for name, _ in model.named_modules()])


def test_a_model_is_followed_once(passes):
    """The same question is answered again without a pass, also after the weights were trained."""
    model = Turning()
    found = ask(model)
    assert found["end"] == ("channels_last",)
    first = len(passes)
    with torch.no_grad():
        model.conv.weight += 1
    model.train(not model.training)
    assert ask(model, IMAGE + 1) == found
    assert len(passes) == first


@pytest.mark.parametrize("change", [*CHANGES, replace_forward])
def test_a_changed_model_is_followed_again(change):
    """After a change of structure, attributes, hooks or functions the answer is that of a model never seen before."""
    model = Turning()
    before = ask(model)
    change(model)
    found = ask(model)
    assert found == ask(copy.deepcopy(model)) != before


def test_changed_code_is_followed_again(monkeypatch):
    """A method that is replaced in the class of the model changes the answer."""
    model = Turning()
    assert ask(model)["end"] == ("channels_last",)
    replace_method(model, monkeypatch)
    assert ask(model)["end"] == ("channels_first",)


def test_values_of_constants_count(passes):
    """Buffers and frozen weights may be masks: a change of their values is seen, however it is made."""
    model = Turning()
    model.conv.weight.requires_grad_(False)
    ask(model)
    for change in (lambda: model.order.data.add_(1), lambda: model.conv.weight.data.add_(1)):
        made = len(passes)
        ask(model)
        assert len(passes) == made
        change()
        ask(model)
        assert len(passes) > made


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 12, 10), IMAGE.double(), IMAGE.mT.contiguous().mT])
def test_another_form_of_the_input(image, passes):
    """The shape, the dtype and the strides of the input are part of the question."""
    model = Turning().to(image.dtype)
    ask(model, IMAGE.to(image.dtype))
    made = len(passes)
    if image.dtype == torch.float64:
        model.float()
        image = image.float()
    ask(model, image)
    assert len(passes) > made


def test_a_new_rule(passes):
    """A rule that was registered in the meantime counts."""
    model = Turning()
    ask(model)
    made = len(passes)
    rules.register("mine::unused_by_this_model", lambda operation: operation.reach("image"))
    ask(model)
    assert len(passes) > made


def test_answers_by_values_are_not_kept(passes):
    """A model that reads values of its input may take another way with the next one."""

    class Choosing(Turning):
        def forward(self, x):
            self.turns = bool(x.max() > 0)
            return super().forward(x)

    model = Choosing()
    ask(model)
    made = len(passes)
    ask(model, IMAGE + 1)
    assert len(passes) == 2 * made


def test_what_cannot_be_described_is_followed_each_time(passes):
    """A model that holds an object of unknown content is not answered from memory."""
    model = Turning()
    model.kept = (one for one in ())
    ask(model)
    made = len(passes)
    ask(model)
    assert len(passes) == 2 * made


def test_a_model_is_not_kept_alive():
    """What is kept of a model goes with it."""
    model = Turning()
    ask(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
