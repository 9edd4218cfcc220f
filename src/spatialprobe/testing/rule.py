"""A receptive field held against gradients, element by element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from spatialprobe.arguments import as_ints, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.fields.taps import Bools
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import run_model
from spatialprobe.model.select import check_model
from spatialprobe.model.settings import enable_gradients

_MOST_UNITS = 4096
_DRAWS = 64  # random images at most: what one hides (behind a ReLU, or in a window of a max-pool), another shows


def check_rule(module: nn.Module, input_shape: Sequence[int]) -> None:
    """Hold the receptive field of a module's output against gradients, element by element.

    Every input pixel whose gradient is not zero, for any of some random inputs, must lie in the element's box; and
    where the field says that it is exact, the box must not be larger. The module runs in float64 and evaluation mode,
    and is as it was afterwards.

    Args:
        module: small, differentiable; it takes one tensor and returns one. For an operator of your own, a module whose
            forward calls it.
        input_shape: the whole shape, batch included, such as (1, 2, 7, 8); small, as each output element costs a
            backward pass.

    Raises:
        AssertionError: a box is wrong; the message shows the smallest input for which one is.
        ArgumentError: the output has too many elements to be checked.

    >>> import spatialprobe as sp
    >>> from spatialprobe.testing import check_rule
    >>> from torch import nn
    >>> check_rule(nn.Conv2d(2, 2, 3, stride=2, padding=1), (1, 2, 7, 8))
    """
    check_model(module)
    shape = as_ints(input_shape, "input_shape")
    if len(shape) < 3 or min(shape) < 1:
        raise ArgumentError(
            f"input_shape must be the whole shape, such as (1, 2, 7, 8), not {short_repr(input_shape)}."
        )
    with EvaluationMode(module, gradients=True) as mode:
        if _problem(mode, shape) is None:
            return
        for smaller in _smaller(shape):
            try:
                found = _problem(mode, smaller)
            except Exception:  # too small for the module
                continue
            if found is not None:
                raise AssertionError(found)


def _smaller(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All inputs that are no larger along any spatial axis, the smallest first, the given one last."""
    sizes = sorted(product(*(range(1, size + 1) for size in shape[2:])), key=lambda size: (prod(size), size))
    return ((*shape[:2], *size) for size in sizes)


class _InFloat64(nn.Module):
    """A module as it runs in float64, in which resizing may read other pixels than in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return the module's output."""
        return functional_call(self.module, _in_float64(self.module), (inputs,))


def _problem(mode: EvaluationMode, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the boxes of the first element for which something is; None if all are right."""
    double = _InFloat64(mode.model)
    field = receptive_fields(double, torch.empty(shape, dtype=torch.float64, device="meta"), layers=double)[""]
    seen, wrong = np.zeros(1, bool), None
    for draw in range(_DRAWS):
        seen = seen | _moving(double, shape, field.output_size, draw)
        mode.reset()
        wrong = _first_wrong(field, seen)
        if wrong is None or wrong.how == "too small":
            break
    return None if wrong is None else _message(field, shape, wrong)


def _moving(module: nn.Module, shape: tuple[int, ...], units: tuple[int, ...], draw: int) -> Bools:
    """Return which pixels have a gradient, (channels, *units, *pixels) bool, for one random image."""
    with enable_gradients():
        return _with_gradient(module, shape, units, draw)


def _with_gradient(module: nn.Module, shape: tuple[int, ...], units: tuple[int, ...], draw: int) -> Bools:
    generator = torch.Generator().manual_seed(draw)
    inputs = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu").requires_grad_()
    output = run_model(module, inputs)
    flat = output[0].reshape(-1)
    if len(flat) > _MOST_UNITS:
        raise ArgumentError(
            f"The output {tuple(output.shape)} has {len(flat)} elements to check, more than {_MOST_UNITS}: give a "
            "smaller input_shape or fewer channels."
        )
    rows = [
        torch.autograd.grad(one, inputs, retain_graph=True, materialize_grads=True)[0][0].any(dim=0).numpy()
        for one in flat
    ]
    return np.stack(rows).reshape(-1, *units, *shape[2:])


def _in_float64(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers that a graph may hold, also those that were made for inference."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    copies = ((name, value.detach().clone()) for name, value in tensors)
    return {name: value.double() if value.is_floating_point() else value for name, value in copies}


@dataclass(frozen=True)
class _Wrong:
    """An element whose box is not what the gradients show."""

    how: str  # "too small" or "too large"
    channel: int
    unit: tuple[int, ...]
    truth: tuple[int, ...]  # pixels, in the order of a Box


def _first_wrong(field: ReceptiveField, seen: Bools) -> _Wrong | None:
    """The first element whose box is too small; if there is none, the first whose box is too large."""
    found = None
    for channel in range(len(seen)):
        boxes = field.boxes(channel)
        for unit in np.ndindex(*field.output_size):
            wrong = _compared(seen[(channel, *unit)], tuple(boxes[unit]), exact=field.exact)
            if wrong is not None and (found is None or wrong[0] == "too small"):
                found = _Wrong(wrong[0], channel, unit, wrong[1])
                if found.how == "too small":
                    return found
    return found


def _compared(seen: Bools, box: tuple[int, ...], *, exact: bool) -> tuple[str, tuple[int, ...]] | None:
    """How the box of one element is wrong, and what the gradients show; None if it is right."""
    places = np.argwhere(seen)
    if not len(places):
        return None if not exact or not any(box) else ("too large", (0,) * len(box))
    truth = (*(int(lo) for lo in places.min(axis=0)), *(int(hi) + 1 for hi in places.max(axis=0)))
    axes = len(truth) // 2
    inside = all(box[axis] <= truth[axis] and truth[axes + axis] <= box[axes + axis] for axis in range(axes))
    if not inside:
        return "too small", truth
    return ("too large", truth) if exact and truth != box else None


def _message(field: ReceptiveField, shape: tuple[int, ...], wrong: _Wrong) -> str:
    box = tuple(int(bound) for bound in field.boxes(wrong.channel)[wrong.unit])
    says = "exact" if field.exact else f"an upper bound because of {', '.join(field.unknown) or 'what a mask may hide'}"
    return (
        f"The receptive field is {wrong.how}. On an input of shape {shape}, element (channel {wrong.channel}, unit "
        f"{wrong.unit}) of the output depends on the pixels {wrong.truth} by its gradient, starts first; the rule says "
        f"{box}, {says}."
    )
