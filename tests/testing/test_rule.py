"""Rules of one's own, and the check that holds them against gradients."""

from __future__ import annotations

import itertools
from operator import attrgetter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp
from spatialprobe.fields import rules
from spatialprobe.testing import check_rule

NUMBERS = itertools.count()


def operator(forward):
    """A new operator of one tensor, with a name that no other has, differentiable and with meta tensors."""
    name = f"spatialprobe_tests::op{next(NUMBERS)}"

    def run(x: torch.Tensor) -> torch.Tensor:
        return forward(x)

    made = torch.library.custom_op(name, run, mutates_args=())
    made.register_fake(lambda x: forward(x).contiguous())

    def backward(context, gradient):
        with torch.enable_grad():
            x = context.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(forward(x), x, gradient)[0]

    made.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
    return made


class Calls(nn.Module):
    """A module whose forward calls an operator."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made(x)


def blur(x):
    """Each row with its two neighbours."""
    return F.avg_pool2d(x, (3, 1), stride=1, padding=(1, 0))


def window(kernel, padding):
    """The rule of a sliding window over rows."""
    return lambda operation: operation.reach("x").tapped(
        2, rules.window(kernel=kernel, padding=padding), outputs=operation.shape[2]
    )


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=2, padding=2, padding_mode="reflect"), (1, 2, 7, 6)),
        (nn.ConvTranspose2d(2, 2, 3, stride=2), (1, 2, 4, 3)),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2)), (1, 2, 11)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 3, 4)),
        (nn.Upsample(scale_factor=0.99999, mode="linear", align_corners=True), (1, 1, 31)),  # other in float32
        (nn.Conv3d(1, 1, 2), (1, 1, 3, 3, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (1, 1, 3, 4)),
    ],
)
def test_shipped_rules_pass(module, shape):
    """The shipped rules hold for layers in one, two and three dimensions."""
    check_rule(module, shape)


def test_an_operator_without_a_rule_passes():
    """Unknown operators see everything and say so: an upper bound is never too small."""
    made = operator(blur)
    check_rule(Calls(made), (1, 1, 5, 3))
    field = sp.receptive_fields(Calls(made), (1, 1, 5, 3))[""]
    assert not field.exact
    assert len(field.unknown) == 1
    assert field.unknown[0].startswith("spatialprobe_tests::op")


@pytest.mark.parametrize("form", ["_qualname", "_opoverload", "_opoverload.overloadpacket"])
def test_a_right_rule_passes_and_makes_the_field_exact(form):
    """A rule of one's own is used, in any of the forms in which an operator is named."""
    made = operator(blur)
    rules.register(attrgetter(form)(made), window(3, 1))
    check_rule(Calls(made), (1, 2, 5, 3))
    field = sp.receptive_fields(Calls(made), (1, 2, 9, 9))[""]
    assert field.exact
    assert field.size == (3, 1)


def test_a_rule_counts_from_when_it_is_registered():
    """Also for an operator that a model ran before, without one."""
    model = Calls(operator(blur))
    assert not sp.receptive_fields(model, (1, 2, 9, 9))[""].exact
    rules.register(model.made._qualname, window(3, 1))
    assert sp.receptive_fields(model, (1, 2, 9, 9))[""].exact


@pytest.mark.parametrize(
    ("kernel", "padding", "message"),
    [
        (1, 0, r"too small\. On an input of shape \(1, 1, 2, 1\), element \(channel 0, unit \(0, 0\)\)"),
        (3, 0, r"too small"),  # shifted by a row
        (5, 2, r"too large\. On an input of shape \(1, 1, 3, 1\), element \(channel 0, unit \(0, 0\)\)"),
    ],
)
def test_a_wrong_rule_fails_with_the_smallest_input(kernel, padding, message):
    """The counterexample is the smallest input that shows it."""
    made = operator(blur)
    rules.register(made._qualname, window(kernel, padding))
    with pytest.raises(AssertionError, match=message):
        check_rule(Calls(made), (1, 1, 6, 4))


def test_a_rule_that_forgets_channels_fails():
    """Fields of channels differ: a rule that says one thing of all of them is too small for some."""
    made = operator(lambda x: x.flip(1))
    rules.register(made._qualname, lambda operation: operation.reach("x"))
    shifted = nn.Sequential(Rolls(), Calls(made))
    with pytest.raises(AssertionError, match=r"too small.*depends on the pixels"):
        check_rule(shifted, (1, 2, 3, 3))


class Rolls(nn.Module):
    """The second channel moves down by a row."""

    def forward(self, x):
        return torch.cat([x[:, :1], x[:, 1:].roll(1, 2)], 1)


def test_the_module_is_left_alone():
    """Training mode, weights and gradients are as they were, and the random state too."""
    module, state = nn.Conv2d(1, 1, 3).train(), torch.get_rng_state()
    before = module.weight.clone()
    check_rule(module, (1, 1, 5, 5))
    assert module.training
    assert module.weight.grad is None
    assert torch.equal(module.weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_too_many_elements():
    """A check that would take forever says so at once."""
    with pytest.raises(sp.ArgumentError, match="has 8192 elements to check, more than 4096"):
        check_rule(nn.Conv2d(1, 2, 1), (1, 1, 64, 64))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda operation: operation.reach("y"), "KeyError"),
        (lambda operation: None, "TypeError"),
        (lambda operation: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_a_mistake_in_a_rule_names_the_rule(rule, said):
    """What a rule raises, or returns in place of a reach, is told of the rule and not of the model."""
    made = operator(blur)
    rules.register(made._qualname, rule)
    with pytest.raises(sp.ArgumentError, match=f"The rule of '{made._qualname}' raised {said}"):
        sp.receptive_fields(Calls(made), (1, 1, 5, 3))


def test_a_second_rule_is_refused():
    """Neither one's own nor a shipped rule is hidden by a second one."""
    made = operator(blur)
    rules.register(made._qualname, window(3, 1))
    with pytest.raises(sp.ArgumentError, match="has a rule already: a second one would hide it"):
        rules.register(made._qualname, window(3, 1))
    with pytest.raises(sp.ArgumentError, match="'aten::relu' has a rule already, as all operators have"):
        rules.register("aten::relu", lambda operation: operation.reach("self"))
    with pytest.raises(sp.ArgumentError, match="'aten::convolution' has a rule already"):
        rules.register(torch.ops.aten.convolution, window(3, 1))


@pytest.mark.parametrize(("name", "rule"), [("blur", window(3, 1)), (3, window(3, 1)), ("a::b", 3)])
def test_what_is_no_operator_or_no_rule(name, rule):
    """Both are said at once, not when a model runs."""
    with pytest.raises(sp.ArgumentError, match=r"is not an operator|must be a function"):
        rules.register(name, rule)
