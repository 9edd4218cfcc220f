"""Parameters that do not reach the output: no gradient arrives at them, and other values change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from spatialprobe.diagnosis.finding import NotApplicable
from spatialprobe.diagnosis.samples import Samples
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.inputs import copy_inputs

_SAMPLES = 2
_MOST = 64  # modules whose parameters are changed one by one

State = Mapping[str, torch.Tensor]


def find_unreached(subject: Subject) -> dict[str, int]:
    """Return the outermost modules of which no parameter reaches the output, and how many parameters each has.

    Raises:
        NotApplicable: the model has no parameters, or its output is in no graph.
    """
    samples = subject.samples.first(_SAMPLES)
    names = {name: one for name, one in subject.called.named_parameters() if one.is_floating_point()}
    if not names:
        raise NotApplicable("The model has no parameters.")
    with subject.running(gradients=True) as mode:
        left = _without_gradient(subject, samples, names)
        mode.reset()
        if left:
            left = _without_gradient_in_training(subject, samples, left)
            mode.reset()
        with torch.no_grad():
            left = _without_effect(subject, samples, left, mode.reset) if left else left
    return _outermost(subject, {id(one) for one in left.values()})


def _without_gradient(subject: Subject, samples: Samples, names: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return the parameters from which no path leads to the output."""
    state = {name: one.detach().requires_grad_() for name, one in names.items()}
    outputs = [one for one in _outputs(subject, samples, state) if one.requires_grad]
    if not outputs:
        raise NotApplicable("No gradient can be taken of the model's output.")
    ones = [torch.ones_like(one) for one in outputs]
    found = torch.autograd.grad(outputs, list(state.values()), ones, allow_unused=True)
    return {name: names[name] for name, gradient in zip(state, found, strict=True) if gradient is None}


def _without_gradient_in_training(
    subject: Subject, samples: Samples, left: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """Return those that do not reach the output in training mode either, as auxiliary heads do."""
    for module in subject.called.modules():
        if not module.training:
            module.training = True
    try:
        return _without_gradient(subject, samples, left)
    except Exception:  # many models need targets in training mode
        return dict(left)
    finally:
        for module in subject.called.modules():
            module.training = False


def _without_effect(
    subject: Subject, samples: Samples, left: Mapping[str, nn.Parameter], reset: Callable[[], None]
) -> dict[str, nn.Parameter]:
    """Return those that change nothing if they have other values, which no gradient tells of parts under `no_grad`.

    The state of the model and all random states are reset before each pass, so that only the values differ.
    """

    def outputs(state: State) -> list[torch.Tensor]:
        reset()
        return _outputs(subject, samples, state)

    before = outputs({})
    if not any(one.numel() for one in before):  # a detector that detected nothing
        return {}
    if _is_same(before, outputs(_changed(left))):
        return dict(left)
    found: dict[str, nn.Parameter] = {}
    for owned in _by_owner(left)[:_MOST]:
        if _is_same(before, outputs(_changed(owned))):
            found |= owned
    return found


def _by_owner(left: Mapping[str, nn.Parameter]) -> list[dict[str, nn.Parameter]]:
    owners: dict[str, dict[str, nn.Parameter]] = {}
    for name, one in left.items():
        owners.setdefault(name.rpartition(".")[0], {})[name] = one
    return list(owners.values())


def _changed(left: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Return other values for parameters: neither zero nor a multiple that a norm would undo."""
    return {
        name: one.detach() * -1.7
        + torch.linspace(0.3, 0.9, one.numel(), device=one.device, dtype=one.dtype).view_as(one)
        for name, one in left.items()
    }


def _is_same(before: Iterable[torch.Tensor], after: Iterable[torch.Tensor]) -> bool:
    pairs = zip(before, after, strict=False)
    return all(one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs)


def _outputs(subject: Subject, samples: Samples, state: State) -> list[torch.Tensor]:
    """Return the tensors of floating-point numbers that the model returns with other parameters."""
    inputs = copy_inputs(samples.inputs, subject.where)
    arguments: tuple[Any, ...] = (inputs,)
    keywords: dict[str, Any] = {}
    if subject.forward is None and isinstance(inputs, dict):
        arguments, keywords = (), inputs
    try:
        with torch.enable_grad() if state and torch.is_grad_enabled() else torch.no_grad():
            output = torch.func.functional_call(subject.called, dict(state), arguments, keywords)
    except RuntimeError as error:
        raise NotApplicable(f"The model does not run with other parameters in place of its own: {error}") from error
    return [one for one in tensors_of(output) if one.is_floating_point() or one.is_complex()]


def _outermost(subject: Subject, unreached: set[int]) -> dict[str, int]:
    """Return the outermost modules all of whose parameters are unreached, or that own such a parameter themselves."""
    found: dict[str, int] = {}
    for layer in subject.known:
        if any(not name or layer.name.startswith(f"{name}.") for name in found):
            continue
        inside = list(layer.module.parameters())
        own = [one for one in layer.module.parameters(recurse=False) if id(one) in unreached]
        if inside and all(id(one) in unreached for one in inside):
            found[layer.name] = sum(one.numel() for one in inside)
        elif own:
            found[layer.name] = sum(one.numel() for one in own)
    return found
