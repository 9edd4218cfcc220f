"""A check of receptive fields against gradients, element by element."""

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
_DRAWS = 64  # random images at most: dependencies hidden in one (by a ReLU or a max-pool) show in another


def check_rule(module: nn.Module, input_shape: Sequence[int]) -> None:
    """Check the receptive field of a module's output against gradients, element by element.

    Every input pixel whose gradient is not zero, for any of several random inputs, must lie in the element's box; and
    if the field is exact, the box must not be larger. The module runs in float64 and evaluation mode, and is restored
    afterwards.

    Args:
        module: a small differentiable module that takes one tensor and returns one. For an operator of your own, pass
            a module whose forward calls it.
        input_shape: the whole shape, batch included, such as (1, 2, 7, 8); small, since each output element costs a
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
        for smaller in _smaller_shapes(shape):
            try:
                found = _problem(mode, smaller)
            except Exception:  # too small for the module
                continue
            if found is not None:
                raise AssertionError(found)


def _smaller_shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all input shapes that are no larger along any spatial axis, from the smallest to `shape` itself."""
    sizes = sorted(product(*(range(1, size + 1) for size in shape[2:])), key=lambda size: (prod(size), size))
    return ((*shape[:2], *size) for size in sizes)


class _InFloat64(nn.Module):
    """A module that runs in float64, where resizing may read other pixels than in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return the module's output."""
        return functional_call(self.module, _copy_to_float64(self.module), (inputs,))


def _problem(mode: EvaluationMode, shape: tuple[int, ...]) -> str | None:
    """Return a description of the first element with a wrong box, None if all boxes are right."""
    double = _InFloat64(mode.model)
    field = receptive_fields(double, torch.empty(shape, dtype=torch.float64, device="meta"), layers=double)[""]
    seen, wrong = np.zeros(1, bool), None
    for draw in range(_DRAWS):
        seen = seen | _find_moving(double, shape, field.output_size, draw)
        mode.reset()
        wrong = _find_wrong(field, seen)
        if wrong is None or wrong.how == "too small":
            break
    return None if wrong is None else _describe(field, shape, wrong)


def _find_moving(module: nn.Module, shape: tuple[int, ...], units: tuple[int, ...], draw: int) -> Bools:
    """Return which pixels have a gradient, (channels, *units, *pixels) bool, for one random image."""
    with enable_gradients():
        return _compute_moving(module, shape, units, draw)


def _compute_moving(module: nn.Module, shape: tuple[int, ...], units: tuple[int, ...], draw: int) -> Bools:
    generator = torch.Generator().manual_seed(draw)
    inputs = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu").requires_grad_()
    output = run_model(module, inputs)
    flat = output[0].reshape(-1)
    if len(flat) > _MOST_UNITS:
        raise ArgumentError(
            f"The output {tuple(output.shape)} has {len(flat)} elements to check, more than {_MOST_UNITS}: pass a "
            "smaller input_shape or fewer channels."
        )
    rows = [
        torch.autograd.grad(one, inputs, retain_graph=True, materialize_grads=True)[0][0].any(dim=0).numpy()
        for one in flat
    ]
    return np.stack(rows).reshape(-1, *units, *shape[2:])


def _copy_to_float64(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of parameters and buffers in float64; autograd accepts them even if they are inference tensors."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    copies = ((name, value.detach().clone()) for name, value in tensors)
    return {name: value.double() if value.is_floating_point() else value for name, value in copies}


@dataclass(frozen=True)
class _Wrong:
    """An element whose box does not match the gradients."""

    how: str  # "too small" or "too large"
    channel: int
    unit: tuple[int, ...]
    truth: tuple[int, ...]  # the box of the gradients, in pixels, in the order of a Box


def _find_wrong(field: ReceptiveField, seen: Bools) -> _Wrong | None:
    """Return the first element whose box is too small, else the first whose box is too large, else None."""
    found = None
    for channel in range(len(seen)):
        boxes = field.boxes(channel)
        for unit in np.ndindex(*field.output_size):
            wrong = _compare(seen[(channel, *unit)], tuple(boxes[unit]), exact=field.exact)
            if wrong is not None and (found is None or wrong[0] == "too small"):
                found = _Wrong(wrong[0], channel, unit, wrong[1])
                if found.how == "too small":
                    return found
    return found


def _compare(seen: Bools, box: tuple[int, ...], *, exact: bool) -> tuple[str, tuple[int, ...]] | None:
    """Return how the box of one element is wrong, and the box of the gradients; None if it is right."""
    places = np.argwhere(seen)
    if not len(places):
        return None if not exact or not any(box) else ("too large", (0,) * len(box))
    truth = (*(int(lo) for lo in places.min(axis=0)), *(int(hi) + 1 for hi in places.max(axis=0)))
    axes = len(truth) // 2
    inside = all(box[axis] <= truth[axis] and truth[axes + axis] <= box[axes + axis] for axis in range(axes))
    if not inside:
        return "too small", truth
    return ("too large", truth) if exact and truth != box else None


def _describe(field: ReceptiveField, shape: tuple[int, ...], wrong: _Wrong) -> str:
    box = tuple(int(bound) for bound in field.boxes(wrong.channel)[wrong.unit])
    says = "exact" if field.exact else f"an upper bound because of {', '.join(field.unknown) or 'what a mask may hide'}"
    return (
        f"The receptive field is {wrong.how}. On an input of shape {shape}, element (channel {wrong.channel}, unit "
        f"{wrong.unit}) of the output depends on the pixels {wrong.truth} by its gradient, starts first; the rule says "
        f"{box}, {says}."
    )
