"""A receptive field held against gradients, element by element."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import numpy as np
import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.fields.taps import Bools
from spatialprobe.fields.trace import receptive_fields

_MOST_UNITS = 4096
_DRAWS = 4  # random inputs: what one hides (a ReLU that is off), another shows


def check_rule(module: nn.Module, input_shape: Sequence[int]) -> None:
    """Hold the receptive field of a module's output against gradients, element by element.

    Every input pixel whose gradient is not zero, for any of some random inputs, must lie in the element's box; and
    where the field says that it is exact, the box must not be larger. The module is copied, and runs in float64.

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
    shape = tuple(input_shape)
    twin = copy.deepcopy(module).double().eval()
    if _problem(twin, shape) is None:
        return
    for smaller in _smaller(shape):
        try:
            found = _problem(twin, smaller)
        except Exception:  # too small for the module
            continue
        if found is not None:
            raise AssertionError(found)


def _smaller(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All inputs that are no larger along any spatial axis, the smallest first, the given one last."""
    sizes = sorted(product(*(range(1, size + 1) for size in shape[2:])), key=lambda size: (prod(size), size))
    return ((*shape[:2], *size) for size in sizes)


def _problem(module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the boxes of the first element for which something is; None if all are right."""
    example = torch.zeros(shape, dtype=torch.float64)
    field = receptive_fields(module, example, layers=module)[""]
    units = field.output_size
    seen = _seen(module, shape, units)
    for channel in range(len(seen)):
        boxes = field.boxes(channel)
        for unit in np.ndindex(*units):
            wrong = _compared(seen[(channel, *unit)], tuple(boxes[unit]), exact=field.exact)
            if wrong is not None:
                return _message(field, shape, channel, unit, *wrong)
    return None


def _seen(module: nn.Module, shape: tuple[int, ...], units: tuple[int, ...]) -> Bools:
    """Which pixels have a gradient, (channels, *units, *pixels) bool, of the first image of the batch."""
    seen = np.zeros(0, bool)
    for draw in range(_DRAWS):
        inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(draw)).requires_grad_()
        output = module(inputs)
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
        here = np.stack(rows).reshape(-1, *units, *shape[2:])
        seen = seen | here if draw else here
    return seen


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


def _message(
    field: ReceptiveField, shape: tuple[int, ...], channel: int, unit: tuple[int, ...], how: str, truth: tuple[int, ...]
) -> str:
    box = tuple(int(bound) for bound in field.boxes(channel)[unit])
    says = "exact" if field.exact else f"an upper bound because of {', '.join(field.unknown) or 'what a mask may hide'}"
    return (
        f"The receptive field is {how}. On an input of shape {shape}, element (channel {channel}, unit {unit}) of the "
        f"output depends on the pixels {truth} by its gradient, starts first; the rule says {box}, {says}."
    )
